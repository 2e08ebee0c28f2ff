"""One operator of ours beside ONNX Runtime's on the same codes: time by tokens, rate, and how far the results differ.

    python benchmarks/kernels.py experts 1024 512 32 8      # hidden, inner, experts, active: Experts against QMoE
    python benchmarks/kernels.py linear 2048 2048           # rows, columns: Linear against MatMulNBits
    MOEDGE_ISA=avx2 python benchmarks/kernels.py experts 1024 512 32 8

Several layers in one graph, so that weights come from memory as in a model. Scores of experts are drawn anew for each
run. Prints a table for people; `--json` for machines. Medians, engines in turn, one after the other.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from moedge.quant.blocks import Codes, pack
from moedge.quant.scheme import Scheme, parse_scheme
from moedge.quant.tiles import tile, tile_pairs
from moedge.runtime.kernels.library import open_library

LEAST_BYTES = 48 << 20  # of weights in a graph: more than a cache holds
REST = 0.1  # seconds between two engines: threads of the other may still spin
MOEDGE, MICROSOFT = "moedge", "com.microsoft"


@dataclass
class Weights:
    """A file of external data, and the values over it."""

    path: Path

    def __post_init__(self) -> None:
        self.path.write_bytes(b"")

    def value(self, name: str, array: NDArray[Any]) -> ir.Value:
        """The array at the end of the file, as an initializer."""
        with self.path.open("ab") as file:
            file.write(b"\0" * (-file.tell() % 4096))
            at = file.tell()
            file.write(np.ascontiguousarray(array).tobytes())
        dtype = ir.DataType.from_numpy(array.dtype)
        tensor = ir.ExternalTensor(
            self.path.name, at, array.nbytes, dtype, shape=ir.Shape(array.shape), name=name, base_dir=self.path.parent
        )
        return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(dtype), const_value=tensor)


def random_codes(rng: np.random.Generator, rows: int, columns: int, scheme: Scheme) -> Codes:
    """A matrix of random codes around its zero points."""
    packed = rng.integers(0, 256, (rows, columns * scheme.bits // 8), dtype=np.uint8)
    scales = (rng.random((rows, columns // scheme.block)) * 0.01 + 0.005).astype(np.float16).astype(np.float32)
    middle = 1 << (scheme.bits - 1)
    zeros = rng.integers(middle - 2, middle + 2, scales.shape).astype(np.uint8) if scheme.zero_point else None
    return Codes(packed, scales, None if zeros is None else pack(zeros, scheme.bits), scheme.bits, scheme.block)


def tell(scheme: Scheme) -> dict[str, Any]:
    """The attributes that tell a scheme to ours."""
    told = {"bits": scheme.bits, "block": scheme.block, "zero_point": int(scheme.zero_point), "layout": 1}
    return told | {"scales": "float16", "numbers": "integers"}


def stack(parts: Sequence[Codes]) -> list[NDArray[Any] | None]:
    """Codes, scales and zero points of several matrices."""
    zeros = [part.zero_points for part in parts if part.zero_points is not None]
    return [
        np.stack([part.codes for part in parts]),
        np.stack([part.scales for part in parts]),
        np.stack(zeros) if zeros else None,
    ]


@dataclass(frozen=True)
class Case:
    """What is compared: how a layer is made for both, what it reads, and its work for so many tokens."""

    inputs: dict[str, int]  # name to width
    width: int  # of outputs
    operations: int  # a token and layer
    nbytes: int  # of ours that a token reads in a layer

    def feeds(self, rng: np.random.Generator, tokens: int) -> dict[str, NDArray[np.float32]]:
        """Values of the inputs."""
        return {name: rng.standard_normal((tokens, width)).astype(np.float32) for name, width in self.inputs.items()}


def build_experts(folder: Path, sizes: Sequence[int], scheme: Scheme) -> tuple[Case, list[Path]]:
    """Layers of experts as both operators."""
    hidden, inner, count, active = sizes
    rng, kept, held = np.random.default_rng(0), scheme.with_scales("float16"), [Weights(folder / n) for n in "ab"]
    nodes: list[list[ir.Node]] = [[], []]
    inits: list[list[ir.Value]] = [[], []]
    given: list[list[ir.Value]] = [[ir.Value(name="x")] for _ in held]
    inputs, layer, total = {"x": hidden}, 0, 0
    while total < LEAST_BYTES or layer < 2:
        inputs[f"scores{layer}"] = count
        for values in given:
            values.append(ir.Value(name=f"scores{layer}"))
        first, second = (
            [random_codes(rng, *shape, kept) for _ in range(count)] for shape in ((2 * inner, hidden), (hidden, inner))
        )
        tiles = np.stack([tile_pairs(e, kept) for e in first]), np.stack([tile(e, kept) for e in second])
        total += sum(array.nbytes for array in tiles)
        ours = [held[0].value(f"{n}{layer}", array) for n, array in zip("wv", tiles, strict=True)]
        gate = {"activation": "swiglu", "alpha": 1.0, "beta": 0.0, "limit": 0.0, "routing_scale": 1.0, "layer": layer}
        told = tell(scheme) | gate | {"k": active, "hidden": hidden, "inter": inner}
        nodes[0].append(_node(MOEDGE, "Experts", [given[0][0], given[0][-1], None, *ours], told, f"out{layer}"))
        theirs = [
            None if array is None else held[1].value(f"{n}{layer}", array)
            for n, array in zip("abcdef", [*stack(first), *stack(second)], strict=True)
        ]
        read = [given[1][0], given[1][-1], *theirs[:2], None, *theirs[3:5], *[None] * 4, theirs[2], theirs[5]]
        told = {"k": active, "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0}
        told |= {"activation_beta": 0.0, "expert_weight_bits": scheme.bits, "block_size": scheme.block}
        told |= {"normalize_routing_weights": 1, "accuracy_level": 4}
        nodes[1].append(_node(MICROSOFT, "QMoE", read, told, f"out{layer}"))
        for place, values in enumerate((ours, theirs)):
            inits[place] += [value for value in values if value is not None]
        layer += 1
    files = [_save(folder, *each) for each in zip("ab", nodes, inits, given, strict=True)]
    return Case(inputs, hidden, active * 6 * hidden * inner, active * total // layer // count), files


def build_linear(folder: Path, sizes: Sequence[int], scheme: Scheme) -> tuple[Case, list[Path]]:
    """Products as both operators."""
    rows, columns = sizes
    rng, kept, held = np.random.default_rng(0), scheme.with_scales("float16"), [Weights(folder / n) for n in "ab"]
    nodes: list[list[ir.Node]] = [[], []]
    inits: list[list[ir.Value]] = [[], []]
    given = [[ir.Value(name="x")] for _ in held]
    layer, total = 0, 0
    while total < LEAST_BYTES or layer < 2:
        codes = random_codes(rng, rows, columns, kept)
        tiles = tile(codes, kept)
        total += tiles.nbytes
        inits[0].append(held[0].value(f"w{layer}", tiles))
        told = tell(scheme) | {"rows": rows, "columns": columns, "activation_bits": 8, "activation": "none"}
        nodes[0].append(_node(MOEDGE, "Linear", [*given[0], inits[0][-1]], told, f"out{layer}"))
        blocks = codes.codes.reshape(rows, columns // scheme.block, -1)
        theirs = [
            None if array is None else held[1].value(f"{n}{layer}", array)
            for n, array in zip("abc", (blocks, codes.scales, codes.zero_points), strict=True)
        ]
        told = {"N": rows, "K": columns, "bits": scheme.bits, "block_size": scheme.block, "accuracy_level": 4}
        nodes[1].append(_node(MICROSOFT, "MatMulNBits", [*given[1], *theirs], told, f"out{layer}"))
        inits[1] += [value for value in theirs if value is not None]
        layer += 1
    files = [_save(folder, *each) for each in zip("ab", nodes, inits, given, strict=True)]
    return Case({"x": columns}, rows, 2 * rows * columns, total // layer), files


def _node(domain: str, kind: str, inputs: Sequence[ir.Value | None], told: dict[str, Any], out: str) -> ir.Node:
    while inputs[-1] is None:
        inputs = inputs[:-1]
    kinds = {int: ir.AttributeType.INT, float: ir.AttributeType.FLOAT, str: ir.AttributeType.STRING}
    made = [ir.Attr(name, kinds[type(value)], value) for name, value in told.items()]
    return ir.Node(domain, kind, inputs, made, outputs=[ir.Value(name=out)], name=out)


def _save(
    folder: Path, name: str, nodes: Sequence[ir.Node], initializers: Sequence[ir.Value], inputs: Sequence[Any]
) -> Path:
    kind = ir.TensorType(ir.DataType.FLOAT)
    outputs = [node.outputs[0] for node in nodes]
    for value in (*inputs, *outputs):
        value.type, value.shape = kind, ir.Shape([None, None])
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=initializers, name=name)
    graph.opset_imports.update({"": 21, MOEDGE: 1, MICROSOFT: 1})
    ir.save(ir.Model(graph, ir_version=10), folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def open_graph(path: Path, threads: int, spin: bool) -> tuple[onnxruntime.InferenceSession, float]:
    """The session, and the seconds until it was there."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.register_custom_ops_library(str(open_library().path))
    begun = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, time.perf_counter() - begun


