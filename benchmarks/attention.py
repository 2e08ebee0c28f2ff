"""Our Attention beside ONNX Runtime's GroupQueryAttention: time by tokens and depth, rate, and how far they differ.

    python benchmarks/attention.py 16 8 64 --prompt 512 2048      # heads, key heads, size of a head
    python benchmarks/attention.py 16 8 64 --decode 0 512 4096 --rows float16
    MOEDGE_ISA=avx2 python benchmarks/attention.py 32 4 128

Ours takes projections, rotates them and writes its cache; theirs does too, over float32 in buffers that are bound as
input and output. Several layers in one graph, so that a cache comes from memory as in a model. Work is 4 * heads * size
for each pair of a token and one that it sees. Medians, in turn, one after the other.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from moedge.runtime.kernels.library import open_library

REST = 0.1  # seconds between two engines: threads of the other may still spin
BYTES = {"float32": lambda d: 4 * d, "float16": lambda d: 2 * d, "int8": lambda d: -(-d // 4) * 4 + 4 * -(-d // 32)}


@dataclass(frozen=True)
class Shape:
    """A layer's attention, whole heads rotated, and how many such layers a graph has."""

    heads: int
    kv_heads: int
    dim: int
    window: int
    layers: int

    @property
    def width(self) -> int:
        """Columns of the joined projections."""
        return (self.heads + 2 * self.kv_heads) * self.dim


@dataclass(frozen=True)
class Engine:
    """One of the two: its session, and what holds a layer's keys, or values."""

    name: str
    session: onnxruntime.InferenceSession
    row: int  # numbers or bytes of a cache's row
    kind: type


def open_engine(ours: bool, shape: Shape, rows: str, threads: int) -> Engine:
    """A session of `layers` nodes, each with its own caches."""
    caches = [f"{part}{layer}" for layer in range(shape.layers) for part in ("key", "value")]
    told: dict[str, Any] = {"scale": shape.dim**-0.5}
    if ours:
        told |= {"heads": shape.heads, "kv_heads": shape.kv_heads, "dim": shape.dim, "rotary": shape.dim, "eps": 1e-6}
        told |= {"window": shape.window, "norm": "none", "clip": 0.0, "switch": 0, "activation_bits": 8, "layer": 0}
    else:
        told |= {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads, "do_rotary": 1}
        told |= {"local_window_size": shape.window or -1}
    nodes = []
    for layer in range(shape.layers):
        own = caches[2 * layer : 2 * layer + 2]
        names = ["qkv", *own, "segments"] if ours else ["qkv", "", "", *own, "last", "total"]
        kind, domain = ("Attention", "moedge") if ours else ("GroupQueryAttention", "com.microsoft")
        outs = [f"out{layer}", *(f"new_{name}" for name in own)]
        nodes.append(helper.make_node(kind, [*names, "cos", "sin"], outs, domain=domain, **told))
    stored = TensorProto.UINT8 if ours else TensorProto.FLOAT
    kinds = dict.fromkeys(("qkv", "cos", "sin"), TensorProto.FLOAT) | dict.fromkeys(caches, stored)
    kinds |= {"segments": TensorProto.INT64} if ours else dict.fromkeys(("last", "total"), TensorProto.INT32)
    given = [helper.make_tensor_value_info(name, of, None) for name, of in kinds.items()]
    made = [
        helper.make_tensor_value_info(name, stored if name.startswith("new") else TensorProto.FLOAT, None)
        for node in nodes
        for name in node.output
    ]
    graph = helper.make_graph(nodes, "attention", given, made)
    domains = [helper.make_opsetid(*each) for each in (("", 21), ("moedge", 1), ("com.microsoft", 1))]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.register_custom_ops_library(str(open_library().path))
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Engine(
        "moedge" if ours else "onnxruntime",
        session,
        BYTES[rows](shape.dim) if ours else shape.dim,
        np.uint8 if ours else np.float32,
    )


