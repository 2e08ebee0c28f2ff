"""A session: chunks, rollback, generation, interruption, over a toy bundle."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from tiny_bundle import CONFIDENCE, engine_that_says, ids_of, text_of

from moedge.devices.errors import MoedgeError
from moedge.runtime import SamplingParams
from moedge.runtime.program import Interrupted
from moedge.runtime.sampling import BrokenLogits

GREEDY = SamplingParams(temperature=0)


def step(engine, session, token_ids, params):
    """The steps of a generation as the scheduler takes them: None after a part of the prompt, then the tokens."""
    generation = engine.generation(session, token_ids, params)
    while generation.finish_reason is None:
        logits = session.run(generation.feed(session.chunk))
        token = generation.take(logits) if generation.ready else None
        session.pending = token.token_id if token else session.pending
        yield token


@pytest.mark.parametrize("layout", ["rows", "shared"])
def test_chunks_steps_and_scores_agree(tmp_path, layout):
    engine = engine_that_says(tmp_path, "abc", layout=layout)
    ids = np.random.default_rng(0).integers(0, 200, 23).tolist()
    scores = engine.score(ids)
    assert scores.shape == (23, engine.manifest.model.vocab_size)
    assert scores.dtype == np.float32
    session = engine.session()
    np.testing.assert_allclose(session.prefill(ids[:10]), scores[9], atol=1e-4)
    for i in range(10, 23):
        np.testing.assert_allclose(session.decode(ids[i]), scores[i], atol=1e-4)
    engine.profile = replace(engine.profile, prefill_chunk=100)
    np.testing.assert_allclose(engine.score(ids), scores, atol=1e-4)


@pytest.mark.parametrize("layout", ["rows", "shared"])
def test_rollback_and_fork_are_separate_timelines(tmp_path, layout):
    engine = engine_that_says(tmp_path, "abc", layout=layout)
    session = engine.session()
    session.prefill([1, 2, 3, 4])
    fork = session.fork()
    on = session.decode(5)
    np.testing.assert_array_equal(fork.decode(5), on)
    session.rollback(2)
    assert (session.tokens, fork.tokens) == ([1, 2], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(session.prefill([3, 4, 5]), on, atol=1e-5)
    np.testing.assert_allclose(fork.decode(6), engine.score([1, 2, 3, 4, 5, 6])[-1], atol=1e-4)
    with pytest.raises(MoedgeError, match="cannot roll back to 9 tokens"):
        session.rollback(9)


def test_logits_stay_what_they_were(engine):
    session = engine.session()
    first = session.prefill([1, 2])
    kept = first.copy()
    session.decode(3)
    np.testing.assert_array_equal(first, kept)


def test_generation_ends_at_end_of_sequence_without_text(engine):
    tokens = list(engine.generate(ids_of("hello"), GREEDY))
    assert text_of(tokens) == " wörld!"
    assert [token.finish_reason for token in tokens] == [None] * (len(tokens) - 1) + ["stop"]
    assert tokens[-1].text == ""
    assert {token.logprob for token in tokens} == {None}  # nobody asked


def test_a_character_of_two_tokens_is_shown_once(engine):
    pieces = [token.text for token in engine.generate(ids_of("hello"), GREEDY)]
    assert len(ids_of("ö")) == 2
    assert "ö" in pieces
    assert pieces[pieces.index("ö") - 1] == ""


def test_the_cut_off_half_of_a_character_is_not_lost_silently(engine):
    tokens = list(engine.generate(ids_of("hello"), replace(GREEDY, max_tokens=3)))
    assert text_of(tokens) == " w\N{REPLACEMENT CHARACTER}"
    assert tokens[-1].finish_reason == "length"


def test_max_tokens_counts_tokens(engine):
    tokens = list(engine.generate(ids_of("hello"), replace(GREEDY, max_tokens=2)))
    assert (text_of(tokens), tokens[-1].finish_reason) == (" w", "length")


@pytest.mark.parametrize(("stop", "shown"), [("örl", " w"), (" w", ""), ("d!", " wörl"), ("nothing", " wörld!")])
def test_text_ends_right_before_a_stop_string(engine, stop, shown):
    tokens = list(engine.generate(ids_of("hello"), replace(GREEDY, stop=(stop,))))
    assert text_of(tokens) == shown
    assert tokens[-1].finish_reason == "stop"


def test_a_stop_string_that_did_not_come_is_shown_at_the_limit(engine):
    tokens = list(engine.generate(ids_of("hello"), replace(GREEDY, stop=(" wx",), max_tokens=2)))
    assert [token.text for token in tokens] == ["", " w"]


def test_steps_pause_between_chunks_only(engine):
    session = engine.session()
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, *ids_of("hello")]  # 11 tokens in chunks of 4
    lengths = []
    for _ in step(engine, session, prompt, replace(GREEDY, max_tokens=2)):
        lengths.append(session.length)
    assert lengths == [4, 8, 11, 12]


def test_two_sessions_interleave(engine):
    runs = [step(engine, engine.session(), ids_of("hello"), GREEDY) for _ in range(2)]
    texts = ["", ""]
    for pair in zip(*runs, strict=True):
        for i, token in enumerate(pair):
            texts[i] += token.text if token else ""
    assert texts == [" wörld!"] * 2


def test_the_last_token_is_fed_by_the_next_generation(engine):
    session = engine.session()
    first = list(engine.generate(ids_of("hello"), replace(GREEDY, max_tokens=2), session))
    assert session.tokens == ids_of("hello w")[:-1]
    assert session.pending == first[-1].token_id
    rest = list(engine.generate([], replace(GREEDY, max_tokens=2, stop=("r",)), session))
    assert text_of(rest) == "ö"
    assert session.tokens == [*ids_of("hello w"), ids_of("ö")[0]]


def test_after_the_end_the_end_token_is_in_the_next_context(engine):
    session = engine.session()
    end = list(engine.generate(ids_of("hello"), GREEDY, session))[-1].token_id
    assert end in engine.eos_token_ids
    list(engine.generate(ids_of("hello"), GREEDY, session))
    assert session.tokens[: len(ids_of("hello wörld!")) + 2] == [*ids_of("hello wörld!"), end, *ids_of("hello")]


def test_an_abandoned_generation_can_be_continued(engine):
    session = engine.session()
    generation = engine.generate(ids_of("hello"), GREEDY, session)
    shown = next(generation).text
    generation.close()
    assert shown + text_of(list(engine.generate([], GREEDY, session))) == " wörld!"


def test_resume_keeps_the_common_prefix(engine):
    session = engine.session()
    session.prefill([1, 2, 3, 4, 5])
    assert session.resume([1, 2, 3, 9, 9]) == [9, 9]
    assert session.tokens == [1, 2, 3]
    assert session.resume([1, 2]) == [2]  # one token is left to compute logits from
    assert session.tokens == [1]
    assert session.resume([7]) == [7]
    assert session.length == 0


def test_a_second_turn_feeds_its_prompt_and_not_the_last_token_of_the_first(engine):
    session = engine.session()
    list(engine.generate(ids_of("hello"), replace(GREEDY, max_tokens=2), session))
    prompt = ids_of("hey wö")  # another chat, which begins alike
    rest = session.resume(prompt)
    assert session.pending is None
    (first, _) = engine.generate(rest, replace(GREEDY, max_tokens=2), session)
    assert session.tokens == [*prompt, first.token_id]
    session.rollback(len(prompt))
    assert session.pending is None
    assert session.tokens == prompt


def test_a_fork_continues_the_generation_as_its_session_does(engine):
    session = engine.session()
    list(engine.generate(ids_of("hello"), replace(GREEDY, max_tokens=2), session))
    fork = session.fork()
    answers = [text_of(list(engine.generate([], GREEDY, timeline))) for timeline in (session, fork)]
    assert answers == ["örld!"] * 2
    assert session.tokens == fork.tokens == ids_of("hello wörld!")


def test_nothing_to_start_from_is_refused(engine):
    with pytest.raises(MoedgeError, match="no token to start from"):
        engine.generate([], GREEDY)
    with pytest.raises(MoedgeError, match="no token to start from"):
        engine.score([])


def test_ids_outside_the_vocabulary_are_refused(engine):
    size = engine.manifest.model.vocab_size
    for bad in (size, -1):
        with pytest.raises(MoedgeError, match=f"token id {bad} is outside the vocabulary of {size}"):
            engine.generate([1, bad], GREEDY)


def test_the_context_limit(tmp_path):
    engine = engine_that_says(tmp_path, "hello wörld!", context_length=10)
    session = engine.session()
    with pytest.raises(MoedgeError, match="prompt has 11 tokens, the context is 10"):
        engine.generate([1] * 11, GREEDY, session)
    assert session.length == 0
    for prompt, answers in ((10, 1), (9, 2)):
        tokens = list(engine.generate([1] * (prompt - 1) + ids_of("hello"), GREEDY))
        assert len(tokens) == answers
        assert tokens[-1].finish_reason == "length"


def test_logits_that_are_not_numbers_end_that_generation_only(tmp_path):
    engine = engine_that_says(tmp_path, "hello", poison=ids_of("!")[0])
    healthy = engine.session()
    healthy.prefill([1, 2])
    with pytest.raises(BrokenLogits, match="not numbers"):
        list(engine.generate(ids_of("!"), GREEDY))
    np.testing.assert_allclose(healthy.decode(3), engine.score([1, 2, 3])[-1], atol=1e-4)


def test_same_seed_same_answer(tmp_path):
    engine = engine_that_says(tmp_path, "ab")
    runs = []
    for seed in (3, 3, 4):
        params = SamplingParams(temperature=5.0, seed=seed, max_tokens=20, ignore_eos=True)
        runs.append([token.token_id for token in engine.generate([5, 6], params)])
    assert runs[0] == runs[1] != runs[2]
    assert len(runs[0]) == 20


def test_repetition_penalty_counts_what_the_session_already_holds(tmp_path):
    engine = engine_that_says(tmp_path, "ab")
    session = engine.session()
    session.prefill(ids_of("b"))
    [rival] = ids_of("c")
    params = replace(GREEDY, repetition_penalty=10.0, logit_bias={rival: CONFIDENCE / 2}, max_tokens=1)
    (token,) = engine.generate(ids_of("a"), params, session)
    assert token.token_id == rival
    (token,) = engine.generate(ids_of("a"), params)
    assert token.token_id == ids_of("b")[0]


def test_log_probabilities_come_to_whom_asks(engine):
    tokens = list(engine.generate(ids_of("hello"), replace(GREEDY, logprobs=True)))
    assert all(-1e-3 < token.logprob <= 0 for token in tokens)
    assert {token.top_logprobs for token in tokens} == {()}


def test_top_logprobs_name_the_alternatives(engine):
    (token,) = engine.generate(ids_of("hello"), replace(GREEDY, top_logprobs=3, max_tokens=1))
    assert len(token.top_logprobs) == 3
    assert token.top_logprobs[0] == (token.token_id, token.logprob)
    values = [logprob for _, logprob in token.top_logprobs]
    assert values == sorted(values, reverse=True)


def test_prefill_interrupted_between_chunks_goes_on(engine):
    session = engine.session()
    steps = step(engine, session, list(range(12)), GREEDY)
    next(steps)
    session.interrupt()
    with pytest.raises(Interrupted):
        next(steps)
    assert session.tokens == [0, 1, 2, 3]
    logits = session.prefill(list(range(4, 12)))
    np.testing.assert_allclose(logits, engine.score(range(12))[-1], atol=1e-4)


def test_a_run_that_fails_raises_and_writes_nothing_to_the_terminal(engine, capfd):
    session = engine.session()
    with pytest.raises(Exception, match="Gather"):
        session.run([10**6], np.empty((1, engine.manifest.model.vocab_size), np.float32))
    assert capfd.readouterr().err == ""


def test_interrupt_ends_a_generation_and_leaves_the_session_usable(tmp_path):
    engine = engine_that_says(tmp_path, "ab", context_length=1_000_000)
    session = engine.session()
    params = SamplingParams(temperature=5.0, ignore_eos=True)
    seen = []

    generation = engine.generate([5, 6], params, session)

    def work() -> None:
        try:
            list(generation)
        except Interrupted:
            seen.append("interrupted")

    thread = threading.Thread(target=work)
    thread.start()
    while session.length < 10:
        time.sleep(0.001)
    session.interrupt()
    thread.join(60)
    assert seen == ["interrupted"]
    held = list(session.tokens)
    assert session.pending is not None
    (token,) = engine.generate([], replace(params, max_tokens=1, temperature=0), session)
    assert token.token_id == int(engine.score([*held, session.tokens[-1]])[-1].argmax())
