"""Runs the operators in onnxruntime, here and as an emulated ARM CPU, and compares every bit of what comes out.

    .venv/bin/python tests/kernels/emulate.py ROOT CPU

ROOT is an arm64 system for `qemu-aarch64-static -L` with Python 3.11, and onnxruntime and numpy for it in ROOT/site;
its /proc/cpuinfo and /sys must describe the CPU, or onnxruntime reads those of this machine. No test calls this.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

# Attributes of a format, and the bytes of a scale, of a block's zero points and of a subblock's codes.
FORMATS = {
    "int4": ({"bits": 4, "block": 32, "zero_point": 1, "scales": "float16", "numbers": "integers"}, 2, 8, 256),
    "int5": ({"bits": 5, "block": 32, "zero_point": 1, "scales": "float16", "numbers": "integers"}, 2, 16, 320),
    "int6": ({"bits": 6, "block": 64, "zero_point": 0, "scales": "float16", "numbers": "integers"}, 2, 0, 384),
    "int8": ({"bits": 8, "block": 128, "zero_point": 0, "scales": "float16", "numbers": "integers"}, 2, 0, 512),
    "mxfp4": ({"bits": 4, "block": 32, "zero_point": 0, "scales": "float8e8m0", "numbers": "floats"}, 1, 0, 256),
}
HIDDEN, INNER, EXPERTS, CHOSEN, WIDTH = 384, 256, 8, 2, 1000
TOKENS = (1, 7, 40)


def make_tiles(rng, name, count, columns):
    """Tile rows [count, bytes] with random codes and usual scales."""
    attributes, width, zeros, codes = FORMATS[name]
    blocks = columns // attributes["block"]
    length = -(-blocks * (16 * width + zeros) // 64) * 64 + columns // 32 * codes
    tiles = rng.integers(0, 256, (count, length), dtype=np.uint8)
    shape = (count, blocks * 16)
    if width == 1:
        tiles[:, : shape[1]] = rng.integers(115, 121, shape)
    else:
        tiles[:, : 2 * shape[1]] = rng.uniform(-0.01, 0.01, shape).astype(np.float16).view(np.uint8)
    return tiles


def write_models(folder):
    """One model a format, whose Linear and Experts both read x [tokens, HIDDEN], one of the rest, inputs for all."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(1)
    for name, (form, *_) in FORMATS.items():
        tiles = {
            "tiles": make_tiles(rng, name, -(-WIDTH // 16), HIDDEN),
            "first": make_tiles(rng, name, EXPERTS * INNER // 8, HIDDEN).reshape(EXPERTS, INNER // 8, -1),
            "second": make_tiles(rng, name, EXPERTS * HIDDEN // 16, INNER).reshape(EXPERTS, HIDDEN // 16, -1),
        }
        dense = {"rows": WIDTH, "columns": HIDDEN, "activation_bits": 8, "activation": "none"}
        sizes = {"k": CHOSEN, "hidden": HIDDEN, "inter": INNER, "layer": 0}
        how = {"activation": "swiglu", "alpha": 1.702, "beta": 1.0, "limit": 7.0, "routing_scale": 1.0}
        both = {"domain": "moedge", "layout": 1, **form}
        nodes = [
            helper.make_node("Linear", ["x", "tiles"], ["dense"], **dense, **both),
            helper.make_node("Experts", ["x", "select", "", "first", "second"], ["routed"], **sizes, **how, **both),
        ]
        values = {"x": HIDDEN, "select": EXPERTS, "dense": WIDTH, "routed": HIDDEN}
        told = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["tokens", size]) for n, size in values.items()]
        weights = [numpy_helper.from_array(array, key) for key, array in tiles.items()]
        graph = helper.make_graph(nodes, name, told[:2], told[2:], weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("moedge", 1)]
        save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / f"{name}.onnx")
    write_exact(folder, rng)
    for tokens in TOKENS:
        np.save(folder / f"x.{tokens}.npy", rng.standard_normal((tokens, HIDDEN), dtype=np.float32))
        np.save(folder / f"select.{tokens}.npy", rng.standard_normal((tokens, EXPERTS), dtype=np.float32))


def write_exact(folder, rng):
    """A model of what no scheme rounds: a Router that does all that one can, and an AddNorm of x and x."""
    from onnx import TensorProto, helper, numpy_helper, save

    how = {"domain": "moedge", "experts": EXPERTS, "hidden": HIDDEN, "k": CHOSEN, "scoring": "sigmoid", "normalize": 1}
    how |= {"eps": 1e-20, "least_sum": 0.0, "jitter": 0.0, "groups": 4, "open_groups": 2, "group_best": 2}
    nodes = [
        helper.make_node("Router", ["x", "router", "bias", "correction"], ["scores", "shares"], **how),
        helper.make_node("AddNorm", ["x", "x", "norm"], ["normed", "sum"], domain="moedge", eps=1e-6),
    ]
    weights = {"router": (EXPERTS, HIDDEN), "bias": (EXPERTS,), "correction": (EXPERTS,), "norm": (HIDDEN,)}
    values = [numpy_helper.from_array(rng.standard_normal(of, dtype=np.float32) / 9, n) for n, of in weights.items()]
    widths = {"x": HIDDEN, "scores": EXPERTS, "shares": EXPERTS, "normed": HIDDEN, "sum": HIDDEN}
    told = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["tokens", size]) for n, size in widths.items()]
    graph = helper.make_graph(nodes, "exact", told[:1], told[1:], values)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("moedge", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "exact.onnx")