def bind(
    session: onnxruntime.InferenceSession, feed: dict[str, NDArray[np.float32]], outs: Sequence[NDArray[np.float32]]
) -> onnxruntime.IOBinding:
    """A run's inputs and outputs in memory that is there already, as in a model."""
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for node, array in zip(session.get_outputs(), outs, strict=True):
        binding.bind_output(node.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    return binding


def measure(case: Case, sessions: Sequence[onnxruntime.InferenceSession], tokens: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a layer of both, and the largest difference over the largest value."""
    rng, layers = np.random.default_rng(tokens), len(sessions[0].get_outputs())
    times: list[list[float]] = [[], []]
    held = [[np.empty((tokens, case.width), np.float32) for _ in range(layers)] for _ in sessions]
    for number in range(rounds + 1):
        feeds = [case.feeds(rng, tokens) for _ in range(16 if tokens < 64 else 2)]
        for place, session in enumerate(sessions):
            bindings = [bind(session, feed, held[place]) for feed in feeds]
            time.sleep(REST)
            session.run_with_iobinding(bindings[0])  # what the other has left in caches is no part of it
            begun = time.perf_counter()
            for binding in bindings:
                session.run_with_iobinding(binding)
            if number:
                times[place].append((time.perf_counter() - begun) / len(feeds) / layers * 1e3)
    differ = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(*held, strict=True))
    ours, theirs = (statistics.median(each) for each in times)
    return {
        "tokens": tokens,
        "ms": ours,
        "least_ms": min(times[0]),
        "gflops": tokens * case.operations / ours / 1e6,
        "gb_per_second": case.nbytes / ours / 1e6 if tokens == 1 else None,
        "onnxruntime_ms": theirs,
        "times_as_fast": theirs / ours,
        "differ": differ,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operator", choices=["experts", "linear"])
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--scheme", default="int4-block32-zp")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 4, 16, 128, 512])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-spinning", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    build = build_experts if args.operator == "experts" else build_linear
    with tempfile.TemporaryDirectory() as name:
        case, files = build(Path(name), args.sizes, parse_scheme(args.scheme))
        opened = [open_graph(path, args.threads, not args.no_spinning) for path in files]
        rows = [measure(case, [s for s, _ in opened], tokens, args.rounds) for tokens in args.tokens]
    isa, loads = open_library().isa, [seconds for _, seconds in opened]
    if args.json:
        print(json.dumps({"isa": isa, "scheme": args.scheme, "load_seconds": loads, "rows": rows}, indent=1))
        return
    print(f"{args.operator} {args.sizes}, {args.scheme}, {isa}, {args.threads} threads; load {loads[0]:.2f} s, "
          f"onnxruntime's {loads[1]:.2f} s")  # fmt: skip
    for row in rows:
        rate = f", {row['gb_per_second']:.1f} GB/s" if row["gb_per_second"] else ""
        print(
            f"{row['tokens']:5} tokens: {row['ms']:8.3f} ms a layer ({row['least_ms']:.3f} least; {row['gflops']:.0f} "
            f"GFLOP/s{rate}), onnxruntime {row['onnxruntime_ms']:.3f}: {row['times_as_fast']:.2f} x; differ by "
            f"{row['differ']:.4f}"
        )


if __name__ == "__main__":
    main()
