"""The example's training data: two clean sides of phrases and small talk, conversations that call nothing, answers."""

import random
import zlib
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "edge_assistant"
pytestmark = pytest.mark.usefixtures("example_on_path")
LANGUAGES = ("en", "fr")


@pytest.fixture(scope="module")
def talks() -> list[Any]:
    import data

    rng = random.Random(11)
    return [data.make_talk(rng, held_out) for held_out in (False, True) for _ in range(1500)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_skeleton_is_on_both_sides_and_both_sides_have_some(language: str) -> None:
    import asks

    train, test = asks.SKELETONS[language, False], asks.SKELETONS[language, True]
    everything = {s for found in train.values() for s in found}
    for key in train:
        assert train[key] and test[key], key
        assert not everything & set(test[key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_phrases_are_split_as_before_the_further_ones_came(language: str) -> None:
    """The run starts from a checkpoint that was trained on their training side."""
    import asks

    for key, patterns in asks.LANGUAGES[language].PHRASES.items():
        every = sorted({s for p in patterns for s in asks.expand(p)}, key=lambda s: zlib.crc32(s.encode()))
        border = max(1, len(every) // 7)
        known = set(" ".join(every[border:]).split())
        tested = {s for s in every[:border] if set(s.split()) <= known} - {asks.DEMO}
        assert tested and tested <= set(asks.SKELETONS[language, True][key]), key
        assert set(every) - tested <= set(asks.SKELETONS[language, False][key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_further_phrase_of_training_holds_a_tested_one_and_no_tested_one_lies_in_a_first_one(language: str) -> None:
    import asks

    first = {s for patterns in asks.LANGUAGES[language].PHRASES.values() for p in patterns for s in asks.expand(p)}
    train = {s for found in asks.SKELETONS[language, False].values() for s in found}
    test = {s for found in asks.SKELETONS[language, True].values() for s in found}
    assert len(train - first) > 1000 and len(test - first) > 100
    for further in train - first:
        assert not [s for s in test if f" {s} " in f" {further} "], further
    for tested in test - first:
        assert not [s for s in train & first if f" {tested} " in f" {s} "], tested


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_opening_makes_a_tested_phrase_of_a_trained_one(language: str) -> None:
    import asks

    test = {s for found in asks.SKELETONS[language, True].values() for s in found}
    train = [s for found in asks.SKELETONS[language, False].values() for s in found]
    openings = {prefix for prefix in asks.LANGUAGES[language].PREFIXES if prefix}
    assert not [opening + s for opening in openings for s in train if opening + s in test]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_intent_of_small_talk_has_phrasings_and_a_sentence(language: str) -> None:
    import talk

    for verdict, found in talk.PHRASINGS[language, False].items():
        assert found, verdict
        assert talk.answer_of(language, verdict).endswith((".", "!", "?")), verdict
        assert "{" not in talk.answer_of(language, verdict), verdict
    assert talk.answer_of(language, talk.UNCLEAR).endswith(".")
    module = talk.LANGUAGES[language]
    assert module.TALK.keys() == module.TALK_ANSWERS.keys()


def test_both_languages_talk_about_the_same() -> None:
    import talk

    assert talk.talk_en.TALK.keys() - talk.talk_fr.TALK.keys() == {"foreign"}
    assert not talk.talk_fr.TALK.keys() - talk.talk_en.TALK.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_tested_small_talk_is_never_drawn_for_training(language: str) -> None:
    import talk

    sides = {
        side: {talk.normalized(s) for found in talk.PHRASINGS[language, side].values() for s in found}
        for side in (False, True)
    }
    assert len(sides[True]) > 150 and not sides[False] & sides[True]
    rng = random.Random(5)
    drawn = {talk.normalized(talk.draw_talk(rng, language).words) for _ in range(20000)}
    assert not drawn & sides[True]


def test_tested_small_talk_is_drawn_as_it_is_written() -> None:
    import talk

    rng = random.Random(6)
    plain = {talk.normalized(s) for s in talk.PHRASINGS["en", True]["talk hello"]}
    drawn = [talk.draw_talk(rng, "en", held_out=True) for _ in range(3000)]
    greetings = [t for t in drawn if t.verdict == "talk hello"]
    assert greetings and all(talk.normalized(t.words) in plain for t in greetings)
    assert all(t.answer == "Hello! What can I do for you?" for t in greetings)


def test_a_typing_mistake_changes_one_place_of_a_word() -> None:
    import talk

    rng = random.Random(7)
    found = {talk._mistype(rng, "hello") for _ in range(200)}
    assert found == {"hllo", "heello", "hlelo", "helo", "helllo"}
    assert talk._mistype(rng, "ok no") == "ok no"


def test_conversations_of_talk_call_nothing_in_their_last_turn(talks: list[Any]) -> None:
    for sample in talks:
        last = max(i for i, m in enumerate(sample.messages) if m["role"] == "user")
        assert len(sample.messages) == last + 2 and not sample.calls
        answer = sample.messages[-1]
        assert not answer.get("tool_calls") and answer["content"] and answer["reasoning_content"]


def test_conversations_without_tools_call_nothing_unless_tools_served_the_turns_before(talks: list[Any]) -> None:
    bare = [sample for sample in talks if not sample.tools]
    called = [sample for sample in bare if any(m.get("tool_calls") for m in sample.messages)]
    assert len(bare) > 1500 and 0 < len(called) < len(bare) // 6
    assert {sample.tags["turn"] for sample in bare} == {1, 2, 3}
    requests = [sample for sample in bare if sample.tags["talk"].startswith("request")]
    assert len(requests) > 500
    for sample in requests:
        thoughts = sample.messages[-1]["reasoning_content"].splitlines()
        assert all(thought.endswith(" none") for thought in thoughts), thoughts
        assert sample.messages[-1]["content"] in ("I have no tool for that.", "Je n'ai pas d'outil pour cela.")


def test_training_text_ends_in_the_last_turn() -> None:
    """Thinking before is emptied: a text cut at an earlier turn's calls would teach to call without a thought."""
    import data

    rng = random.Random(8)
    for _ in range(1000):
        text = data.training_text(rng, 1.0)
        own = text[text.rfind("<|im_user|>") :]
        assert own.count("<think></think>") <= 1
        assert not own.split("<|im_assistant|>assistant<|im_middle|>")[1].startswith("<think></think>")


def test_calls_are_numbered_through_the_conversation() -> None:
    import data

    rng = random.Random(9)
    samples = [data.make_sample(rng, 1.0) for _ in range(1000)]
    several = 0
    for sample in samples:
        ids = [call["id"] for m in sample.messages for call in m.get("tool_calls", [])]
        assert [int(name.rsplit(":", 1)[1]) for name in ids] == list(range(len(ids)))
        several += len(ids) > 3
    assert several > 10


def test_fresh_requests_hold_talk_with_its_answer_and_name_their_seed() -> None:
    import evaluate

    requests = evaluate.make_requests(5, 20, 10, 30)
    assert [bool(r["calls"]) for r in requests] == [True] * 20 + [False] * 40
    assert all(r["tags"]["seed"] == 5 for r in requests)
    assert ["answer" in r for r in requests] == [False] * 30 + [True] * 30
    assert all(r["messages"][-1]["role"] == "user" for r in requests)
    assert requests == evaluate.make_requests(5, 20, 10, 30) != evaluate.make_requests(6, 20, 10, 30)


def test_talk_counts_when_nothing_is_called_and_no_tool_is_named() -> None:
    import evaluate

    request = evaluate.make_requests(5, 0, 0, 1)[0]
    call = "<|tool_call_begin|>functions.none:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    thinking = "<think>a -> none</think>"
    texts = [
        f"{thinking}{request['answer']}<|im_end|>",
        f"{thinking}Well.<|im_end|>",
        f"{thinking}functions.none{request['answer']}<|im_end|>",
        f"{thinking}<|tool_calls_section_begin|>{call}<|tool_calls_section_end|><|im_end|>",
    ]
    report = evaluate.score([request] * 4, lambda _: texts)
    assert report["exact"]["talk"]["right"] == 2
    assert report["exact"]["talk: expected sentence"]["right"] == 1
    assert report["errors"] == {"other sentence": 1, "tool named in talk": 1, "call where none is due": 1}
