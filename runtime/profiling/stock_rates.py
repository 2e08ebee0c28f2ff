"""How fast ONNX Runtime's own operators run here at the shapes of experts, and what an operator costs as such.

The `fused` plan computes with QMoE and MatMulNBits, the `if` plan with fp32 products.
"""

from dataclasses import dataclass

import numpy as np

from moedge.devices.profile import Profile
from moedge.runtime.profiling.drawn_weights import Drawing, Floats
from moedge.runtime.profiling.probe_graphs import (
    LayerShape,
    chain_graph,
    plain_product_graph,
    stock_experts_graph,
    stock_product_graph,
)
from moedge.runtime.profiling.probe_runs import Probe, open_probe
from moedge.runtime.profiling.timing import Measured, repeat

ROWS = (1, 256)
TINY = 100  # operators in the chain
SPREAD = 64  # experts that a prompt's tokens spread over


@dataclass(frozen=True)
class OperatorRate:
    """An operator with so many rows: MAC a second, and bytes of weights a second that are read once."""

    operator: str
    numbers: str  # "int4 weights, int8 activations"
    shape: str
    rows: int
    macs_per_s: Measured
    bytes_per_s: Measured
    macs_per_byte: float


@dataclass(frozen=True)
class StockRates:
    """All that was measured of ONNX Runtime."""

    operators: tuple[OperatorRate, ...]
    operator_s: Measured | None  # of one that computes next to nothing


@dataclass(frozen=True)
class _Work:
    """What a run with so many rows takes: products, bytes that are read once, inputs."""

    macs: int
    nbytes: int
    feeds: dict[str, Floats]


def measure_overhead(profile: Profile, seconds: float) -> Measured:
    """Seconds an operator, in a chain of tiny ones that are run as they stand."""
    probe = open_probe(chain_graph(TINY), profile, None, optimized=False)
    x = np.ones((1, 16), np.float32)
    return Measured.of([each / TINY for each in repeat(lambda: probe.seconds({"x": x})[0], seconds, least=8)])


def measure_products(profile: Profile, drawing: Drawing, memory_bytes: int, seconds: float) -> list[OperatorRate]:
    """MatMulNBits and MatMul over several matrices, as many as the memory holds."""
    hidden = LayerShape().hidden
    found = list[OperatorRate]()
    kinds = (
        ("MatMulNBits", "int4 weights, int8 activations", stock_product_graph, 0.625),
        ("MatMul", "fp32", plain_product_graph, 4.0),
    )
    for name, numbers, make, weight_bytes in kinds:
        one = round(hidden * hidden * weight_bytes)
        # onnxruntime keeps a second copy, in an order of its own
        count = max(2, min(64, memory_bytes // 2 // one))
        probe = open_probe(make(hidden, hidden, count, drawing), profile, None)
        for rows in ROWS:
            x = drawing.numbers((rows, hidden))
            work = _Work(count * rows * hidden * hidden, count * one, {"x": x})
            shape = f"{count} matrices of {hidden} × {hidden}"
            found.append(_measure(probe, name, numbers, shape, rows, [work], seconds / 4))
        del probe
    return found


def measure_experts(
    shape: LayerShape, profile: Profile, drawing: Drawing, memory_bytes: int, seconds: float
) -> list[OperatorRate]:
    """QMoE with as many experts as the memory holds; others are chosen in every run."""
    one = round(shape.expert_macs * 0.625)
    experts = max(2 * shape.top_k, min(256, memory_bytes // 2 // one))
    probe = open_probe(stock_experts_graph(shape, experts, drawing), profile, None)
    rng, found = np.random.default_rng(1), list[OperatorRate]()
    for rows in ROWS:
        macs = rows * shape.top_k * shape.expert_macs
        touched = shape.top_k if rows == 1 else min(SPREAD, experts)
        works = [_Work(macs, touched * one, _route(rows, shape.hidden, experts, drawing, rng)) for _ in range(12)]
        text = f"{experts} experts of {shape.hidden} × {shape.inter}, top {shape.top_k}"
        found.append(_measure(probe, "QMoE", "int4 weights, int8 activations", text, rows, works, seconds / 2))
    return found


def _route(rows: int, hidden: int, experts: int, drawing: Drawing, rng: np.random.Generator) -> dict[str, Floats]:
    """Activations, and scores by which one row takes any experts, and several spread over SPREAD of them."""
    select = rng.standard_normal((rows, experts), np.float32)
    if rows > 1 and experts > SPREAD:
        start = int(rng.integers(0, experts - SPREAD))
        select[:, start : start + SPREAD] += 100
    return {"x": drawing.numbers((rows, hidden)), "select": select}


def _measure(
    probe: Probe, name: str, numbers: str, shape: str, rows: int, works: list[_Work], seconds: float
) -> OperatorRate:
    at = 0

    def run() -> float:
        nonlocal at
        at = (at + 1) % len(works)
        return probe.seconds(works[at].feeds)[0]

    taken, work = repeat(run, seconds, least=3), works[0]
    macs, read = ([total / each for each in taken] for total in (work.macs, work.nbytes))
    return OperatorRate(name, numbers, shape, rows, Measured.of(macs), Measured.of(read), work.macs / work.nbytes)
