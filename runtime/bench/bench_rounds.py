"""The rounds of `moedge bench`: every prompt and every depth once a round, the first to warm up. Times, no words.

Tokens are random, new in every round, and never those of an earlier one.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moedge.devices.memory import detect_memory
from moedge.runtime.bench.bandwidth import Bandwidth, choose_buffer, last_cache_bytes, measure_bandwidth
from moedge.runtime.bench.process_usage import Resident, forget_files, resident, storage_bytes
from moedge.runtime.bench.results import DecodeRate, FirstToken, LoadSeconds, PromptRate, Question
from moedge.runtime.bench.spread import Spread, percentile
from moedge.runtime.engine import Engine
from moedge.runtime.integrity import HashCheck, open_bundle
from moedge.runtime.manifest import Manifest
from moedge.runtime.session import Session
from moedge.runtime.sizes import cache_bytes_read
from moedge.runtime.token_bytes import token_bytes

UNCACHED = 16  # tokens at a prompt's end that are new, where the rest is in the cache
OnStep = Callable[[str], None]  # what begins now
Load = Callable[[HashCheck | None], Engine]  # with a check that a load that fails waits for; without, none is made


@dataclass
class Stopwatch:
    """Runs what is to be measured, keeps the most memory that was seen, and draws the tokens."""

    vocab_size: int
    on_step: OnStep
    peak: Resident | None = None
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def tokens(self, count: int) -> list[int]:
        """Random ids."""
        ids: list[int] = self._rng.integers(0, self.vocab_size, count).tolist()
        return ids

    def seconds(self, session: Session, token_ids: Sequence[int]) -> float:
        """Of appending these tokens."""
        begun = time.perf_counter()
        session.prefill(token_ids)
        return time.perf_counter() - begun

    def look(self) -> None:
        """Take note of the memory that the process holds now; not within steps, which it would slow down."""
        now = resident()
        self.peak = now.most(self.peak) if now else None


@dataclass(frozen=True)
class LoadedTwice:
    """A model, how long it took to have it, and the first answer of all."""

    engine: Engine
    seconds: LoadSeconds
    cold_first_token: float


def load_twice(
    bundle: Path, manifest: Manifest, load: Load, prompt: int, imports: float, watch: Stopwatch
) -> LoadedTwice:
    """Load with files dropped from memory and answer once; then check hashes, and load again.

    MoedgeError if the bundle is damaged. Weights are checked after the first load, as that brings them into memory.
    """
    watch.on_step("load, files not in memory")
    hashes = HashCheck(bundle, manifest, beside=False)
    forget_files(bundle)
    before, begun = storage_bytes(), time.perf_counter()
    engine = load(hashes)
    first = time.perf_counter() - begun
    try:
        answer = watch.seconds(Session(engine.program, engine.profile.prefill_chunk), watch.tokens(prompt))
    except Exception:
        hashes.wait()  # damaged weights explain it
        raise
    after = storage_bytes()
    watch.look()
    del engine
    gc.collect()
    watch.on_step("hashes")
    begun = time.perf_counter()
    open_bundle(bundle)
    checked = time.perf_counter() - begun
    watch.on_step("load again")
    begun = time.perf_counter()
    engine = load(None)
    again = time.perf_counter() - begun
    read = None if before is None or after is None else after - before
    return LoadedTwice(engine, LoadSeconds(imports, checked, first, again, read), first + answer)


def measure_prompts(engine: Engine, question: Question, watch: Stopwatch) -> tuple[PromptRate, ...]:
    """A rate for each length, a round after the other."""
    rates: dict[int, list[float]] = {length: [] for length in question.prompts}
    for number in range(question.rounds + 1):
        for length in question.prompts:
            watch.on_step(f"prompt of {length} tokens, round {number} of {question.rounds}")
            taken = watch.seconds(engine.session(), watch.tokens(length))
            watch.look()
            rates[length] += [length / taken] if number else []
    return tuple(PromptRate(length, Spread.of(found)) for length, found in rates.items())


def measure_first_token(engine: Engine, prompt: int, cold: float, rounds: int, watch: Stopwatch) -> FirstToken:
    """Loaded, with an empty cache and with one that holds all but the prompt's end."""
    warm, cached, session = list[float](), list[float](), engine.session()
    known = max(0, prompt - UNCACHED)
    for number in range(rounds + 1):
        watch.on_step(f"first token, round {number} of {rounds}")
        ids = watch.tokens(prompt)
        session.rollback(0)
        taken = watch.seconds(session, ids)
        new = [*ids[:known], *watch.tokens(prompt - known)]
        again = watch.seconds(session, session.resume(new))
        if number:
            warm.append(taken)
            cached.append(again)
    return FirstToken(prompt, cold, Spread.of(warm), Spread.of(cached), known)


def measure_decoding(engine: Engine, question: Question, watch: Stopwatch) -> tuple[tuple[DecodeRate, ...], Bandwidth]:
    """Steps from each depth, and the bandwidth of the same minutes, measured before and after."""
    threads = engine.profile.decode_threads
    watch.on_step("bandwidth")
    caches = last_cache_bytes()
    size = choose_buffer(detect_memory().available_bytes, caches)
    bandwidths = [measure_bandwidth(threads, size, caches)]
    steps: dict[int, list[list[float]]] = {depth: [] for depth in question.depths}
    stored: dict[int, list[float]] = {depth: [] for depth in question.depths}
    sessions = {depth: engine.session() for depth in question.depths}
    prefixes = {depth: watch.tokens(depth) for depth in question.depths}
    for number in range(question.rounds + 1):
        for depth, session in sessions.items():
            watch.on_step(f"decode at depth {depth}, round {number} of {question.rounds}")
            fresh = watch.tokens(question.steps)
            if again := session.resume([*prefixes[depth], fresh[0]])[:-1]:
                watch.seconds(session, again)
            before = storage_bytes()
            times = [watch.seconds(session, [token]) for token in fresh]
            after = storage_bytes()
            watch.look()
            if number:
                steps[depth].append(times)
                stored[depth] += [] if before is None or after is None else [(after - before) / len(times)]
    watch.on_step("bandwidth")
    bandwidths.append(measure_bandwidth(threads, size, caches))
    best = max(bandwidths, key=lambda each: each.bytes_per_s.high)
    rates = tuple(_rate(engine, depth, rounds, stored[depth], best) for depth, rounds in steps.items())
    return rates, best


def _rate(
    engine: Engine, depth: int, rounds: list[list[float]], stored: list[float], bandwidth: Bandwidth
) -> DecodeRate:
    times = [taken for each in rounds for taken in each]
    rate = Spread.of([len(each) / sum(each) for each in rounds])
    rows = depth + len(rounds[0]) // 2  # of the step in the middle
    must = token_bytes(engine.manifest, cache_bytes_read(engine.manifest, engine.profile.cache_type, rows))
    return DecodeRate(
        depth,
        rate,
        p50_ms=1e3 * percentile(times, 0.5),
        p95_ms=1e3 * percentile(times, 0.95),
        p99_ms=1e3 * percentile(times, 0.99),
        must_read=must,
        share=None if must is None else must.total * rate.median / bandwidth.bytes_per_s.high,
        storage_bytes_per_token=statistics.median(stored) if stored else None,
    )
