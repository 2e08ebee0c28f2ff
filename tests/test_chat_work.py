"""The work of reading an answer grows with its length and no faster, however it is cut: counted, not timed."""

import re
import sys
from collections.abc import Iterator

import pytest
from chat_reading import thinking_tags_of
from test_chat_markers import CALLS, FORMATS, call, markers

from moedge.runtime.chat.formats import chat_parser
from moedge.runtime.chat.opening import Pattern
from moedge.runtime.chat.scans import LONGEST_HEADER

SMALL, FACTOR = 400, 4


def texts(chat_format: str, size: int) -> Iterator[str]:
    """Texts of about a size that would make a parser look at the same characters again and again."""
    opening = re.split("ARGUMENTS|TEXT", CALLS[chat_format])[0]
    spelt = opening.replace('"', "").replace("\n", " ")
    think, _ = thinking_tags_of(chat_format)
    yield "So it is. " * (size // 10)
    yield " " * size
    yield "<[ " * (size // 3)
    for marker in markers(chat_format)[::3]:
        yield marker * (size // len(marker))
        yield f"{marker[:-1]} " * (size // len(marker))
        yield opening + marker * (size // len(marker))
        yield opening + '{"a": "' + marker * (size // len(marker))
    yield opening * (size // len(opening))
    yield (opening + '{"a": "') * (size // len(opening))
    yield call(chat_format, "x" * size)
    yield call(chat_format, "x" * size)[:size]
    yield call(chat_format, spelt * (size // len(spelt)))
    yield call(chat_format, "a") * (size // len(call(chat_format, "a")))
    yield call(chat_format, '"' + "[" * size)
    yield opening + "[" * size
    yield f"{think}hm\n" * (size // 10)
    yield think + call(chat_format, "a") * (size // len(call(chat_format, "a")))


def work(text: str, step: int, chat_format: str, tools: list) -> int:
    """Calls of functions while a text is read."""
    count = 0

    def on_event(frame, event, argument) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    parser = chat_parser(chat_format, "", tools)
    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        for place in range(0, len(text), step):
            parser.push(text[place : place + step])
        parser.finish()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("chat_format", FORMATS)
def test_work_is_linear_in_the_text(chat_format):
    tools = [{"type": "function", "function": {"name": "other"}}]
    for small, large in zip(texts(chat_format, SMALL), texts(chat_format, SMALL * FACTOR), strict=True):
        for step, offered in ((1, tools), (len(large), [])):
            few, many = work(small, step, chat_format, offered), work(large, step, chat_format, offered)
            assert many <= 1.5 * FACTOR * few + 500, (large[:80], step, few, many)


@pytest.mark.parametrize("step", [1, 3])
def test_a_long_header_is_not_read_again_for_each_character(step, monkeypatch):
    read = 0
    asked = Pattern.may_become

    def may_become(pattern: Pattern, text: str) -> bool:
        nonlocal read
        read += len(text)
        return asked(pattern, text)

    monkeypatch.setattr(Pattern, "may_become", may_become)
    text = "<|channel|>final" + " ." * (LONGEST_HEADER // 2)
    parser = chat_parser("gpt_oss")
    for place in range(0, len(text), step):
        parser.push(text[place : place + step])
    assert read < 40 * len(text)
