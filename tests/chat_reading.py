"""Reads answers of models in any chat format and adds the deltas up, for the tests of the formats."""

import re

from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Delta, Reasoning
from moedge.runtime.chat.formats import GRAMMARS, chat_parser

GENERATED = re.compile(r"[A-Za-z0-9]{9}")


def thinking_tags_of(chat_format):
    """What opens and what closes thinking in an answer."""
    if chat_format == "gpt_oss":
        return "<|channel|>analysis<|message|>", "<|end|>\n"
    grammar = GRAMMARS[chat_format]
    return (grammar.think, min(grammar.thought_ends, key=len)) if grammar.think else ("<think>", "</think>")


def read(pieces, chat_format, prompt_end=""):
    """(reasoning, content, [(id, name, arguments)]) of text pushed piece by piece."""
    parser = chat_parser(chat_format, prompt_end)
    deltas: list[Delta] = []
    for piece in pieces:
        deltas += parser.push(piece)
    deltas += parser.finish()
    reasoning = content = ""
    calls: list[list[str]] = []
    for delta in deltas:
        match delta:
            case Reasoning(text):
                reasoning += text
            case Content(text):
                content += text
            case CallStart(index, identifier, name):
                assert index == len(calls)
                calls.append([identifier, name, ""])
            case CallArguments(index, text):
                assert index == len(calls) - 1
                calls[index][2] += text
    return reasoning, content, [tuple(call) for call in calls]


def read_named(pieces, chat_format, prompt_end=""):
    """The same with [(name, arguments)], of a format in which ids are made here."""
    reasoning, content, calls = read(pieces, chat_format, prompt_end)
    assert all(GENERATED.fullmatch(identifier) for identifier, _, _ in calls)
    assert len({identifier for identifier, _, _ in calls}) == len(calls)
    return reasoning, content, [call[1:] for call in calls]


def check(text, expected, chat_format, prompt_end=""):
    """The whole text, letter by letter, and every split in two add up to what is expected."""
    assert read_named([text], chat_format, prompt_end) == expected
    assert read_named(list(text), chat_format, prompt_end) == expected
    for cut in range(len(text) + 1):
        assert read_named([text[:cut], text[cut:]], chat_format, prompt_end) == expected, cut
