"""How prompts are cut: every cut keeps the bits, company makes runs shorter, and what runs take is learnt."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from fake_engine import FakeEngine, FakeProgram
from hypothesis import given
from hypothesis import strategies as st
from native import needs_kernels
from scheduling import PARAMS, text_of, wait_for

from moedge.devices.forecast import CacheRows, TokenWork, chunk_seconds, decode_seconds, prompt_seconds
from moedge.devices.profile import load_profile
from moedge.devices.rates import Rates
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime.engine import Engine
from moedge.runtime.pace import LATENT_UNIT, UNIT, Pace, cut, unit_of
from moedge.runtime.sampling import SamplingParams

# 1 ms a token at depth 0, and another after every 1,000
WORK = TokenWork(0, 0, 8, 2, 0, 1_000_000, 0, (CacheRows(100, 1000, 1000),), 0)
RATES = Rates(1e9, 1e9, 1e9, 1e9, 1e9, 0.0, 0.0, 1e9, 1e9)


@given(st.integers(0, 500), st.integers(1, 2000), st.integers(1, 600), st.sampled_from([1, UNIT, LATENT_UNIT]))
def test_pieces_are_the_prompt_and_end_at_units(past: int, left: int, longest: int, unit: int) -> None:
    longest = max(longest, unit)
    end, at = past + left, past
    while at < end:
        piece = cut(at, end - at, longest, unit)
        assert 1 <= piece <= end - at
        assert piece <= longest + unit + UNIT
        at += piece
        if at < end and unit > 1:
            assert at % unit == 0
            assert end - at >= UNIT  # enough for the way that many tokens take
    assert at == end


def test_a_unit_of_1_cuts_as_told() -> None:
    assert [cut(3, left, 5, 1) for left in (4, 5, 6, 100)] == [4, 5, 5, 5]


def test_the_time_of_a_run_by_hand() -> None:
    assert chunk_seconds(WORK, RATES, 100, 0) == pytest.approx(0.1 + 1e-6 * 100 * 101 / 2)
    assert chunk_seconds(WORK, RATES, 100, 1000) == pytest.approx(0.1 + 1e-6 * (100 * 1000 + 100 * 101 / 2))
    whole = prompt_seconds(WORK, RATES, 250, 100).total
    assert whole == pytest.approx(
        sum(chunk_seconds(WORK, RATES, n, past) for n, past in ((100, 0), (100, 100), (50, 200)))
    )
    window = replace(WORK, cache=(CacheRows(100, 1000, 1000, window=10),))
    assert chunk_seconds(window, RATES, 100, 1000) == pytest.approx(0.1 + 1e-6 * 100 * 10)
    assert decode_seconds(WORK, RATES, 1000).total == pytest.approx(1e-3)


def test_a_promise_of_time_is_fewer_tokens_at_depth_and_on_a_busy_machine() -> None:
    pace = Pace(WORK, RATES, 0.25)
    assert pace.longest(0, UNIT, 512) == 224  # 0.249 s, with what they look at
    assert pace.longest(1000, UNIT, 512) == 96
    assert pace.longest(100_000, UNIT, 512) == UNIT
    assert pace.longest(0, UNIT, 100) == 96
    assert pace.longest(0, UNIT, 8) == UNIT
    for _ in range(20):
        pace.note(192, 0, 2 * chunk_seconds(WORK, RATES, 192, 0))
    assert pace.longest(0, UNIT, 512) == 96
    for _ in range(40):
        pace.note(96, 0, chunk_seconds(WORK, RATES, 96, 0) / 4)
    assert pace.longest(0, UNIT, 512) == 512


def test_latent_attention_is_cut_longer_where_the_device_is_quick() -> None:
    assert unit_of(WORK, RATES, 0.25, latent=False) == UNIT
    assert unit_of(WORK, RATES, 0.25, latent=True) == LATENT_UNIT
    assert unit_of(WORK, RATES, 0.1, latent=True) == UNIT


@needs_kernels
@pytest.mark.parametrize("config", [tiny.qwen3_moe, tiny.deepseek_v3, lambda **c: tiny_families.small("gpt_oss", **c)])
def test_cuts_change_no_bits(config, tmp_path) -> None:
    tiny.save_checkpoint(config(max_position_embeddings=1024), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int8"), "native", 1024))
    engine = Engine.load(tmp_path / "bundle")
    rng = np.random.default_rng(3)
    ids = rng.integers(0, engine.manifest.model.vocab_size, 700).tolist()
    expected = engine.session().prefill(ids)
    for _ in range(6):
        session = engine.session()
        longest = LATENT_UNIT * int(rng.integers(1, 4))
        at = 0
        while (piece := cut(at, len(ids) - at, longest, engine.program.cut_unit)) < len(ids) - at:
            session.append(ids[at : at + piece])
            at += piece
        assert np.array_equal(session.run(ids[at:]), expected)


def test_a_prompt_with_company_is_run_in_shorter_pieces(start, monkeypatch) -> None:
    monkeypatch.setattr(FakeProgram, "cut_unit", 8)
    monkeypatch.setattr(FakeProgram, "pace", Pace(WORK, RATES, 0.017))
    engine = FakeEngine(lambda prompt: ["x"] * 400, slots=8, chunk=400)
    engine.gate.clear()
    scheduler = start(engine, max_running=3)
    scheduler.submit([1], PARAMS)
    engine.gate.set()
    wait_for(lambda: len(engine.runs) > 3)
    assert text_of(scheduler.submit(list(range(3, 203)), SamplingParams(max_tokens=1))) == "x"
    pieces = [max(run.values()) for run in engine.runs if len(run) == 2 and max(run.values()) > 1]
    assert sum(pieces) >= 200 - 40
    assert max(pieces) <= 16 + 8 + UNIT
    assert len(pieces) > 4


def test_alone_it_is_run_in_whole_chunks(start, monkeypatch) -> None:
    monkeypatch.setattr(FakeProgram, "cut_unit", 8)
    monkeypatch.setattr(FakeProgram, "pace", Pace(WORK, RATES, 0.017))
    engine = FakeEngine(lambda prompt: ["x"], slots=8, chunk=400)
    assert text_of(start(engine, max_running=3).submit(list(range(3, 203)), PARAMS)) == "x"
    assert [*engine.runs[0].values()] == [200]


@needs_kernels
def test_other_threads_for_prompts_than_for_tokens_change_nothing(tmp_path, monkeypatch) -> None:
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int8"), "native", 128))
    here = load_profile("auto").with_threads(3, "test")
    answers, limits = [], []
    for profile in (here, replace(here, decode_threads=1)):
        engine = Engine.load(tmp_path / "bundle", profile)
        library = engine.program.library
        assert library is not None
        monkeypatch.setattr(type(library), "limit", lambda self, threads: limits.append(threads))
        tokens = engine.generate([*range(1, 40)], SamplingParams(temperature=0, max_tokens=5))
        answers.append([token.token_id for token in tokens])
        monkeypatch.undo()
    assert answers[0] == answers[1]
    assert limits == [3, 1, 1, 1, 1]  # not asked where they are the same
