"""Answers with guesses are those without, whatever ends them, and so are their sessions; over a toy bundle."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from guesses import Free, answer
from tiny_bundle import WORDS, ids_of, text_of, write_tiny_bundle

from moedge.runtime import Engine, SamplingParams
from moedge.runtime.program import Interrupted, Program
from moedge.runtime.prompt_lookup import StepCost
from moedge.runtime.sampling import MOST_GUESSES, BrokenLogits
from moedge.runtime.steps import run_step, take_step

GREEDY = SamplingParams(temperature=0, max_tokens=40)
WARM = SamplingParams(temperature=2.5, max_tokens=40, ignore_eos=True, seed=5)
LOOP = "abcdefgh"
PROMPT = ids_of("cdefghabcdab")
END = WORDS.token_to_id("<|eos|>")


def looping(folder, **options):
    """The toy that says abcdefghabc..., after anything else an a, and never ends by itself."""
    ids = ids_of(LOOP)
    chain = dict.fromkeys(range(256), ids[0]) | dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    engine = Engine.load(write_tiny_bundle(folder, chain, **{"layout": "shared", **options}))
    engine.profile = replace(engine.profile, prefill_chunk=8)
    engine.step_cost = Free()
    return engine


def guessing(params, most=5):
    return replace(params, prompt_lookup_num_tokens=most)


@pytest.mark.parametrize("layout", ["rows", "shared"])
@pytest.mark.parametrize("most", [1, 5, MOST_GUESSES])
@pytest.mark.parametrize(
    "params",
    [
        GREEDY,
        WARM,
        replace(WARM, seed=6, top_k=4, top_p=0.9, min_p=0.01),
        replace(WARM, repetition_penalty=1.1, presence_penalty=0.5, frequency_penalty=0.1),
        replace(GREEDY, frequency_penalty=1.5),
        replace(GREEDY, logit_bias={ids_of("x")[0]: 15.0}),
        replace(GREEDY, stop=("habc",)),
        replace(WARM, stop=("da", "fg")),
        replace(GREEDY, max_tokens=1),
        replace(GREEDY, max_tokens=2),
        replace(GREEDY, max_tokens=None),
    ],
    ids=lambda params: None,
)
def test_tokens_and_session_are_those_without_guesses(tmp_path, layout, most, params):
    engine = looping(tmp_path, layout=layout)
    plain, held, _ = answer(engine, PROMPT, params)
    tokens, held_too, (guessed, right) = answer(engine, PROMPT, guessing(params, most))
    assert tokens == plain
    assert held_too == held
    assert 0 <= right <= guessed
    if layout == "shared" and params.max_tokens == 40 and not params.stop:  # rows say other things after a while
        assert right > 0


def test_most_of_what_repeats_itself_is_guessed(tmp_path):
    engine = looping(tmp_path)
    tokens, _, (guessed, right) = answer(engine, PROMPT, guessing(GREEDY))
    assert text_of(tokens) == ("cdefghab" * 5)
    assert (guessed, right) == (39, 31)  # 40 tokens in 9 runs


def test_wrong_guesses_leave_no_trace_in_the_cache(tmp_path):
    engine = looping(tmp_path)
    session = engine.session()
    wrong = [*PROMPT, *ids_of("hax"), *ids_of("hazab")]  # after "ab" came x and z; the model says c
    tokens, _, (guessed, right) = answer(engine, wrong, guessing(replace(GREEDY, max_tokens=9)), session)
    assert guessed > right
    np.testing.assert_allclose(
        session.decode(tokens[-1].token_id), engine.score([*wrong, *(t.token_id for t in tokens)])[-1], atol=1e-4
    )


def test_log_probabilities_come_with_guesses_too(tmp_path):
    engine = looping(tmp_path)
    params = replace(WARM, top_logprobs=3)
    plain, _, _ = answer(engine, PROMPT, params)
    tokens, _, (_, right) = answer(engine, PROMPT, guessing(params))
    assert right > 5
    assert [token.token_id for token in tokens] == [token.token_id for token in plain]
    for token, other in zip(tokens, plain, strict=True):
        assert token.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [i for i, _ in token.top_logprobs] == [i for i, _ in other.top_logprobs]


def test_the_end_ends_it_in_the_middle_of_guesses(tmp_path):
    ids = ids_of("abcd")
    engine = Engine.load(write_tiny_bundle(tmp_path, dict(zip(ids, [*ids[1:], END], strict=True))))
    engine.step_cost = Free()
    prompt = [*ids, END, *ids_of("xy"), ids[0]]
    plain, held, _ = answer(engine, prompt, GREEDY)
    tokens, held_too, (guessed, right) = answer(engine, prompt, guessing(GREEDY, 8))
    assert (tokens, held_too) == (plain, held)
    assert tokens[-1].finish_reason == "stop"
    assert (guessed, right) == (8, 2)  # c was told b by a; then d and the end were right, and nothing after it was fed
    assert held_too[1] == END
    assert END not in held_too[0][len(prompt) :]


@pytest.mark.parametrize("room", range(6))
def test_guesses_do_not_exceed_the_context(tmp_path, room):
    engine = looping(tmp_path, context_length=len(PROMPT) + room)
    params = replace(GREEDY, max_tokens=None)
    plain, held, _ = answer(engine, PROMPT, params)
    tokens, held_too, _ = answer(engine, PROMPT, guessing(params, MOST_GUESSES))
    assert (tokens, held_too) == (plain, held)
    assert len(tokens) == room + 1


def test_guesses_fit_into_a_run(tmp_path):
    engine = looping(tmp_path)
    assert max(len(run) for run in runs_of(engine, PROMPT, guessing(GREEDY, MOST_GUESSES), chunk=3)) == 3


def runs_of(engine, prompt, params, chunk):
    """The tokens of each run of an answer."""
    session, runs = engine.session(), []
    session.chunk = chunk
    run = session.run

    def recorded(token_ids, logits=None):
        runs.append(list(token_ids))
        return run(token_ids, logits)

    session.run = recorded
    answer(engine, prompt, params, session)
    return runs


def test_a_generation_abandoned_among_guesses_can_be_continued(tmp_path):
    engine = looping(tmp_path)
    plain = text_of(answer(engine, PROMPT, replace(GREEDY, max_tokens=20))[0])
    for taken in range(1, 12):
        session = engine.session()
        generation = engine.generate(PROMPT, guessing(GREEDY), session)
        shown = [next(generation) for _ in range(taken)]
        generation.close()
        assert session.tokens == [*PROMPT, *(token.token_id for token in shown[:-1])]
        rest = list(engine.generate([], replace(GREEDY, max_tokens=20 - taken), session))
        assert text_of([*shown, *rest]) == plain


def test_an_interrupted_run_of_guesses_adds_nothing(tmp_path):
    engine = looping(tmp_path)
    session = engine.session()
    generation = engine.generation(session, PROMPT, guessing(GREEDY))
    tokens = []
    while len(tokens) < 8:
        tokens += take_step(session, generation, run_step(session, generation))
    held = [*PROMPT, *(token.token_id for token in tokens[:-1])]
    session.interrupt()
    with pytest.raises(Interrupted):
        run_step(session, generation)
    assert (session.tokens, session.pending) == (held, tokens[-1].token_id)
    again = list(engine.generate([], replace(GREEDY, max_tokens=4), session))
    assert text_of([*tokens, *again]) == ("cdefghab" * 5)[: len(tokens) + 4]


def test_what_is_no_number_after_guesses_fails_after_the_tokens_before_it(tmp_path):
    ids = ids_of("abcd")
    chain = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    engine = Engine.load(write_tiny_bundle(tmp_path, chain, poison=ids[3]))
    engine.step_cost = Free()
    prompt = [*ids[:3], *ids_of("x"), ids[0]]  # d itself cannot stand in it
    session, shown = engine.session(), []
    with pytest.raises(BrokenLogits):
        shown += [*engine.generate(prompt, GREEDY, session)]
    for params in (GREEDY, guessing(GREEDY)):
        shown = []
        with pytest.raises(BrokenLogits):
            for token in engine.generate(prompt, params):
                shown.append(token)
        assert text_of(shown) == "bcd"


def test_nothing_is_guessed_unless_asked(tmp_path):
    engine = looping(tmp_path)
    assert answer(engine, PROMPT, GREEDY)[2] == (0, 0)
    assert all(len(run) == 1 for run in runs_of(engine, PROMPT, GREEDY, chunk=100)[1:])


def test_steps_measure_what_guesses_cost(tmp_path):
    engine = looping(tmp_path)
    engine.step_cost = StepCost()
    answer(engine, PROMPT, GREEDY)
    assert engine.step_cost._one is None  # who asks for no guesses pays for no measuring
    answer(engine, PROMPT, guessing(GREEDY))
    assert engine.step_cost._one is not None


def test_a_session_keeps_no_memory_of_the_logits_of_guesses(tmp_path, monkeypatch):
    """Which at 151,936 tokens and 32 guesses is 20 MB."""
    engine, seen, run = looping(tmp_path), [], Program.run

    def look(program, lane, token_ids, past, logits=None):
        if logits is not None:
            seen.append(weakref.ref(logits if logits.base is None else logits.base))
        run(program, lane, token_ids, past, logits)

    monkeypatch.setattr(Program, "run", look)
    session = engine.session()
    list(engine.generate(PROMPT, guessing(GREEDY), session))
    gc.collect()
    assert session.length
    assert seen
    assert not any(each() is not None for each in seen)
