"""One run of `moedge bench` from beginning to end, in the order that the figures need: what is cold comes first."""

from pathlib import Path

import psutil

from moedge.devices.profile import Profile
from moedge.runtime.bench.bench_batches import measure_batches
from moedge.runtime.bench.bench_rounds import (
    OnStep,
    Stopwatch,
    load_twice,
    measure_decoding,
    measure_first_token,
    measure_prompts,
)
from moedge.runtime.bench.provenance import find_provenance
from moedge.runtime.bench.results import Question, Results
from moedge.runtime.engine import Engine
from moedge.runtime.integrity import HashCheck
from moedge.runtime.manifest import Manifest


def count_steps(question: Question) -> int:
    """How often `on_step` will be called."""
    each_round = len(question.prompts) + len(question.depths) + len(question.batches) + 1
    return 5 + (question.rounds + 1) * each_round


def run_bench(
    bundle: Path,
    manifest: Manifest,
    profile: Profile,
    question: Question,
    imports: float,
    allow_slow: bool,
    allow_low_memory: bool,
    on_step: OnStep,
) -> Results:
    """Measure; `imports` is how long the process took to come here, in seconds. MoedgeError as of `Engine.load`."""
    busy = psutil.getloadavg()[0]  # before there is work of our own
    watch = Stopwatch(manifest.model.vocab_size, on_step)
    shortest = question.prompts[0]

    def load(hashes: HashCheck | None) -> Engine:
        return Engine.load(
            bundle,
            profile,
            sessions=max(question.batches, default=1),
            sessions_option="--batch",
            allow_slow=allow_slow,
            allow_low_memory=allow_low_memory,
            check_hashes=False,
            hashes=hashes,
        )

    loaded = load_twice(bundle, manifest, load, shortest, imports, watch)
    provenance = find_provenance(loaded.engine, busy)
    prompts = measure_prompts(loaded.engine, question, watch)
    first = measure_first_token(loaded.engine, shortest, loaded.cold_first_token, question.rounds, watch)
    decode, bandwidth = measure_decoding(loaded.engine, question, watch)
    batches = measure_batches(loaded.engine, question, watch)
    seconds = loaded.seconds
    return Results(
        question, seconds, first, prompts, decode, batches, watch.peak, bandwidth, "not measured", provenance
    )
