"""Generation: what is fed, what is taken, when it is over, by hand; no model and no session."""

import tracemalloc

import numpy as np
import pytest

from moedge.runtime.generation import Generation
from moedge.runtime.sampling import SamplingParams

END = 7
WORDS = ("a", "b", "c", "d", "e", "f", "g", "<end>")


class Words:
    """Shows a word a token, but holds back what a later token could change."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, token_id: int) -> str:
        shown, self._held = self._held, WORDS[token_id]
        return shown

    def flush(self) -> str:
        shown, self._held = self._held, ""
        return shown


def begin(token_ids=(0, 1), room=100, before=(), vocab_size=8, **params):
    return Generation(
        token_ids,
        SamplingParams(**{"temperature": 0, **params}),
        Words(),
        vocab_size=vocab_size,
        eos_token_ids=frozenset({END}),
        room=room,
        before=before,
    )


def logits_of(token_id, vocab_size=8):
    logits = np.zeros(vocab_size, np.float32)
    logits[token_id] = 9
    return logits


def test_the_prompt_is_fed_in_pieces_then_what_was_sampled():
    generation = begin([0, 1, 2, 3, 4])
    assert [generation.feed(2), generation.ready] == [[0, 1], False]
    assert [generation.feed(2), generation.ready] == [[2, 3], False]
    assert [generation.feed(2), generation.ready] == [[4], True]
    assert generation.take(logits_of(5)).token_id == 5
    assert not generation.ready
    assert [generation.feed(2), generation.ready] == [[5], True]


def test_text_lags_behind_and_is_whole_at_the_end():
    generation = begin()
    taken = [generation.take(logits_of(token_id)) for token_id in (0, 1, 2, END)]
    assert [token.text for token in taken] == ["", "a", "b", "c"]
    assert [token.finish_reason for token in taken] == [None, None, None, "stop"]
    assert generation.finish_reason == "stop"


def test_the_end_is_a_token_as_others_where_it_is_ignored():
    generation = begin(ignore_eos=True)
    taken = [generation.take(logits_of(token_id)) for token_id in (END, 0)]
    assert [token.finish_reason for token in taken] == [None, None]
    assert taken[1].text == "<end>"


@pytest.mark.parametrize(
    ("room", "max_tokens", "count"), [(100, 3, 3), (2, None, 3), (0, None, 1), (2, 9, 3), (9, 1, 1)]
)
def test_it_ends_at_the_limit_or_with_the_context(room, max_tokens, count):
    generation = begin(room=room, max_tokens=max_tokens)
    taken = []
    while generation.finish_reason is None:
        taken.append(generation.take(logits_of(4)))
    assert len(taken) == count
    assert taken[-1].finish_reason == "length"
    assert "".join(token.text for token in taken) == "e" * count


def test_a_stop_string_ends_it_and_is_not_shown():
    generation = begin(stop=("cd",))
    taken = [generation.take(logits_of(token_id)) for token_id in (1, 2, 3, 4)]
    assert [token.text for token in taken] == ["", "b", "", ""]
    assert [token.finish_reason for token in taken] == [None, None, None, "stop"]


def test_penalties_count_what_was_there_before():
    close = logits_of(5) + logits_of(6) * np.float32(0.9)
    for before, chosen in (((), 5), ((5,), 6), ((5, 6), 5)):
        assert begin(before=before, repetition_penalty=2.0).take(close).token_id == chosen


def test_log_probabilities_are_computed_for_whom_asks_alone():
    assert begin().take(logits_of(5)).logprob is None
    assert begin(logprobs=True).take(logits_of(5)).logprob == pytest.approx(9 - np.log(np.exp(9) + 7), abs=1e-5)
    token = begin(top_logprobs=2).take(logits_of(5))
    assert [token_id for token_id, _ in token.top_logprobs] == [5, 0]
    assert token.top_logprobs[0] == (5, token.logprob)


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"logprobs": True},
        {"top_logprobs": 5},
        {"repetition_penalty": 1.1, "presence_penalty": 0.5},
        {"temperature": 0.8},
        {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.01},
        {"temperature": 0.8, "top_p": 0.95},
    ],
)
def test_no_token_takes_memory_of_the_vocabularys_size(wishes):
    size = 1_000_000
    generation = begin(vocab_size=size, **wishes)
    logits = logits_of(5, size)
    logits[len(WORDS) :] = np.linspace(-60, -90, size - len(WORDS))  # what is drawn has a text
    generation.take(logits)
    tracemalloc.start()
    generation.take(logits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * size  # a byte each, to find which they are
