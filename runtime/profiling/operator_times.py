"""Where a bundle's time goes: seconds by kind of operator, of a prompt and of decoding, as onnxruntime's profiler says.

Profiled runs are a little slower, so that they are others than those whose speed is told.
"""

import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from moedge.runtime.bench.bench_rounds import Stopwatch
from moedge.runtime.engine import Engine
from moedge.runtime.manifest import MODEL_NAME
from moedge.runtime.program import Program, session_options
from moedge.runtime.session import Session

PROMPT, STEPS = 256, 16  # tokens
WARM = 2  # steps before, as what is run first is slow


@dataclass(frozen=True)
class OperatorTime:
    """Of one kind of operator: seconds of a whole prompt, and of one decoded token, and how many of them a run has."""

    operator: str
    prompt_s: float
    token_s: float
    nodes: int


@dataclass(frozen=True)
class OperatorTimes:
    """The most first; what lies between operators counts as "between operators"."""

    prompt_tokens: int
    operators: tuple[OperatorTime, ...]


def measure_operators(engine: Engine) -> OperatorTimes:
    """One prompt and some tokens after it, in a session of their own."""
    library, profile = engine.program.library, engine.profile
    prompt = max(1, min(PROMPT, profile.prefill_chunk, engine.manifest.model.context_length - STEPS - WARM - 1))
    with tempfile.TemporaryDirectory(prefix="moedge-profile-") as folder:
        options = session_options(profile, library)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "operators")
        with library.lent(profile.threads, profile.awake_us) if library else nullcontext():
            graph = onnxruntime.InferenceSession(
                engine.folder / MODEL_NAME, options, providers=["CPUExecutionProvider"]
            )
        session = Session(Program(graph, engine.manifest, profile, library=library), profile.prefill_chunk)
        watch = Stopwatch(engine.manifest.model.vocab_size, lambda now: None)
        session.run(watch.tokens(prompt))  # in one run each, however prompts are cut
        session.rollback(0)
        session.run(watch.tokens(prompt))
        for token in watch.tokens(WARM + STEPS):
            session.run([token])
        events = json.loads(Path(graph.end_profiling()).read_text(encoding="utf-8"))
    return OperatorTimes(prompt, sum_up(events, STEPS))


def sum_up(events: Sequence[dict[str, Any]], steps: int) -> tuple[OperatorTime, ...]:
    """Of a profile whose last `steps` runs are tokens, and whose second one is the prompt that counts."""
    runs = sorted((e["ts"], e["dur"]) for e in events if e.get("name") == "model_run")
    nodes = [e for e in events if e.get("cat") == "Node" and "op_name" in e.get("args", {})]
    prompts, tokens = runs[1:2], runs[-steps:]
    by: dict[str, list[float]] = {}
    inside = [0.0, 0.0]
    for event in nodes:
        for at, chosen in enumerate((prompts, tokens)):
            if any(begun <= event["ts"] < begun + taken for begun, taken in chosen):
                found = by.setdefault(event["args"]["op_name"], [0.0, 0.0, 0.0])
                found[at] += event["dur"] / len(chosen)
                found[2] += at / len(chosen)
                inside[at] += event["dur"] / len(chosen)
    whole = [sum(taken for _, taken in chosen) / max(1, len(chosen)) for chosen in (prompts, tokens)]
    by["between operators"] = [*(max(0.0, all_ - own) for all_, own in zip(whole, inside, strict=True)), 0.0]
    told = [OperatorTime(name, prompt / 1e6, token / 1e6, round(count)) for name, (prompt, token, count) in by.items()]
    return tuple(sorted(told, key=lambda each: -each.token_s))
