"""How fast attention runs here behind a long past: bytes of the cache, and products, of one token and of a prompt."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from moedge.devices.profile import Profile
from moedge.runtime.kernels.library import Library
from moedge.runtime.profiling.drawn_weights import Bytes, Drawing, Floats
from moedge.runtime.profiling.probe_graphs import attention_graph
from moedge.runtime.profiling.probe_runs import Probe, bind_caches, open_probe
from moedge.runtime.profiling.timing import Measured, repeat

DEPTH = 4096  # tokens
PAGE = 4096  # bytes, of which there are whole ones
PROMPT_DEPTH = 1024  # before a chunk of a prompt


@dataclass(frozen=True)
class HeadShape:
    """Query heads, key heads and numbers in each."""

    heads: int
    kv_heads: int
    dim: int

    @property
    def macs(self) -> int:
        """Products for each pair of a token and one that it looks at."""
        return 2 * self.heads * self.dim

    @property
    def row_bytes(self) -> int:
        """Of keys and values that a token keeps as float16."""
        return 4 * self.kv_heads * self.dim


ALL_KEYS = HeadShape(16, 16, 128)  # a product for each number of the cache: waits for memory
SHARED_KEYS = HeadShape(32, 4, 128)  # eight for each: waits for arithmetic


@dataclass(frozen=True)
class AttentionRates:
    """Bytes and MAC a second."""

    cache: Measured
    attention: Measured
    prompt: Measured


@dataclass(eq=False)
class SlotsProbe:
    """One Attention node over several timelines, of which each run takes the next: its rows are in no CPU's cache."""

    shape: HeadShape
    probe: Probe
    caches: list[Bytes]
    drawing: Drawing
    at: int = 0
    drawn: dict[int, Floats] = field(default_factory=dict)  # by tokens, what they project

    def seconds(self, tokens: int, past: int) -> float:
        """Of one run."""
        self.at = (self.at + 1) % len(self.caches[0])
        binding = self.probe.session.io_binding()
        width = (self.shape.heads + 2 * self.shape.kv_heads) * self.shape.dim
        if tokens not in self.drawn:
            self.drawn[tokens] = self.drawing.numbers((tokens, width))
        binding.bind_cpu_input("x", self.drawn[tokens])
        binding.bind_cpu_input("segments", np.array([[self.at, past, tokens]], np.int64))
        binding.bind_output("out", "cpu")
        bind_caches(binding, self.caches)
        begun = time.perf_counter()
        self.probe.session.run_with_iobinding(binding)
        return time.perf_counter() - begun


def open_slots(
    shape: HeadShape, rows: Sequence[Bytes], chunk: int, profile: Profile, library: Library, drawing: Drawing
) -> SlotsProbe:
    """With as many timelines as these bytes hold."""
    capacity = DEPTH + chunk
    slots = 2 * rows[0].size // (capacity * shape.row_bytes)
    sizes = slots, shape.kv_heads, capacity, 2 * shape.dim
    caches = [each[: math.prod(sizes)].reshape(sizes) for each in rows]
    graph = attention_graph(shape.heads, shape.kv_heads, shape.dim)
    return SlotsProbe(shape, open_probe(graph, profile, library), caches, drawing)


def measure_attention(
    profile: Profile, library: Library, drawing: Drawing, memory_bytes: int, chunk: int, seconds: float
) -> AttentionRates:
    """Both shapes of heads, one after the other."""
    prompts, by_shape = list[float](), dict[HeadShape, list[float]]()
    half = max(memory_bytes // 2, (DEPTH + chunk) * ALL_KEYS.row_bytes)  # two timelines at least
    rows = [drawing.halves((half // PAGE * PAGE + PAGE,)) for _ in ("keys", "values")]
    for shape in (ALL_KEYS, SHARED_KEYS):
        slots = open_slots(shape, rows, chunk, profile, library, drawing)
        by_shape[shape] = _deep_steps(slots, seconds / 4)
        pairs = chunk * PROMPT_DEPTH + chunk * (chunk + 1) // 2
        taken = repeat(partial(slots.seconds, chunk, PROMPT_DEPTH), seconds / 4)
        prompts += [shape.macs * pairs / each for each in taken]
    cache = [ALL_KEYS.row_bytes * DEPTH / each for each in by_shape[ALL_KEYS]]
    attention = [SHARED_KEYS.macs * DEPTH / each for each in by_shape[SHARED_KEYS]]
    return AttentionRates(Measured.of(cache), Measured.of(attention), Measured.of(prompts))


def _deep_steps(slots: SlotsProbe, seconds: float) -> list[float]:
    """Seconds that a token takes behind DEPTH others more than one behind few: the rest is the layer's."""
    short = statistics.median(repeat(lambda: slots.seconds(1, 8), 0.02, least=8))
    deep = repeat(lambda: slots.seconds(1, DEPTH), seconds, least=8)
    return [max(each - short, each / 4) for each in deep]
