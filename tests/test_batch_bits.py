"""In company a session gets the very logits, and so the very tokens, that it gets alone.

Whoever joins, leaves, goes back or forks meanwhile, also where windows have given memory back, and beside a prompt.
"""

from functools import partial

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from native import needs_kernels

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.batch import Batch, Share
from moedge.runtime.cache.eviction import WINDOW_HISTORY, WINDOW_STEP
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.steps import run_step, run_steps, take_step

pytestmark = needs_kernels
LENGTH = {"max_position_embeddings": 1200}
FAMILIES = {
    "grouped": partial(tiny.qwen3_moe, **LENGTH),
    "windows": partial(tiny_families.small, "gpt_oss", **LENGTH),
    "latent": partial(tiny.deepseek_v3, **LENGTH),
    "convolutions": partial(tiny_families.small, "lfm2_moe", **LENGTH),
}
SLOTS = 8
PAST = WINDOW_HISTORY + WINDOW_STEP  # tokens from which windows have given memory back


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tiny.save_checkpoint(FAMILIES[request.param](), folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("balanced"), "native"))
    return Engine.load(folder / "bundle", sessions=SLOTS)


def greedy(engine, prompt, length):
    """An answer in the making, in a session of its own that reads 100 tokens at once."""
    session = engine.session()
    session.chunk = 100
    params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
    return session, engine.generation(session, prompt, params)


def follow(works, step):
    """The token ids of each answer; `step` runs those that are not over."""
    said = [[] for _ in works]
    while live := [i for i, (_, generation) in enumerate(works) if generation.finish_reason is None]:
        for i, logits in zip(live, step([works[i] for i in live]), strict=True):
            said[i] += [token.token_id for token in take_step(*works[i], logits)]
    return said


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_greedy_answers_are_those_of_each_alone(engine, count):
    """Prompts of one token to several chunks, all of them beside each other in a step, and answers of other lengths."""
    rng = np.random.default_rng(count)
    lengths = [1, 40, 230, 7, 99, 101, 15, 16][:count]
    prompts = [rng.integers(2, 200, length).tolist() for length in lengths]
    asked = [(prompt, 20 + 3 * i) for i, prompt in enumerate(prompts)]
    alone = [follow([greedy(engine, *each)], lambda works: [run_step(*works[0])])[0] for each in asked]
    works = [greedy(engine, *each) for each in asked]
    assert follow(works, partial(run_steps, Batch(engine.program))) == alone
    assert [len(each) for each in alone] == [length for _, length in asked]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_others_do_logits_are_the_very_bits(engine, seed):
    """Random steps of random companies; of each session there is a twin that runs the same pieces by itself."""
    rng, batch = np.random.default_rng(seed), Batch(engine.program)
    pairs = [(engine.session(), engine.session()) for _ in range(4)]
    for pair, length in zip(pairs, (PAST - 30, PAST + 20, 30, 3), strict=True):
        tokens = rng.integers(2, 200, length).tolist()
        for session in pair:
            session.prefill(tokens)
    assert len({one.cache.arena for one, _ in pairs}) == 1
    for _ in range(25):
        company = rng.permutation(len(pairs))[: rng.integers(2, len(pairs) + 1)]
        news = [rng.integers(2, 200, rng.choice([1, 1, 1, 5, 15, 40])).tolist() for _ in company]
        wanted = [int(rng.integers(1, min(len(new), 15) + 1)) for new in news]
        shares = [Share(pairs[i][0], new, most) for i, new, most in zip(company, news, wanted, strict=True)]
        for i, new, most, found in zip(company, news, wanted, batch.run(shares), strict=True):
            logits = np.empty((most, found.shape[1]), np.float32)
            pairs[i][1].run(new, logits)
            assert np.array_equal(found, logits)
        at = int(rng.integers(len(pairs)))
        back = pairs[at][0].cache.reachable(max(1, pairs[at][0].length - int(rng.integers(0, 60))))
        for session in pairs[at]:
            session.rollback(back)
        if rng.random() < 0.2:  # a session goes, and another one goes on in its place as a fork
            gone, kept = rng.permutation(len(pairs))[:2]
            for session in pairs[gone]:
                session.close()
            pairs[gone] = tuple(session.fork() for session in pairs[kept])
    assert all(one.tokens == other.tokens for one, other in pairs)
