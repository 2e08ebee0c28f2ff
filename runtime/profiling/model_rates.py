"""What one bundle does here: prompts and tokens at depths, time to the first token, beside what its plan predicts.

Rounds are those of `moedge bench`; how many there are is fitted to the time that is left.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.devices.forecast import decode_seconds
from moedge.devices.profile import Profile
from moedge.runtime.bench.asking import fit
from moedge.runtime.bench.bench_rounds import Stopwatch, measure_decoding, measure_first_token, measure_prompts
from moedge.runtime.bench.results import DecodeRate, FirstToken, PromptRate, Question
from moedge.runtime.device_plan import PROMPT, Plan, make_plan, work_of
from moedge.runtime.engine import Engine
from moedge.runtime.profiling.energy import Energy, joules_each
from moedge.runtime.profiling.power_readers import JouleReader, WattReader

# From rich to poor: prompts, steps, depths, rounds after the first. The first that time allows is asked.
QUESTIONS: tuple[tuple[tuple[int, ...], int, tuple[int, ...], int], ...] = (
    ((128, 512, 2048), 64, (0, 512, 4096), 5),
    ((128, 512, 2048), 48, (0, 512, 4096), 3),
    ((128, 512), 48, (0, 512, 2048), 3),
    ((128, 512), 32, (0, 512), 3),
    ((128, 512), 24, (0, 512), 1),
    ((64,), 16, (0, 128), 1),
    ((32,), 8, (0,), 1),
)
TRY_PROMPT = 64  # tokens
UNSURE = 1.3  # times what the first try took: later rounds are deeper
BANDWIDTHS = 4.0  # seconds that measuring memory takes beside, twice
ENERGY_PROMPT, ENERGY_STEPS = 64, 8  # tokens that are measured at once


@dataclass(frozen=True)
class Predicted:
    """A rate that was measured, in tokens a second, beside what the plan says of it with the measured profile."""

    what: str
    measured: float
    predicted: float

    @property
    def ratio(self) -> float:
        """Measured by predicted."""
        return self.measured / self.predicted


@dataclass(frozen=True)
class ModelRates:
    """One bundle's figures."""

    name: str
    scheme: str
    expert_plan: str
    question: Question
    prompts: tuple[PromptRate, ...]
    first_token: FirstToken
    decode: tuple[DecodeRate, ...]
    predicted: tuple[Predicted, ...]
    token_macs: int  # products of weights with one token
    token_bytes: int  # of weights that one token reads
    chunk_tokens: int  # of the longest prompt's first run
    chunk_bytes: int  # that it reads
    predicted_decode: tuple[tuple[int, float], ...]  # depth, tokens a second


def question_for(engine: Engine, seconds: float) -> Question:
    """As much as is likely to be answered in that time, by a first try; the least there is, whatever it takes."""
    context = engine.manifest.model.context_length
    begun = time.monotonic()
    token, step = _first_try(engine)
    left = seconds - (time.monotonic() - begun)
    for prompts, steps, depths, rounds in QUESTIONS[:-1]:
        each = (sum(prompts) + 1.2 * prompts[0]) * token + steps * len(depths) * step
        cost = (rounds + 1) * each + sum(min(depth, context) for depth in depths) * token
        if steps < context and prompts[0] <= context and UNSURE * cost + BANDWIDTHS < left:
            return fit(prompts, steps, depths, rounds, context)
    prompts, steps, depths, rounds = QUESTIONS[-1]
    return fit((min(prompts[0], context),), min(steps, context - 1), depths, rounds, context)


def _first_try(engine: Engine) -> tuple[float, float]:
    """Seconds that a token of a prompt takes, and one that is decoded: whatever waits for storage has come then."""
    watch = Stopwatch(engine.manifest.model.vocab_size, lambda now: None)
    session = engine.session()
    prompt = min(TRY_PROMPT, session.capacity - 3)
    for _ in ("the first, for the weights", "the one that counts"):
        session.rollback(0)
        taken = watch.seconds(session, watch.tokens(prompt))
    steps = [watch.seconds(session, watch.tokens(1)) for _ in range(3)]
    return taken / prompt, min(steps)


def measure_model(engine: Engine, profile: Profile, question: Question) -> ModelRates:
    """Its rounds, of which each first one warms up."""
    manifest = engine.manifest
    watch = Stopwatch(manifest.model.vocab_size, lambda now: None)
    prompts = measure_prompts(engine, question, watch)
    first = measure_first_token(engine, question.prompts[0], 0.0, question.rounds, watch)
    decode, _ = measure_decoding(engine, question, watch)
    plan, work = make_plan(manifest, profile), work_of(manifest, profile)
    chunk = min(profile.prefill_chunk, question.prompts[-1])
    told = tuple(_compare(plan, prompts, decode)) if plan else ()
    macs = 0 if work is None else round(work.dense_macs + work.chosen * work.expert_macs)
    return ModelRates(
        manifest.name,
        manifest.scheme,
        manifest.experts.plan,
        question,
        prompts,
        first,
        decode,
        told,
        macs,
        0 if work is None else work.token_bytes,
        chunk,
        0 if work is None else round(work.dense_bytes + work.head_bytes + work.touched(chunk) * work.expert_bytes),
        tuple((rate.depth, 1 / decode_seconds(work, profile.rates, rate.depth).total) for rate in decode)
        if work
        else (),
    )


def measure_energy(engine: Engine, reader: JouleReader | WattReader, idle_watts: float, seconds: float) -> Energy:
    """Prompts and decoded tokens, each for half of that time."""
    watch = Stopwatch(engine.manifest.model.vocab_size, lambda now: None)
    session = engine.session()
    prompt = min(ENERGY_PROMPT, session.capacity - ENERGY_STEPS)

    def read() -> int:
        session.rollback(0)
        session.prefill(watch.tokens(prompt))
        return prompt

    def decode() -> int:
        session.rollback(0)
        for token in watch.tokens(ENERGY_STEPS):
            session.prefill([token])
        return ENERGY_STEPS

    found = [joules_each(reader, idle_watts, work, seconds / 2) for work in (read, decode)]
    return Energy(reader.source, idle_watts, *found)


def open_model(bundle: Path, profile: Profile) -> Engine:
    """The bundle, loaded without a check of its hashes; MoedgeError as of `Engine.load`."""
    try:
        return Engine.load(bundle, profile, check_hashes=False)
    except MoedgeError as error:
        raise MoedgeError(f"{error} The machine alone can be measured without a bundle: `moedge profile`.") from error


def _compare(plan: Plan, prompts: tuple[PromptRate, ...], decode: tuple[DecodeRate, ...]) -> list[Predicted]:
    """Where the plan tells of the same."""
    found = [
        Predicted(f"prompt of {PROMPT} tokens", rate.tokens_per_s.median, plan.prompt_tokens_per_second)
        for rate in prompts
        if rate.tokens == PROMPT
    ]
    for rate in decode:
        if rate.depth in plan.decode_by_depth:
            predicted = plan.decode_by_depth[rate.depth]
            found.append(Predicted(f"decode at depth {rate.depth}", rate.tokens_per_s.median, predicted))
    return found
