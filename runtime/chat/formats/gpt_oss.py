"""gpt-oss' answers, OpenAI's harmony format: messages with a channel, and with a recipient if they are tool calls.

    <|channel|>analysis<|message|>thoughts<|end|>
    <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>
    <|start|>assistant<|channel|>final<|message|>the answer<|return|>

The recipient may stand before the channel too. `analysis` is thinking; `final` and `commentary` without a recipient,
what the model says before it calls, are content. The prompt ends in `<|start|>assistant`.
"""

import re

from moedge.runtime.chat.grammar import At, Grammar, WrittenCall

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")  # of a message
RECIPIENT = "to="
_TO = r" ?(?:to=(?:functions\.)?(?P<{}>[^ <]+))?"
_HEADER = re.compile(  # blanks are single here: runs of them would let it try for ever
    r"(?:assistant)?"
    + _TO.format("before")
    + r" ?(?:<\|channel\|> ?(?P<channel>analysis|commentary|final))?"
    + _TO.format("after")
    + r" ?(?:<\|constrain\|>)? ?(?:json|code|text)?"
)


def _header(text: str) -> WrittenCall | At | None:
    """What a message is. Anything unknown in its header is None: message and header are shown as they are."""
    found = _HEADER.fullmatch(" ".join(text.split()))
    if found is None or (found["before"] and found["after"]):
        return None
    recipient = found["before"] or found["after"]
    if recipient == "assistant":  # a tool's result, which the model made up
        return None
    if recipient is not None:
        return WrittenCall(recipient)
    return At.THINKING if found["channel"] == "analysis" else At.CONTENT


_WITHIN = {**dict.fromkeys(ENDS, At.AFTER), START: At.HEADER, CHANNEL: At.HEADER}

GPT_OSS = Grammar(
    steps={
        At.START: {RECIPIENT: At.HEADER, MESSAGE: At.CONTENT, **_WITHIN},
        At.AFTER: {MESSAGE: At.CONTENT, **_WITHIN},
        At.HEADER: {MESSAGE: At.ARGUMENTS, START: At.HEADER, **dict.fromkeys(ENDS, At.AFTER)},
        At.THINKING: _WITHIN,
        At.CONTENT: _WITHIN,
        At.ARGUMENTS: _WITHIN,
    },
    ends=("<|endoftext|>",),
    kept=frozenset({CHANNEL, RECIPIENT}),
    header=_header,
    joint="\n",
)
