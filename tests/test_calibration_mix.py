"""The built-in calibration text: readable as it stands, of the sizes it is measured with, and nowhere repetitive."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from house import ROOT

MIX = ROOT / "export" / "calibration" / "mix"
# Kilobytes: less starves experts of tokens, more makes every export wait.
SIZES = {"prose.txt": (60, 85), "code.txt": (38, 55), "chat.jsonl": (30, 50)}
MAY_FOLLOW = {
    "system": {"user"},
    "user": {"assistant", "calls"},
    "assistant": {"user"},
    "calls": {"tool"},
    "tool": {"tool", "assistant", "calls"},
}
# A letter that tells each of these: French, German, Spanish, Portuguese, Polish, Russian, Ukrainian, Turkish, Arabic,
# Hebrew, Hindi, Bengali, Chinese, Japanese, Korean, Vietnamese, Greek, Czech, Swedish.
LETTERS = "éßñãłыєğعשहব们の한ệωěå"
UNWANTED = ("://", "www.", "\ufeff", "\ufffd", "\r")


def text_of(name: str) -> str:
    return (MIX / name).read_bytes().decode("utf-8")


def passages_of(name: str) -> list[str]:
    return text_of(name).split("\n---\n")


def conversations() -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of("chat.jsonl").splitlines()]


def said() -> Iterator[str]:
    for talk in conversations():
        yield from (message["content"] for message in talk["messages"])


def role_of(message: dict[str, Any]) -> str:
    return "calls" if message.get("tool_calls") else message["role"]


def test_the_mix_is_three_files_of_known_size() -> None:
    assert {path.name for path in MIX.iterdir()} == set(SIZES)
    for name, (least, most) in SIZES.items():
        assert least * 1000 <= len(text_of(name).encode()) <= most * 1000, name


@pytest.mark.parametrize("name", SIZES)
def test_text_is_clean(name: str) -> None:
    text = text_of(name)
    assert not [mark for mark in UNWANTED if mark in text]
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize(("name", "fewest"), [("prose.txt", 40), ("code.txt", 24)])
def test_passages_are_many_and_distinct(name: str, fewest: int) -> None:
    passages = passages_of(name)
    assert len(passages) >= fewest
    assert min(len(passage) for passage in passages) > 200
    assert len({passage.strip() for passage in passages}) == len(passages)
    openings = Counter(passage.strip()[:20] for passage in passages)
    assert max(openings.values()) == 1, openings.most_common(1)


def test_no_long_line_occurs_twice() -> None:
    texts = [text_of("prose.txt"), text_of("code.txt"), *said()]
    lines = Counter(line.strip() for text in texts for line in text.splitlines() if len(line.strip()) > 40)
    assert len(lines) > 750
    assert [line for line, times in lines.items() if times > 1] == []


def test_prose_never_says_seven_words_twice() -> None:
    words = text_of("prose.txt").split()
    runs = Counter(zip(*(words[start:] for start in range(7)), strict=False))
    tables = {"|", "---"}
    assert [" ".join(run) for run, times in runs.items() if times > 1 and not tables & set(run)] == []


def test_prose_is_in_many_scripts() -> None:
    text = text_of("prose.txt")
    for letter in LETTERS:
        assert letter in text, letter


def test_conversations_take_turns() -> None:
    for talk in conversations():
        roles = [role_of(message) for message in talk["messages"]]
        assert roles[0] in ("system", "user")
        assert roles[-1] == "assistant"
        assert 2 <= len(roles) - roles.count("system") <= 9
        assert all(
            after in MAY_FOLLOW[before] | ({"calls"} if before == "user" else set())
            for before, after in pairwise(roles)
        )
        # Some templates break on null, which OpenAI has beside calls.
        assert all(isinstance(message["content"], str) for message in talk["messages"])
        assert all(message["content"] or message.get("tool_calls") for message in talk["messages"])


def test_a_fifth_of_the_conversations_call_functions() -> None:
    talks = conversations()
    calling = [talk for talk in talks if "tools" in talk]
    assert len(talks) >= 35
    assert 0.15 <= len(calling) / len(talks) <= 0.25
    for talk in talks:
        asked = [call for message in talk["messages"] for call in message.get("tool_calls", [])]
        answered = [message["tool_call_id"] for message in talk["messages"] if message["role"] == "tool"]
        assert [call["id"] for call in asked] == answered
        assert bool(asked) == ("tools" in talk)
        declared = {tool["function"]["name"]: tool["function"]["parameters"] for tool in talk.get("tools", [])}
        for call in asked:
            parameters = declared[call["function"]["name"]]
            given = set(json.loads(call["function"]["arguments"]))
            assert set(parameters["required"]) <= given <= set(parameters["properties"])
