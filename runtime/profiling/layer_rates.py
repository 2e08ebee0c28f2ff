"""How fast layers of quantized weights run here: what a token reads, a prompt's products, what a layer takes beside.

The numbers mean what devices/forecast.py adds up: a prompt's products without the reading of its weights, a layer's
small operators without the bytes that it reads.
"""

import statistics
import time
from dataclasses import dataclass

import numpy as np

from moedge.runtime.kernels.library import Library
from moedge.runtime.profiling.drawn_weights import Drawing
from moedge.runtime.profiling.probe_runs import LayersProbe
from moedge.runtime.profiling.timing import Measured, repeat
from moedge.runtime.sampling import Sampler, SamplingParams

AT = 8  # tokens before the one that is run
STEPS = 7  # of one token, whose median counts
VOCABULARY = 128_000
MOST_TIMES = 2  # what is read without layers' other operators, by what is read with them
LEAST_LAYER = 1e-6  # seconds
USUAL = SamplingParams(temperature=0.7, top_k=40, top_p=0.95)


@dataclass(frozen=True)
class LayerRates:
    """Bytes and MAC a second, seconds a layer; and what the wide layers took, of which they are computed."""

    weights: Measured
    prompt: Measured
    layer: Measured
    step_seconds: Measured  # of one token through all wide layers
    step_bytes: int
    step_macs: int
    chunk_seconds: Measured
    chunk: int  # tokens
    chunk_bytes: int  # that they read together


def step_bytes(probe: LayersProbe) -> int:
    """Of weights that one token reads."""
    shape = probe.shape
    return probe.count * (shape.dense_bytes + shape.top_k * shape.expert_bytes)


def step_macs(probe: LayersProbe) -> int:
    """Products with one token."""
    shape = probe.shape
    return probe.count * (shape.dense_macs + shape.top_k * shape.expert_macs)


def measure_layers(wide: LayersProbe, thin: LayersProbe, chunk: int, seconds: float) -> LayerRates:
    """By steps of one token of both, in turn, and prompts of the wide ones."""
    taken = list[tuple[float, float]]()

    def both() -> float:
        slow, fast = (statistics.median(probe.seconds(1, AT)[0] for _ in range(STEPS)) for probe in (wide, thin))
        taken.append((slow, fast))
        return slow

    repeat(both, 0.45 * seconds, least=5)
    solved = [solve(wide, thin, *pair) for pair in taken[1:]]
    weights, layer = (Measured.of([pair[at] for pair in solved]) for at in (0, 1))
    prompts = repeat(lambda: wide.seconds(chunk)[0], 0.55 * seconds, least=3)
    shape = wide.shape
    read = wide.count * (shape.dense_bytes + shape.experts * shape.expert_bytes)  # every expert is some token's
    reading = read / weights.median + wide.count * layer.median
    products = [chunk * step_macs(wide) / max(each - reading, each / 4) for each in prompts]
    steps = Measured.of([slow for slow, _ in taken[1:]])
    return LayerRates(
        weights,
        Measured.of(products),
        layer,
        steps,
        step_bytes(wide),
        step_macs(wide),
        Measured.of(prompts),
        chunk,
        read,
    )


def solve(wide: LayersProbe, thin: LayersProbe, slow: float, fast: float) -> tuple[float, float]:
    """Bytes a second and seconds a layer, from seconds of both: each is bytes / rate + layers · seconds."""
    ratio, raw = thin.count / wide.count, step_bytes(wide) / slow
    more, longer = ratio * step_bytes(wide) - step_bytes(thin), ratio * slow - fast
    # noise makes no layer take less than nothing, and none take all of the time
    rate = max(raw, min(more / longer, MOST_TIMES * raw)) if more > 0 and longer > 0 else raw
    return rate, max(LEAST_LAYER, (fast - step_bytes(thin) / rate) / thin.count)


def measure_between_steps(library: Library | None, drawing: Drawing, seconds: float) -> Measured:
    """Seconds that choosing a token takes, of logits that the caches do not hold."""
    sampler = Sampler(USUAL, VOCABULARY, (), library)
    logits = drawing.numbers((64, VOCABULARY)) * np.float32(3)
    at = 0

    def choose() -> float:
        nonlocal at
        at = (at + 1) % len(logits)
        begun = time.perf_counter()
        sampler.choose(logits[at])
        return time.perf_counter() - begun

    return Measured.of(repeat(choose, seconds, least=8))
