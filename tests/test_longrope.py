"""LongRoPE around the length at which its factors switch: Phi-3.5-MoE in fp32 against transformers, and both plans.

Beyond `original_max_position_embeddings` the makers' code takes the long factors. transformers 5.23 takes the long
magnitude there and keeps the short factors, since PhimoeRotaryEmbedding.forward computes frequencies without a length:
here it is given the length, and nothing else of it is changed.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
import torch
from guesses import Told, answer
from transformers import DynamicCache
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine, SamplingParams
from moedge.runtime.kernels.library import find_library

ORIGINAL = 64
IDS = np.random.default_rng(0).integers(2, 211, 120)
ROPE = tiny_families.LONGROPE | {"original_max_position_embeddings": ORIGINAL}


def config(**changes):
    return tiny_families.quantizable("phimoe", rope_parameters=ROPE, max_position_embeddings=256, **changes)


def follow_the_length(model, monkeypatch):
    """Let the model take the factors that belong to the length it is at."""
    rotary, forward = model.model.rotary_emb, model.model.rotary_emb.forward

    def at_length(x, position_ids):
        length = int(position_ids.max()) + 1
        rotary.rope_init_fn = lambda config: ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=length)
        return forward(x, position_ids)

    monkeypatch.setattr(rotary, "rope_init_fn", rotary.rope_init_fn)
    monkeypatch.setattr(rotary, "forward", at_length)


def in_pieces(model, *pieces):
    """transformers' logits after a prompt that comes in pieces, with one cache."""
    cache, rows = DynamicCache(), []
    with torch.no_grad():
        for piece in pieces:
            out = model(torch.from_numpy(np.array(piece))[None], past_key_values=cache, use_cache=True)
            rows.append(out.logits[0].numpy())
    return np.concatenate(rows)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("longrope")
    model = tiny.save_checkpoint(config(), folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("fp32")))
    return model, Engine.load(folder / "bundle")


def test_up_to_the_original_length_as_transformers_does(exact):
    model, engine = exact
    assert engine.manifest.model.context_length == 256
    for length in (1, ORIGINAL - 1, ORIGINAL):
        reference = tiny.reference_logits(model, IDS[:length])
        assert np.abs(engine.score(IDS[:length].tolist()) - reference).max() < 1e-3 * np.abs(reference).max()


def test_beyond_the_original_length_with_the_long_factors(exact, monkeypatch):
    model, engine = exact
    short = tiny.reference_logits(model, IDS)
    follow_the_length(model, monkeypatch)
    for length in (ORIGINAL + 1, len(IDS)):
        reference = tiny.reference_logits(model, IDS[:length])
        assert np.abs(engine.score(IDS[:length].tolist()) - reference).max() < 1e-3 * np.abs(reference).max()
    assert np.abs(short - reference).max() > 0.01 * np.abs(reference).max()  # the factors do matter


@pytest.mark.parametrize("cut", [1, 50, ORIGINAL, 119])
def test_a_prompt_in_two_pieces_across_the_border(exact, monkeypatch, cut):
    """Cached keys stay as they were computed, those of the first piece with the factors of its own length."""
    model, engine = exact
    follow_the_length(model, monkeypatch)
    reference = in_pieces(model, IDS[:cut], IDS[cut:])
    session = engine.session()
    for piece, row in ((IDS[:cut], cut - 1), (IDS[cut:], -1)):
        last = session.prefill(piece.tolist())
        assert np.abs(last - reference[row]).max() < 1e-3 * np.abs(reference).max()


def test_greedy_answer_across_the_border(exact, monkeypatch):
    model, engine = exact
    follow_the_length(model, monkeypatch)
    params = SamplingParams(temperature=0, max_tokens=16, logit_bias={1: -1e4})
    tokens = [t.token_id for t in engine.generate(IDS[:58].tolist(), params)]
    cache, given, expected = DynamicCache(), IDS[:58], []
    for _ in range(16):
        with torch.no_grad():
            logits = model(torch.from_numpy(given)[None], past_key_values=cache, use_cache=True).logits[0, -1].numpy()
        logits[1] = -np.inf
        expected.append(int(logits.argmax()))
        given = np.array(expected[-1:])
    assert tokens == expected


def test_guesses_do_not_cross_the_border_with_a_token_that_stays(exact):
    _, engine = exact
    assert engine.manifest.model.rotary_switch == ORIGINAL
    prompt, params = IDS[:58].tolist(), SamplingParams(temperature=0, max_tokens=16, logit_bias={1: -1e4})
    alone, guessing = engine.session(), engine.session()
    tokens, held, _ = answer(engine, prompt, params, alone)
    said = [token.token_id for token in tokens]
    tokens, held_too, (guessed, right) = answer(engine, prompt, params, guessing, Told(said))
    assert ([token.token_id for token in tokens], held_too) == (said, held)
    assert guessed > right > 0
    expected, found = (session.decode(said[-1]) for session in (alone, guessing))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_what_is_forced_does_not_cross_the_border_either(exact):
    _, engine = exact
    generation = engine.generation(engine.session(), IDS[:8].tolist(), SamplingParams(max_tokens=20))
    generation._constraint = SimpleNamespace(forced=list(range(10)))
    for border, ahead in ((None, 10), (30, 10), (18, 10), (17, 9), (9, 1), (8, 0), (7, 10), (0, 10)):
        generation._unfed = IDS[:8].tolist()
        assert len(generation.feed(100, border)) == 8 + ahead


def test_a_session_knows_how_far_the_border_is(exact):
    session = exact[1].session()
    assert session.border == ORIGINAL
    session.prefill(IDS[: ORIGINAL - 1].tolist())
    assert session.border == 1
    session.decode(5)
    assert session.border == 0
    session.decode(5)
    assert session.border is None
    session.rollback(10)
    assert session.border == ORIGINAL - 10


@pytest.mark.parametrize("window", [None, 20])
def test_kernels_plans_equal_their_twin_around_the_border(tmp_path, monkeypatch, window):
    tiny.save_checkpoint(config(sliding_window=window, num_hidden_layers=2), tmp_path / "checkpoint", 0)
    for plan in ("if", "fused", "native"):
        export_bundle(tmp_path / "checkpoint", tmp_path / plan, ExportOptions(parse_plan("int4"), plan))
    twin = Engine.load(tmp_path / "if")
    fused = tiny.with_exact_kernels(tmp_path / "fused", monkeypatch)
    for length in (ORIGINAL, ORIGINAL + 1, 120):
        exact = twin.score(IDS[:length].tolist())
        assert np.abs(fused.score(IDS[:length].tolist()) - exact).max() < 1e-4 * np.abs(exact).max()
    sessions = [engine.session() for engine in (twin, fused)]
    for piece in (IDS[:40], IDS[40:62], *IDS[62:67, None], IDS[67:100]):
        expected, got = (session.prefill(piece.tolist()) for session in sessions)
        assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()
    if find_library() is None:
        return
    native = Engine.load(tmp_path / "native").session()
    twin = Engine.load(tmp_path / "if").session()
    errors = []
    for token in IDS[:90].tolist():
        expected, got = (session.decode(token) for session in (twin, native))
        errors.append(np.abs(got - expected).max() / np.abs(expected).max())
    assert np.median(errors[ORIGINAL + 1 :]) < 1.5 * np.median(errors[:ORIGINAL]) < 0.05
