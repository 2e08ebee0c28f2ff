"""Several sessions in one run: each gets what it would have got alone, and only what is its own changes."""

import json
import threading
from functools import partial

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from guesses import Told, answer
from live_server import leave
from native import needs_kernels

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.batch import Batch, Share
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.program import Interrupted
from moedge.runtime.sampling import SamplingParams
from moedge.runtime.scheduler import Scheduler
from moedge.runtime.session import Session
from moedge.runtime.steps import run_steps, take_step
from moedge.runtime.ticket import Failed

pytestmark = needs_kernels
FAMILIES = {
    "grouped": tiny.qwen3_moe,
    "windows": partial(tiny_families.small, "gpt_oss"),
    "latent": tiny.deepseek_v3,
    "convolutions": partial(tiny_families.small, "lfm2_moe"),
}
SLOTS = 4
VOCAB_SIZE = 264  # those of its byte tokenizer, which grammars need
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tiny.save_checkpoint(FAMILIES[request.param](vocab_size=VOCAB_SIZE), folder / "checkpoint", 0)
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan("int8"), "native"))
    return Engine.load(folder / "bundle", sessions=SLOTS)


def tokens_of(seed, count):
    return np.random.default_rng(seed).integers(2, 200, count).tolist()


def held(engine, token_ids):
    session = engine.session()
    if token_ids:
        session.prefill(token_ids)
    return session


def alone(engine, before, new, wanted):
    logits = np.empty((wanted, engine.manifest.model.vocab_size), np.float32)
    held(engine, before).run(new, logits)
    return logits


def test_rows_of_all_are_those_of_each_alone(engine):
    """One token, guesses' rows, a chunk of a prompt without logits, and the end of another prompt."""
    told = [(tokens_of(1, 5), tokens_of(2, 1), 1), (tokens_of(3, 20), tokens_of(4, 6), 6)]
    told += [(tokens_of(5, 7), tokens_of(6, 30), 0), ([], tokens_of(7, 18), 1)]
    sessions = [held(engine, before) for before, _, _ in told]
    assert len({session.cache.arena for session in sessions}) == 1
    batch = Batch(engine.program)
    found = batch.run([Share(session, new, wanted) for session, (_, new, wanted) in zip(sessions, told, strict=True)])
    assert [rows.shape[0] for rows in found] == [1, 6, 0, 1]
    for rows, (before, new, wanted) in zip(found, told, strict=True):
        if wanted:
            np.testing.assert_array_equal(rows, alone(engine, before, new, wanted))
    for session, (before, new, _) in zip(sessions, told, strict=True):
        assert session.tokens == [*before, *new]
        other = held(engine, before)
        other.run(new)  # cut as it was: attention rounds the rows of long pieces otherwise
        np.testing.assert_array_equal(session.decode(9), other.decode(9))


def test_sessions_join_leave_roll_back_and_fork_between_runs(engine):
    batch, sessions = Batch(engine.program), [held(engine, tokens_of(seed, 6 + seed)) for seed in range(3)]
    said = [list(session.tokens) for session in sessions]
    for step in range(6):
        company = [i for i in range(3) if step % 3 != i]
        batch.run([Share(sessions[i], [20 + step], 1) for i in company])
        for i in company:
            said[i].append(20 + step)
        if step == 3:
            sessions[0].rollback(4)
            said[0] = said[0][:4]
            sessions[1].decode(99)
            said[1].append(99)
    del sessions[2]
    fork = sessions[0].fork()  # in the slot that is free now
    assert fork.cache.arena is sessions[0].cache.arena
    timelines = [*sessions, fork]
    found = batch.run([Share(session, [7], 1) for session in timelines])
    for rows, tokens in zip(found, [said[0], said[1], said[0]], strict=True):
        np.testing.assert_array_equal(rows, alone(engine, tokens, [7], 1))


def test_sessions_beyond_the_arena_have_another_and_one_batch_runs_both(engine):
    sessions = [held(engine, tokens_of(seed, 9)) for seed in range(2 * SLOTS)]
    arenas = list(dict.fromkeys(session.cache.arena for session in sessions))
    assert len(arenas) >= 2
    batch = Batch(engine.program)
    for token in (5, 6):
        for arena in arenas:
            company = [i for i, session in enumerate(sessions) if session.cache.arena is arena]
            found = batch.run([Share(sessions[i], [token], 1) for i in company])
            for i, rows in zip(company, found, strict=True):
                expected = alone(engine, [*tokens_of(i, 9), 5], [6], 1) if token == 6 else rows
                np.testing.assert_array_equal(rows, expected)


def test_an_interrupted_run_adds_nothing_to_anyone(engine):
    sessions, batch = [held(engine, tokens_of(seed, 8)) for seed in range(2)], Batch(engine.program)
    batch.interrupt()
    with pytest.raises(Interrupted):
        batch.run([Share(session, [3], 1) for session in sessions])
    assert [session.length for session in sessions] == [8, 8]
    found = batch.run([Share(session, [3], 1) for session in sessions])
    for seed, rows in enumerate(found):
        np.testing.assert_array_equal(rows, alone(engine, tokens_of(seed, 8), [3], 1))


