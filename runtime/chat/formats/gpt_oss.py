"""gpt-oss' answers, OpenAI's harmony format: messages with a channel, and with a recipient if they are tool calls.

    <|channel|>analysis<|message|>thoughts<|end|>
    <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>
    <|start|>assistant<|channel|>final<|message|>the answer<|return|>

The recipient may stand before the channel too. `analysis` is thinking; `final` and `commentary` without a recipient,
what the model says before it calls, are content. The prompt ends in `<|start|>assistant`.

Headers come in many other ways: a word after `<|constrain|>` that is none of a type, a recipient or a channel twice, a
channel that the next one replaces, signs between. An end of message is one if a header, a new line or nothing follows.
"""

import re

from moedge.runtime.chat.grammar import At, Grammar, HeaderForm, WrittenCall
from moedge.runtime.chat.opening import BLANKS, END_OF_TEXT, SPACES, Pattern, ahead, alt, lit, many, maybe, run, seq

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
ANALYSIS = f"{CHANNEL}analysis{MESSAGE}"  # what opens a thought
ENDS = ("<|end|>", "<|call|>", "<|return|>")  # of a message
RECIPIENT = "to="
_CHANNELS = ("analysis", "commentary", "final")
_WORD, _SIGNS = run(r"[^\s<]"), Pattern(r"[^\w\s<]{0,3}+", r"[^\w\s<]{0,3}+")
_PARTS = many(
    alt(
        Pattern(r"\s", ""),
        seq(lit(CHANNEL), BLANKS, _SIGNS, alt(*map(lit, _CHANNELS)), maybe(_WORD)),
        seq(lit(CHANNEL), _WORD),
        seq(lit(CONSTRAIN), BLANKS, maybe(_WORD)),
        seq(lit(RECIPIENT), BLANKS, _WORD),
        lit("commentary"),
        Pattern(r"[^\w\s<=]", ""),
    )
)
_TYPE = maybe(run(r"[^\s<=]"))  # of what follows
_HEADER = seq(maybe(seq(lit(START), maybe(run(r"[^\s<]", "role")))), _PARTS, _TYPE, _PARTS, lit(MESSAGE))
_END = seq(
    alt(*map(lit, ENDS)),
    SPACES,
    alt(lit("\n"), *(ahead(lit(marker)) for marker in (START, CHANNEL, *ENDS)), END_OF_TEXT),
)
_TO = re.compile(r"to=\s*(?:functions\.)?([^\s<]+)")
_CHANNEL = re.compile(rf"\W{{0,3}}({'|'.join(_CHANNELS)})")


def _header(found: re.Match[str]) -> WrittenCall | At | None:
    """What a message is: a call of the one recipient, or what the last of its channels says."""
    recipients = set(_TO.findall(found[0]))
    called = recipients - {"assistant"}
    channels = [_CHANNEL.match(part.lstrip()) for part in found[0].split(CHANNEL)[1:]]
    if (channels and channels[-1] is None) or not (found["role"] or "assistant").startswith("assistant"):
        return None
    # one of two recipients would be wrong; what the assistant sends to itself is a result that it made up
    if len(called) > 1 or (recipients and not called and len(channels) < 2):
        return None
    if called:
        return WrittenCall(called.pop())
    return At.THINKING if channels and channels[-1] and channels[-1][1] == "analysis" else At.CONTENT


_MESSAGE = (HeaderForm(_HEADER, _header, messages=True),)
_OVER = (HeaderForm(_END, lambda found: At.AFTER, messages=True),)
_WITHIN = {**dict.fromkeys(ENDS, _OVER), START: _MESSAGE, CHANNEL: _MESSAGE}

GPT_OSS = Grammar(
    steps={
        At.START: {RECIPIENT: _MESSAGE, MESSAGE: _MESSAGE, **_WITHIN},
        At.AFTER: {MESSAGE: _MESSAGE, **_WITHIN},
        At.THINKING: _WITHIN,
        At.CONTENT: _WITHIN,
        At.ARGUMENTS: _WITHIN,
        At.INSIDE: {**_WITHIN, **dict.fromkeys(ENDS, At.AFTER)},
        At.LOOSE: _WITHIN,
        At.RESPONSE: {START: _MESSAGE, CHANNEL: _MESSAGE},  # of a message that is shown as it was written, its end too
    },
    unread=At.RESPONSE,
    ends=("<|endoftext|>",),
    joint="\n",
)