def run_models(folder, library, results):
    """What all models give for all inputs on one thread and on three, into the file `results`."""
    functions = ctypes.CDLL(str(library))
    functions.moedge_isa.restype = functions.moedge_self_check.restype = ctypes.c_char_p
    isa, fault = functions.moedge_isa().decode(), functions.moedge_self_check()
    version, machine = onnxruntime.__version__, os.uname().machine
    print(f"onnxruntime {version} on {machine}: {isa}, self-check: {fault or 'clean'}", flush=True)
    found = {}
    for name in (*FORMATS, "exact"):
        for threads in (1, 3):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.register_custom_ops_library(str(library))
            session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, ["CPUExecutionProvider"])
            for tokens in TOKENS:
                names = [value.name for value in session.get_inputs()]
                inputs = {key: np.load(folder / f"{key}.{tokens}.npy") for key in names}
                keys = [value.name for value in session.get_outputs()]
                for key, array in zip(keys, session.run(None, inputs), strict=True):
                    found[f"{name} {key} {tokens} tokens {threads} threads"] = array
    np.savez(results, **found)


def main(words):
    """Compare this machine with a CPU; 1 if a bit differs."""
    if words[0] == "run":
        run_models(*map(Path, words[1:]))
        return 0
    from moedge.runtime.kernels.build import compile_library, find_compiler

    root, cpu = Path(words[0]).resolve(), words[1]
    with TemporaryDirectory() as made:
        folder = Path(made)
        write_models(folder)
        emulator = ["qemu-aarch64-static", "-cpu", cpu, "-L", str(root), str(root / "usr/bin/python3.11")]
        machines = {"here": ({}, [sys.executable]), cpu: ({"CXX": "aarch64-linux-gnu-g++"}, emulator)}
        results = []
        for machine, (environ, python) in machines.items():
            library = folder / f"{machine}.so"
            compile_library(library, find_compiler(os.environ | environ))
            path = {"PYTHONPATH": str(root / "site")} if environ else {}
            command = [*python, __file__, "run", folder, library, folder / f"{machine}.npz"]
            subprocess.run(command, env=os.environ | path, check=True)
            results.append(np.load(folder / f"{machine}.npz"))
        here, there = results
        # what a router closes is minus infinity
        assert all((np.isfinite(here[key]).all() or "scores" in key) and here[key].any() for key in here)
        other = [key for key in here if here[key].tobytes() != there[key].tobytes()]
        print(f"{len(here.files)} results, {len(other)} with other bits as {cpu} than here", *other, sep="\n")
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