def test_answers_with_guesses_and_grammars_step_together(engine):
    grammar = AnswerGrammar("regex", "(one|two) [a-z]{3}, and that is all there is to say[.]")
    asked = [
        (tokens_of(1, 5), GREEDY),
        (tokens_of(2, 9), GREEDY),
        (tokens_of(3, 4), SamplingParams(seed=3, max_tokens=40, grammar=grammar)),
    ]
    expected = [answer(engine, prompt, params)[:2] for prompt, params in asked]
    batch, works = Batch(engine.program), []
    for prompt, params in asked:
        session = engine.session()
        session.chunk = 3
        works.append((session, engine.generation(session, prompt, params)))
    told = [token.token_id for token in expected[1][0]]
    works[1][1]._lookup = Told(told)
    tokens, runs = [[], [], []], 0
    while live := [i for i, (_, generation) in enumerate(works) if generation.finish_reason is None]:
        for i, rows in zip(live, run_steps(batch, [works[i] for i in live]), strict=True):
            tokens[i] += take_step(*works[i], rows)
        runs += 1
    assert tokens == [found for found, _ in expected]
    assert [(session.tokens, session.pending) for session, _ in works] == [after for _, after in expected]
    assert works[1][1].guessed > works[1][1].guessed_right > 0
    assert runs < sum(len(found) for found, _ in expected) / 2


def test_a_bundle_that_is_not_intact_adds_nothing_to_anyone(engine):
    """Not to a prompt that waits for no logits either, so that it can be run again."""

    class Damaged:
        def wait(self, gives_up):
            raise MoedgeError("it is not intact")

    sessions = [Session(engine.program, 8, Damaged()) for _ in range(2)]
    with pytest.raises(MoedgeError, match="not intact"):
        Batch(engine.program).run([Share(sessions[0], [3, 4], 0), Share(sessions[1], [5], 1)])
    assert [session.length for session in sessions] == [0, 0]


def test_sessions_of_two_arenas_are_not_run_as_one(engine):
    sessions = [engine.session() for _ in range(2 * SLOTS)]
    other = next(each for each in sessions if each.cache.arena is not sessions[0].cache.arena)
    with pytest.raises(AssertionError, match="another arena"):
        Batch(engine.program).run([Share(sessions[0], [3], 1), Share(other, [3], 1)])


def texts_of(ticket):
    events = [event for event in ticket.events(30.0) if event is not None]
    assert not any(isinstance(event, Failed) for event in events), events
    return [event.token_id for event in events]


def test_a_scheduler_gives_everyone_their_own_answer(engine, monkeypatch):
    params = [GREEDY, SamplingParams(seed=4, max_tokens=9, ignore_eos=True), GREEDY, GREEDY, GREEDY, GREEDY]
    prompts = [tokens_of(seed, 3 + 11 * seed) for seed in range(6)]
    expected = [[token.token_id for token in engine.generate(*each)] for each in zip(prompts, params, strict=True)]
    runs, began, release = list[int](), engine.program.run, threading.Event()

    def held_back(*arguments):
        assert release.wait(30)
        began(*arguments)

    def counted(road, arena, segments, logits):
        runs.append(len(segments))
        type(engine.program).run_segments(engine.program, road, arena, segments, logits)

    monkeypatch.setattr(engine.program, "run", held_back)
    monkeypatch.setattr(engine.program, "run_segments", counted)
    scheduler = Scheduler(engine, max_running=3)
    try:
        tickets = [scheduler.submit(*each) for each in zip(prompts, params, strict=True)]
        release.set()
        assert [texts_of(ticket) for ticket in tickets] == expected
        assert set(runs) == {2, 3}
    finally:
        scheduler.close()


def test_clients_at_once_get_the_texts_of_one_after_the_other(engine, run, ask):
    """Streams, one of which is left in the middle, and a prompt that is refused."""
    bodies = [  # that begin each in its own way: what is found in a cache is not fed, and so cut otherwise
        {"prompt": [seed, *tokens_of(seed, 1 + 9 * seed)], "max_tokens": 10, "temperature": 0, "stream": True}
        for seed in range(1, 7)
    ]

    def text(response):
        lines = [line[6:] for line in response.read().decode().splitlines() if line.startswith("data: {")]
        return "".join(json.loads(line)["choices"][0]["text"] for line in lines)

    port = run(engine, max_running=1, max_queued=4).port
    alone = [text(ask(port, body, "/v1/completions").getresponse()) for body in bodies]
    port = run(engine, max_running=SLOTS, max_queued=4).port
    left = bodies.pop()
    opened = [ask(port, body, "/v1/completions") for body in bodies]
    leaving = ask(port, {**left, "max_tokens": 30}, "/v1/completions")
    leaving.getresponse().readline()
    leave(leaving)
    refused = ask(port, {**bodies[0], "prompt": [5] * 10_000}, "/v1/completions").getresponse()
    assert refused.status == 400
    assert [text(connection.getresponse()) for connection in opened] == alone[:-1]
    assert len(set(alone)) > 1