class Filled:
    """An engine's caches, filled up to a depth by itself, and a run of `tokens` more."""

    def __init__(self, engine: Engine, shape: Shape, depth: int, tokens: int) -> None:
        capacity = depth + tokens
        self._engine, self._shape, self._capacity = engine, shape, capacity
        sizes = 1, shape.kv_heads, capacity, engine.row
        self._caches = [np.zeros(sizes, engine.kind) for _ in range(2 * shape.layers)]
        angles = np.random.default_rng(0).random((capacity, shape.dim // 2), dtype=np.float32)
        self._tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
        rng = np.random.default_rng(1)
        for past in range(0, depth, 1024):
            self.bind(rng, past, min(1024, depth - past))()
        self.run = self.bind(rng, depth, tokens)

    def bind(self, rng: np.random.Generator, past: int, tokens: int) -> Callable[[], list[NDArray[np.float32]]]:
        """Runs so many tokens after `past` others, in memory that is there already, as in a model."""
        engine, shape = self._engine, self._shape
        ours = engine.kind is np.uint8
        qkv = rng.standard_normal((tokens, (shape.heads + 2 * shape.kv_heads) * shape.dim), dtype=np.float32)
        feeds: dict[str, NDArray[Any]] = {"qkv": qkv if ours else qkv[None], **self._tables}
        if ours:
            feeds["segments"] = np.array([[0, past, tokens]])
        else:
            feeds |= {"last": np.array([past + tokens - 1], np.int32), "total": np.array([past + tokens], np.int32)}
        binding = engine.session.io_binding()
        outs = []
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for layer in range(shape.layers):
            outs.append(np.zeros((tokens, shape.heads * shape.dim), np.float32))
            sizes = outs[-1].shape if ours else (1, *outs[-1].shape)
            binding.bind_output(f"out{layer}", "cpu", 0, np.float32, sizes, outs[-1].ctypes.data)
            for part, cache in zip(("key", "value"), self._caches[2 * layer :], strict=False):
                binding.bind_cpu_input(f"{part}{layer}", cache)
                binding.bind_output(f"new_{part}{layer}", "cpu", 0, engine.kind, cache.shape, cache.ctypes.data)

        def run() -> list[NDArray[np.float32]]:
            engine.session.run_with_iobinding(binding)
            return outs

        run.__dict__["kept"] = feeds  # bindings do not keep what they point to
        return run


def measure(engines: Sequence[Engine], shape: Shape, depth: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a layer of both in turn, and how far the results differ: root mean squares."""
    filled = [Filled(engine, shape, depth, tokens) for engine in engines]
    times: list[list[float]] = [[] for _ in engines]
    outs: list[list[NDArray[np.float32]]] = []
    for number in range(rounds + 1):
        outs = []
        for place, each in enumerate(filled):
            time.sleep(REST)
            each.run()
            repeats = 1 if tokens > 1 else 8
            begun = time.perf_counter()
            for _ in range(repeats):
                out = each.run()
            if number:
                times[place].append((time.perf_counter() - begun) / repeats / shape.layers * 1e3)
            outs.append(out)
    ours, theirs = (statistics.median(each) for each in times)
    seen = min(depth + tokens, shape.window or depth + tokens)
    pairs = sum(min(depth + i + 1, shape.window or depth + i + 1) for i in range(tokens))
    rms = [float(np.sqrt(np.mean(np.square(x)))) for x in (outs[0][0] - outs[1][0], outs[1][0])]
    return {
        "depth": depth,
        "tokens": tokens,
        "ms": ours,
        "least_ms": min(times[0]),
        "gflops": 4 * shape.heads * shape.dim * pairs / ours / 1e6,
        "gb_per_second": 2 * shape.kv_heads * seen * engines[0].row / ours / 1e6 if tokens == 1 else None,
        "onnxruntime_ms": theirs,
        "times_as_fast": theirs / ours,
        "differ": rms[0] / rms[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs=3, help="heads, key heads, size of a head")
    parser.add_argument("--prompt", type=int, nargs="*", default=[512, 2048])
    parser.add_argument("--decode", type=int, nargs="*", default=[0, 512, 4096])
    parser.add_argument("--rows", choices=[*BYTES], default="float16")
    parser.add_argument("--window", type=int, default=0)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    shape = Shape(*args.sizes, args.window, args.layers)
    engines = [open_engine(ours, shape, args.rows, args.threads) for ours in (True, False)]
    cases = [*((0, tokens) for tokens in args.prompt), *((depth, 1) for depth in args.decode)]
    rows = [measure(engines, shape, *case, args.rounds) for case in cases]
    isa = open_library().isa
    if args.json:
        print(json.dumps({"isa": isa, "threads": args.threads, "rows_of": args.rows, "rows": rows}, indent=1))
        return
    print(f"attention {args.sizes}, rows of {args.rows}, {isa}, {args.threads} threads")
    for row in rows:
        rate = f", {row['gb_per_second']:.1f} GB/s" if row["gb_per_second"] else ""
        print(
            f"{row['tokens']:5} tokens after {row['depth']}: {row['ms']:.4f} ms a layer ({row['least_ms']:.4f} least; "
            f"{row['gflops']:.0f} GFLOP/s{rate}), onnxruntime {row['onnxruntime_ms']:.4f}: {row['times_as_fast']:.2f} "
            f"x; differ by {row['differ']:.4f}"
        )


if __name__ == "__main__":
    main()
