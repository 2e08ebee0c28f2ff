"""What was kept of a timeline, in blocks or in another session, goes on as the timeline itself: the same bits where the
plan is native, rounding elsewhere. Every layout: rows of all kinds, windows, latent rows, convolutions and states.
"""

from functools import partial

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.cache.cache_blocks import BlockLayout, BlockWriter
from moedge.runtime.kernels.library import find_library
from moedge.runtime.pace import UNIT

CONTEXT = {"max_position_embeddings": 1600}
MODELS = {
    "grouped": partial(tiny.qwen3_moe, **CONTEXT),
    "windows": partial(tiny_families.small, "gpt_oss", **CONTEXT),
    "wide windows": partial(tiny_families.small, "gpt_oss", sliding_window=100, **CONTEXT),
    "latent": partial(tiny.deepseek_v3, **CONTEXT),
    "convolutions": partial(tiny_families.small, "lfm2_moe", **CONTEXT),
    "delta": partial(tiny_families.quantizable, "qwen3_5_moe_text"),
    "mamba": partial(tiny_families.quantizable, "granitemoehybrid"),
    "latent and delta": partial(tiny_families.quantizable, "kimi_linear"),
}
PLANS = [(name, "native") for name in MODELS]
PLANS += [("grouped", "fused"), ("windows", "fused"), ("latent", "if"), ("mamba", "if")]
IDS = np.random.default_rng(0).integers(2, 200, 1500).tolist()
OTHER = np.random.default_rng(1).integers(2, 200, 400).tolist()


@pytest.fixture(scope="module", params=PLANS, ids="-".join)
def engine(request, tmp_path_factory):
    name, plan = request.param
    if plan == "native" and find_library() is None:
        pytest.skip("moedge's kernel library is not built here")
    folder = tmp_path_factory.mktemp(name)
    tiny.save_checkpoint(MODELS[name](), folder / "checkpoint", 0)
    schemes = parse_plan("fp32" if plan == "if" else "int4" if plan == "fused" else "balanced")
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(schemes, plan))
    return Engine.load(folder / "bundle", sessions=4)


def assert_same(engine, found, expected):
    if engine.program.batches:
        np.testing.assert_array_equal(found, expected)
    else:
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error < (1e-4 if engine.manifest.scheme == "fp32" else 0.05)


def blocks_of(engine, session):
    layout = BlockLayout.of(session.cache, max(UNIT, engine.program.cut_unit))
    ends = range(layout.tokens, session.length + 1, layout.tokens)
    return layout, [layout.take(session.cache, end, layout.held(session.cache, end)) for end in ends]


def length_of(engine):
    return min(1250, engine.manifest.model.context_length - 150)


def test_blocks_go_on_as_the_timeline_that_they_were_copied_from(engine):
    session, prompt = engine.session(), IDS[: length_of(engine)]
    session.prefill(prompt)
    layout, blocks = blocks_of(engine, session)
    ways = [len(blocks), len(blocks) - 1, len(blocks) // 2, 9, 1]
    reached = set()
    for count in ways:
        count = layout.resumable([block.held for block in blocks[:count]])
        reached.add(count)
        fresh = engine.session()
        writer = BlockWriter(fresh.cache, layout)
        for block in blocks[:count]:
            writer.add(block)
        length = writer.finish()
        assert length == count * layout.tokens
        fresh.adopt(prompt[:length])
        rest = OTHER[:100]
        whole = engine.session()
        expected = whole.prefill([*prompt[:length], *rest])
        whole.close()
        assert_same(engine, fresh.prefill(rest), expected)
        fresh.close()
    assert max(reached) * layout.tokens >= len(prompt) - 150
    session.close()


def test_a_timeline_that_began_from_blocks_goes_back_like_any(engine):
    """Wherever it says that it can go back to, what a run reads there is there."""
    rng, prompt = np.random.default_rng(5), IDS[: length_of(engine)]
    source = engine.session()
    source.prefill(prompt)
    layout, blocks = blocks_of(engine, source)
    for _ in range(4):
        count = layout.resumable([block.held for block in blocks[: int(rng.integers(1, len(blocks) + 1))]])
        fresh = engine.session()
        writer = BlockWriter(fresh.cache, layout)
        for block in blocks[:count]:
            writer.add(block)
        fresh.adopt(prompt[: writer.finish()])
        fresh.prefill(OTHER[:64])
        back = fresh.cache.reachable(int(rng.integers(0, fresh.length + 1)))
        fresh.rollback(back)
        whole = engine.session()
        expected = whole.prefill([*fresh.tokens, *OTHER[100:164]])
        found = fresh.prefill(OTHER[100:164])
        if back % engine.program.cut_unit:  # it is cut elsewhere now
            assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
        else:
            assert_same(engine, found, expected)
        whole.close()
        fresh.close()
    source.close()


def test_a_prompt_goes_on_from_what_another_session_shares_with_it(engine):
    prompt = IDS[: length_of(engine)]
    source = engine.session()
    source.prefill(prompt)
    for token in OTHER[:20]:
        source.decode(token)
    for alike, rest in ((len(prompt), 90), (len(prompt) - 1, 33), (len(prompt) - 70, 70), (520, 60), (30, 50), (0, 40)):
        wanted = [*prompt[:alike], *OTHER[50 : 50 + rest]]
        session = engine.session()
        length = source.shared(wanted)
        assert length <= alike
        session.take_over(source, length)
        whole = engine.session()
        assert_same(engine, session.prefill(wanted[length:]), whole.prefill(wanted))
        whole.close()
        session.close()
    assert source.shared(prompt) < len(prompt)  # nobody noted its end
    source.close()
