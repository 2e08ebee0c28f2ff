"""What a repeated beginning of 2,000 tokens costs, in parts of what reading it cost; and what states change of it."""

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from native import needs_kernels
from scheduling import wait_for

from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.scheduler import Scheduler

pytestmark = needs_kernels
SHAPE = {"vocab_size": 4096, "hidden_size": 512, "moe_intermediate_size": 256, "num_hidden_layers": 8}
SHAPE |= {"num_experts": 16, "num_experts_per_tok": 8, "max_position_embeddings": 4096}
PARAMS = SamplingParams(temperature=0.0, max_tokens=1)
TRIES = 4  # the quickest counts


def load(folder, config):
    tiny.save_checkpoint(config, folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("balanced"), "native"))
    return Engine.load(folder / "bundle", sessions=2)


def chats(vocab_size, system, count, tail=20, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(2, vocab_size, system).tolist()
    return [[*first, *rng.integers(2, vocab_size, tail).tolist()] for _ in range(count)]


def ask(scheduler, prompt, cached):
    """Milliseconds to the first token, where so many tokens are not read again."""
    ticket = scheduler.submit(prompt, PARAMS)
    assert [event for event in ticket.events(30.0) if event is not None][-1].finish_reason
    wait_for(lambda: scheduler.idle and not scheduler._timelines.untidy, 30)
    assert ticket.cached_tokens == cached
    return ticket.timings.prompt_ms


def test_a_system_prompt_is_paid_for_once(tmp_path):
    """Beside what the user's own tokens cost in any case. Figures of larger models: docs/prefix_cache.md."""
    engine = load(tmp_path, tiny.qwen3_moe(**SHAPE))
    prompts = iter(chats(4096, 2000, 40))
    others = iter(chats(4096, 0, 40, tail=400, seed=1))
    questions = iter(chats(4096, 0, 40, tail=20, seed=2))
    took = {kind: list[float]() for kind in ("first", "question", "session", "memory", "disk")}
    for number in range(TRIES):
        folder = tmp_path / f"cache {number}"
        scheduler = Scheduler(engine, 2, cache_dir=folder)
        took["first"].append(ask(scheduler, next(prompts), 0))
        took["session"].append(ask(scheduler, next(prompts), 1984))
        for _ in range(2):
            ask(scheduler, next(others), 0)
        took["question"].append(ask(scheduler, next(questions), 0))
        took["memory"].append(ask(scheduler, next(prompts), 1984))
        files = scheduler._timelines._prefixes._files
        wait_for(lambda files=files: not files.pending, 30)
        scheduler.close()
        scheduler = Scheduler(engine, 2, cache_dir=folder)
        took["disk"].append(ask(scheduler, next(prompts), 1984))
        scheduler.close()
        if cheap(took):
            break
    assert cheap(took), took


def cheap(took):
    first, question = min(took["first"]), min(took["question"])
    shares = {"session": 0.05, "memory": 0.05, "disk": 0.15}
    return all(min(took[kind]) - question < share * first for kind, share in shares.items())


@pytest.mark.parametrize("family", ["qwen3_5_moe_text", "granitemoehybrid"])
def test_states_are_kept_where_prompts_part(family, tmp_path):
    """A state of each length would be too much: the second prompt that begins alike shows where one is worth it."""
    engine = load(tmp_path, tiny_families.quantizable(family))
    prompts = chats(200, 300, 6, tail=70)
    scheduler = Scheduler(engine, 1, cache_dir=tmp_path / "cache")
    ask(scheduler, prompts[0], 0)
    ask(scheduler, prompts[1], 0)
    for prompt in prompts[2:4]:
        ask(scheduler, prompt, 288)
    files = scheduler._timelines._prefixes._files
    wait_for(lambda: not files.pending)
    scheduler.close()
    scheduler = Scheduler(engine, 1, cache_dir=tmp_path / "cache")
    ask(scheduler, prompts[4], 288)
    scheduler.close()


@pytest.mark.parametrize("family", ["qwen3_5_moe_text", "granitemoehybrid", "gpt_oss"])
def test_several_answers_are_those_of_each_alone(family, tmp_path):
    """To the token and the bit of its log probability, though the first one has gone on before others begin."""
    small = family == "gpt_oss"
    engine = load(tmp_path, (tiny_families.small if small else tiny_families.quantizable)(family))
    prompt = chats(200, 100, 1)[0]
    several = [SamplingParams(temperature=1.0, seed=seed, max_tokens=12, logprobs=True) for seed in (1, 2, 3, 4)]
    alone = []
    for params in several:
        scheduler = Scheduler(engine, 1, prefix_budget_bytes=0)
        alone.append(answer(scheduler.submit(prompt, params)))
        scheduler.close()
    scheduler = Scheduler(engine, 2)
    tickets = scheduler.submit_all(prompt, several)
    assert [answer(ticket) for ticket in tickets] == alone
    assert [ticket.cached_tokens for ticket in tickets] == [0] + 3 * [len(prompt)]
    scheduler.close()


def answer(ticket):
    return [(token.token_id, token.logprob) for token in ticket.events(20.0) if token is not None]
