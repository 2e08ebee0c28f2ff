"""Several sessions decoding at once: tokens of all of them a second, and how long each waits between two of its own."""

import time

from moedge.runtime.batch import Batch, Share
from moedge.runtime.bench.bench_rounds import Stopwatch
from moedge.runtime.bench.results import BatchRate, Question
from moedge.runtime.bench.spread import Spread, percentile
from moedge.runtime.engine import Engine


def measure_batches(engine: Engine, question: Question, watch: Stopwatch) -> tuple[BatchRate, ...]:
    """A rate for each number of sessions, a round after the other; the engine was loaded for the most of them.

    Each session begins after a prompt of its own, as long as the shortest that is measured, or as the steps allow.
    """
    if not question.batches:
        return ()
    depth = min(question.prompts[0], engine.manifest.model.context_length - question.steps)
    sessions = [engine.session() for _ in range(max(question.batches))]
    prefixes = [watch.tokens(depth) for _ in sessions]
    batch, steps = Batch(engine.program), {count: list[list[float]]() for count in question.batches}
    for number in range(question.rounds + 1):
        for count in question.batches:
            watch.on_step(f"{count} at once, round {number} of {question.rounds}")
            for session, prefix in zip(sessions[:count], prefixes, strict=False):
                if again := session.resume([*prefix, watch.tokens(1)[0]])[:-1]:
                    session.prefill(again)
            times = []
            for _ in range(question.steps):
                shares = [Share(session, watch.tokens(1), 1) for session in sessions[:count]]
                begun = time.perf_counter()
                batch.run(shares)
                times.append(time.perf_counter() - begun)
            watch.look()
            steps[count] += [times] if number else []
    return tuple(_rate(count, depth, rounds) for count, rounds in steps.items())


def _rate(count: int, depth: int, rounds: list[list[float]]) -> BatchRate:
    times = [taken for each in rounds for taken in each]
    rate = Spread.of([count * len(each) / sum(each) for each in rounds])
    p50, p95, p99 = (1e3 * percentile(times, share) for share in (0.5, 0.95, 0.99))
    return BatchRate(count, depth, rate, p50, p95, p99)
