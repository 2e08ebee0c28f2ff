"""Whatever was asked before, by whom and with what was kept of it: each request is answered as if it were the first."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from fake_engine import FakeEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native import needs_kernels
from scheduling import text_of, wait_for

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.scheduler import Scheduler
from moedge.runtime.session import common

# A prompt is some tokens of one of a few texts, and then its own.
PROMPT = st.tuples(st.integers(0, 2), st.integers(0, 260), st.integers(0, 3), st.integers(0, 70))
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "several", "together", "restart", "cancel"]),
        st.sampled_from(["", "one", "two"]),
        PROMPT,
        PROMPT,
    ),
    min_size=1,
    max_size=12,
)


def prompt_of(which, begins, tail, length, base=500, most=1 << 30):
    tokens = [base + (97 * which + 31 * n) % most for n in range(begins)]
    return [*tokens, *(base + (1000 * (tail + 1) + n) % most for n in range(length)), base + which]


def echo(prompt):
    return [f"{len(prompt)}:{sum(ord(c) * (n + 1) for n, c in enumerate(prompt)) % 99991};"] * 3


def right(prompt):
    return "".join(echo("".join(map(chr, prompt))))


def collect(tickets):
    return [text_of(ticket) for ticket in tickets]


def settle(scheduler):
    wait_for(lambda: scheduler.idle and not scheduler._timelines.untidy)
    scheduler.close()


@settings(max_examples=35, suppress_health_check=[HealthCheck.too_slow])
@given(requests=REQUESTS, places=st.integers(1, 3), blocks=st.sampled_from([0, 3, 30, 1000]), disk=st.booleans())
def test_answers_are_those_of_an_engine_that_remembers_nothing(requests, places, blocks, disk):
    with tempfile.TemporaryDirectory() as folder:
        settled = {"prefix_budget_bytes": blocks * 128, "max_running": places, "max_queued": 4}
        settled |= {"cache_dir": Path(folder), "cache_dir_bytes": 40 * 200} if disk and blocks else {}

        def begin():
            return Scheduler(FakeEngine(echo, chunk=48, slots=3), **settled)

        scheduler, known = begin(), {"": [], "one": [], "two": []}
        try:
            for what, owner, one, two in requests:
                prompt, other = prompt_of(*one), prompt_of(*two)
                asked = {"several": [prompt] * 3, "together": [prompt, other]}.get(what, [prompt])
                if what == "restart":
                    settle(scheduler)
                    scheduler = begin()
                if what == "several":
                    tickets = scheduler.submit_all(prompt, [SamplingParams()] * 3, owner)
                else:
                    tickets = [scheduler.submit(each, SamplingParams(), owner) for each in asked]
                if what == "cancel":
                    tickets[0].cancel()
                    continue
                assert collect(tickets) == [right(each) for each in asked]
                for ticket in tickets:
                    beside = asked if len(asked) > 1 else []
                    most = max((common(each, ticket.token_ids) for each in [*known[owner], *beside]), default=0)
                    assert ticket.cached_tokens <= most  # nothing that this owner has not asked before
                known[owner] += asked
        finally:
            scheduler.close()


FAMILIES = {
    "windows": lambda: tiny_families.small("gpt_oss", sliding_window=40, max_position_embeddings=1024),
    "latent": lambda: tiny.deepseek_v3(max_position_embeddings=1024),
    "states": lambda: tiny_families.quantizable("qwen3_5_moe_text"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tiny.save_checkpoint(FAMILIES[request.param](), folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("balanced"), "native"))
    return Engine.load(folder / "bundle", sessions=3)


@needs_kernels
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS, places=st.integers(1, 3), budget=st.sampled_from([0, 1 << 18, 1 << 26]), disk=st.booleans())
def test_a_model_answers_as_one_that_remembers_nothing(engine, requests, places, budget, disk):
    """But for rounding, of a tenth as much as a wrong token makes: conversations go on at any length."""
    params = SamplingParams(temperature=0.0, max_tokens=3, top_logprobs=10, ignore_eos=True)
    with tempfile.TemporaryDirectory() as folder:
        settled = {"prefix_budget_bytes": budget, "max_running": places, "max_queued": 4}
        settled |= {"cache_dir": Path(folder)} if disk and budget else {}
        scheduler = Scheduler(engine, **settled)
        try:
            for what, owner, one, two in requests:
                prompt, other = (prompt_of(*each, base=2, most=200) for each in (one, two))
                if what == "restart":
                    settle(scheduler)
                    scheduler = Scheduler(engine, **settled)
                tickets = scheduler.submit_all(prompt, [params] * (3 if what == "several" else 1), owner)
                tickets += [scheduler.submit(other, params, owner)] if what == "together" else []
                if what == "cancel":
                    tickets[0].cancel()
                    continue
                for ticket in tickets:
                    first, *_ = [token for token in ticket.events(20.0) if token is not None]
                    logits = engine.session().prefill(ticket.token_ids).astype(np.float64)
                    expected = logits - np.log(np.exp(logits).sum())
                    for token_id, logprob in first.top_logprobs:
                        assert abs(logprob - expected[token_id]) < 0.15
        finally:
            scheduler.close()
