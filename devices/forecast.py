"""How fast a device answers with a model: arithmetic over what a token costs and what the device does.

Nothing is opened or measured here. docs/planning.md has the formulas beside measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from moedge.devices.rates import Rates

Bound = Literal["memory", "compute", "storage"]
# Share of a token's experts that are in memory by share of all experts that fit there, when the least recently used go.
# Between what was published of OLMoE (a quarter: 51 %) and Qwen3-30B-A3B (two fifths: 90 to 95 %).
HITS = ((0.0, 0.0), (0.25, 0.51), (0.4, 0.8), (1.0, 1.0))


# Weights that MatMulNBits turns from codes of 8 bits to fp32, with one thread (2-core x86-64, onnxruntime 1.32).
UNPACKED_A_SECOND = 0.5e9


@dataclass(frozen=True)
class CacheRows:
    """What a token looks at of each token before it, in layers of one kind; `window`: at most so many, 0 at all."""

    bytes: int
    macs: int
    prompt_macs: int  # where many tokens look at once: latent rows are made keys and values once for all of them
    window: int = 0


@dataclass(frozen=True)
class TokenWork:
    """What a model's tokens cost: bytes of weights as the kernels read them, and products with one token."""

    expert_bytes: int  # of all routed experts
    expert_macs: int
    experts: int  # a layer
    experts_per_token: int
    dense_bytes: int  # attention, shared experts, routers ...
    dense_macs: int
    head_bytes: int  # of the output head, once a prompt and once a token
    cache: tuple[CacheRows, ...]
    layers: int
    state_bytes: int = 0  # that memory moves of recurrent layers: once a token, or once a run of a prompt
    state_macs: int = 0  # with these, a token
    fused: bool = False  # ONNX Runtime's kernels
    unpacked: int = 0  # weights, at each run, by these

    @property
    def chosen(self) -> float:
        """The share of all experts that one token takes."""
        return self.experts_per_token / self.experts if self.experts else 0.0

    @property
    def token_bytes(self) -> int:
        """Of weights, that a token must read."""
        return round(self.dense_bytes + self.head_bytes + self.chosen * self.expert_bytes)

    def cache_bytes(self, depth: int) -> int:
        """That a token reads after so many others, what recurrent layers keep and write included."""
        return self.state_bytes + sum(rows.bytes * min(depth, rows.window or depth) for rows in self.cache)

    def touched(self, tokens: int) -> float:
        """The share of all experts that so many tokens take together, if each chooses by itself."""
        return 1 - (1 - self.chosen) ** tokens


@dataclass(frozen=True)
class Seconds:
    """What a step takes, by what it waits for."""

    memory: float
    compute: float
    storage: float
    rest: float  # operators as such, sampling

    @property
    def total(self) -> float:
        """All of it."""
        return self.memory + self.compute + self.storage + self.rest

    @property
    def bound(self) -> Bound:
        """What it waits for most."""
        by: dict[Bound, float] = {"memory": self.memory, "compute": self.compute, "storage": self.storage}
        return max(by, key=lambda name: by[name])


@dataclass(frozen=True)
class Storage:
    """Experts that memory does not hold: the share of all that it does, and how fast others come."""

    resident: float
    bytes_per_s: float

    @property
    def missed(self) -> float:
        """The share of a token's experts that must be fetched."""
        for (low, hit), (high, more) in pairwise(HITS):
            if self.resident <= high:
                return 1 - (hit + (more - hit) * (self.resident - low) / (high - low))
        return 0.0


def decode_seconds(work: TokenWork, rates: Rates, depth: int, storage: Storage | None = None) -> Seconds:
    """One token after `depth` others."""
    weights = work.token_bytes / (rates.fused_weights_bytes_per_s if work.fused else rates.weights_bytes_per_s)
    macs = work.state_macs + sum(rows.macs * min(depth, rows.window or depth) for rows in work.cache)
    read, multiplied = work.cache_bytes(depth) / rates.cache_bytes_per_s, macs / rates.attention_macs_per_s
    fetched = storage.missed * work.chosen * work.expert_bytes / storage.bytes_per_s if storage else 0.0
    return Seconds(
        memory=weights + (read if read >= multiplied else 0.0),
        compute=multiplied if multiplied > read else 0.0,
        storage=fetched,
        rest=work.layers * rates.layer_s + rates.step_s + work.unpacked / UNPACKED_A_SECOND,
    )


def prompt_seconds(work: TokenWork, rates: Rates, tokens: int, chunk: int, storage: Storage | None = None) -> Seconds:
    """A prompt on an empty cache, in chunks, to its last token's logits."""
    product = rates.fused_prompt_macs_per_s if work.fused else rates.prompt_macs_per_s
    reading = rates.fused_weights_bytes_per_s if work.fused else rates.weights_bytes_per_s
    memory = work.head_bytes / reading
    compute = tokens * (work.dense_macs + work.chosen * work.expert_macs) / product
    compute += tokens * work.state_macs / rates.attention_macs_per_s
    fetched, chunks = 0.0, chunks_of(tokens, chunk)
    for some in chunks:
        touched = work.touched(some) * work.expert_bytes
        memory += (work.dense_bytes + touched) / reading + work.state_bytes / rates.cache_bytes_per_s
        fetched += (1 - storage.resident) * touched / storage.bytes_per_s if storage else 0.0
    for rows in work.cache:
        compute += rows.prompt_macs * _looked_at(tokens, rows.window) / rates.prompt_attention_macs_per_s
    rest = len(chunks) * (work.layers * rates.layer_s + work.unpacked / UNPACKED_A_SECOND) + rates.step_s
    return Seconds(memory, compute, fetched, rest)


def chunk_seconds(work: TokenWork, rates: Rates, tokens: int, past: int) -> float:
    """A run of some tokens of a prompt after `past` others, without the head."""
    product = rates.fused_prompt_macs_per_s if work.fused else rates.prompt_macs_per_s
    reading = rates.fused_weights_bytes_per_s if work.fused else rates.weights_bytes_per_s
    took = tokens * (work.dense_macs + work.chosen * work.expert_macs) / product
    took += (work.dense_bytes + work.touched(tokens) * work.expert_bytes) / reading
    took += tokens * work.state_macs / rates.attention_macs_per_s + work.state_bytes / rates.cache_bytes_per_s
    for rows in work.cache:
        pairs = _looked_at(past + tokens, rows.window) - _looked_at(past, rows.window)
        took += rows.prompt_macs * pairs / rates.prompt_attention_macs_per_s
    return took + work.layers * rates.layer_s + work.unpacked / UNPACKED_A_SECOND


def chunks_of(tokens: int, chunk: int) -> Sequence[int]:
    """A prompt's runs, in tokens."""
    whole, left = divmod(tokens, chunk)
    return [chunk] * whole + ([left] if left else [])


def _looked_at(tokens: int, window: int) -> float:
    """Pairs of a token and one that it looks at, itself included."""
    ramp = min(tokens, window or tokens)
    return ramp * (ramp + 1) / 2 + (tokens - ramp) * ramp
