"""Gemma 4's answers: thinking in a channel of that name, calls whose arguments have bare keys (delimited.py).

    <|channel>thought
    ...
    <channel|><|tool_call>call:NAME{city:<|"|>Oslo<|"|>,days:3}<tool_call|><|tool_call>...

The prompt opens no thinking, but behind a tool's result, where newer templates end in the channel's name. Results of
tools belong to the model's own turn, so that an answer ends in `<|tool_response>` where it waits for one.
"""

import re

from moedge.runtime.chat.delimited import DelimitedScan, read_delimited
from moedge.runtime.chat.grammar import (
    At,
    Body,
    BodyForm,
    Grammar,
    HeaderForm,
    WrittenCall,
    behind_calls,
    thinking_steps,
)
from moedge.runtime.chat.json_calls import dump
from moedge.runtime.chat.opening import BLANKS, END_OF_TEXT, NAME_LETTERS, Pattern, ahead, alt, lit, maybe, run, seq
from moedge.runtime.chat.scans import HeadedScan

CALL, END_CALL = "<|tool_call>", "<tool_call|>"
CHANNEL, END_CHANNEL = "<|channel>", "<channel|>"
THOUGHT = "thought"  # the channel's name
_CALL = "call:"
_HEADER = seq(BLANKS, lit(_CALL), BLANKS, run(NAME_LETTERS), BLANKS, ahead(lit("{")))
_NAME = re.compile(rf"\s*{_CALL}\s*({NAME_LETTERS}+)\s*")


def gemma4_calls(text: str) -> Body | None:
    """The call that a text begins with, and the rest of it."""
    name = _NAME.match(text)
    if name is None:
        return None
    try:
        arguments, at = read_delimited(text, name.end())
        call = WrittenCall(name[1], dump(arguments))
        dump(call.name)
    except ValueError:
        return None
    return [call], text[at:]


def _body(whole: bool) -> tuple[BodyForm]:
    return (BodyForm(lambda: HeadedScan(_HEADER, DelimitedScan), gemma4_calls, whole),)


_NAMED = seq(lit(THOUGHT), alt(ahead(Pattern(r"\s", "")), ahead(lit(END_CHANNEL)), END_OF_TEXT))
_OPENS = (HeaderForm(seq(lit(CHANNEL), maybe(_NAMED)), lambda found: At.THOUGHT, messages=True),)
_CALLS = {CALL: _body(whole=False)}

GEMMA4 = Grammar(
    steps={
        **thinking_steps(_CALLS, CHANNEL, END_CHANNEL, _OPENS),
        **behind_calls(_CALLS, {END_CALL: At.AFTER}, {_CALL: _body(whole=True)}),
    },
    think=CHANNEL,
    thought_name=THOUGHT,
    ends=("<turn|>", "<|tool_response>", "<eos>"),
)
