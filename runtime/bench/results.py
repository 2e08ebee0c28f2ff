"""What `moedge bench` found, as data: the same for the table and for JSON."""

from dataclasses import dataclass
from typing import Any

from moedge.runtime.bench.bandwidth import Bandwidth
from moedge.runtime.bench.process_usage import Resident
from moedge.runtime.bench.spread import Spread
from moedge.runtime.token_bytes import TokenBytes


@dataclass(frozen=True)
class Question:
    """What is to be measured: prompts' lengths, steps of decoding a round, depths they begin at, rounds that count."""

    prompts: tuple[int, ...]
    steps: int
    depths: tuple[int, ...]
    rounds: int
    batches: tuple[int, ...] = ()  # how many sessions decode at once
    left_out: tuple[str, ...] = ()  # what the context does not hold, in sentences


@dataclass(frozen=True)
class LoadSeconds:
    """From the process's start to a model that answers. Before `first`, files were dropped from memory."""

    imports: float  # interpreter and modules, until the command began
    hashes: float  # of all files, from memory
    first: float
    again: float
    first_read_bytes: int | None  # from storage


@dataclass(frozen=True)
class FirstToken:
    """Seconds to the logits after a prompt: load included, loaded, and with all but the last tokens in the cache."""

    prompt: int
    cold: float
    warm: Spread
    cached: Spread
    cached_tokens: int


@dataclass(frozen=True)
class PromptRate:
    """A prompt of that many tokens on an empty cache."""

    tokens: int
    tokens_per_s: Spread


@dataclass(frozen=True)
class DecodeRate:
    """Steps of one token after `depth` others: a rate a round, all rounds' times, and how far from the memory's limit.

    `share` is bytes a token must read times the rate, over the bandwidth that was measured; None if either is unknown.
    """

    depth: int
    tokens_per_s: Spread
    p50_ms: float
    p95_ms: float
    p99_ms: float
    must_read: TokenBytes | None
    share: float | None
    storage_bytes_per_token: float | None


@dataclass(frozen=True)
class BatchRate:
    """Steps of one token of each of `sessions` after `depth` others: tokens of all a second, and times of a step."""

    sessions: int
    depth: int
    tokens_per_s: Spread
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Results:
    """All of one run. `peak` is the most of each kind of memory that was seen between two steps."""

    question: Question
    load: LoadSeconds
    first_token: FirstToken
    prompts: tuple[PromptRate, ...]
    decode: tuple[DecodeRate, ...]
    batches: tuple[BatchRate, ...]
    peak: Resident | None
    bandwidth: Bandwidth
    energy: str
    provenance: dict[str, Any]
