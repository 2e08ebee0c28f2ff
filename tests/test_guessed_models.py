"""Guesses in real graphs: every kind of cache goes back to where a guess was wrong, and how exact rows at once are."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from guesses import Told, answer
from native import needs_kernels

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine, SamplingParams
from moedge.runtime.cache.eviction import WINDOW_HISTORY, WINDOW_STEP

GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
IDS = np.random.default_rng(0).integers(2, 211, 2000).tolist()


def engine_of(folder, config, plan, scheme):
    tiny.save_checkpoint(config, folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan(scheme), plan))
    return Engine.load(folder / "bundle")


def compare(engine, prompt, bound):
    """The answer with guesses is the one without, up to where the logits of two tokens are within the bound."""
    session, other = engine.session(), engine.session()
    plain = [token.token_id for token in answer(engine, prompt, GREEDY, session)[0]]
    tokens, _, (tried, right) = answer(engine, prompt, GREEDY, other, Told(plain))
    assert tried > right > 0
    guessed = [token.token_id for token in tokens]
    logits = engine.score([*prompt, *plain])[len(prompt) - 1 : -1]
    lead = np.diff(np.sort(logits, axis=1)[:, -2:], axis=1)[:, 0] / np.abs(logits).max()
    sure = int(np.append(lead < bound, True).argmax())
    assert guessed[:sure] == plain[:sure]
    return sure, session, other


@pytest.mark.parametrize("maker", tiny_families.MAKERS)
def test_every_cache_forgets_wrong_guesses(tmp_path, maker):
    engine = engine_of(tmp_path, tiny_families.quantizable(maker), "if", "fp32")
    if any(tensor.is_state for tensor in engine.manifest.cache):
        with pytest.raises(MoedgeError, match="recurrent layers, whose state cannot go back over wrong guesses"):
            engine.generate(IDS[:30], replace(GREEDY, prompt_lookup_num_tokens=2))
        return
    sure, session, other = compare(engine, IDS[:30], 1e-4)
    assert sure > 12
    if sure == GREEDY.max_tokens:
        assert session.tokens == other.tokens
        after = session.decode(7)
        assert np.abs(other.decode(7) - after).max() < 1e-4 * np.abs(after).max()


@pytest.mark.parametrize("short", [0, 1, 5])
def test_a_convolution_goes_back_where_its_old_rows_are_given_back(tmp_path, short):
    config = tiny_families.small("lfm2_moe", max_position_embeddings=4096)
    engine = engine_of(tmp_path, config, "if", "fp32")
    prompt = IDS[: WINDOW_HISTORY + 2 * WINDOW_STEP - 10 - short]
    sure, session, other = compare(engine, prompt, 1e-4)
    assert sure > 12
    if sure == GREEDY.max_tokens:
        assert session.length > WINDOW_HISTORY + 2 * WINDOW_STEP  # the answer went across a step
        after = session.decode(7)
        assert np.abs(other.decode(7) - after).max() < 1e-4 * np.abs(after).max()


@needs_kernels
@pytest.mark.parametrize("maker", ["qwen3_moe", "lfm2_moe", "deepseek_v3"])
def test_native_guesses_change_no_bit(tmp_path, maker):
    engine = engine_of(tmp_path, tiny_families.quantizable(maker), "native", "int4")
    _, session, other = compare(engine, IDS[:30], 0)
    assert session.tokens == other.tokens
    np.testing.assert_array_equal(other.decode(7), session.decode(7))


@pytest.mark.parametrize("maker", ["qwen3_moe", "lfm2_moe", "deepseek_v3"])
def test_fused_rows_at_once_are_those_one_at_a_time_within_an_activation_s_step(tmp_path, maker):
    """What docs/decisions.md says of exact: attention may round its last bit otherwise, and 8 bits carry it on."""
    engine = engine_of(tmp_path, tiny_families.quantizable(maker), "fused", "int4")
    session = engine.session()
    session.prefill(IDS[:40])
    apart = []
    for start in range(40, 100, 6):
        fork = session.fork()
        rows = np.empty((6, engine.manifest.model.vocab_size), np.float32)
        fork.run(IDS[start : start + 6], rows)
        one = np.stack([session.decode(token) for token in IDS[start : start + 6]])
        apart.append(np.abs(rows - one).max() / np.abs(one).max())
    assert np.median(apart) < 0.01
    assert max(apart) < 0.06
    compare(engine, IDS[:30], 0.06)
