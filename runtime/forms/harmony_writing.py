"""Answers of gpt-oss as grammars: messages with a channel, thoughts and remarks free, calls and the final one held.

What their headers mean is runtime/chat/formats/gpt_oss.py's matter. Here they are written as the model was taught.
"""

from collections.abc import Sequence
from typing import Literal

from moedge.runtime.chat.formats.gpt_oss import CHANNEL, CONSTRAIN, ENDS, MESSAGE, START
from moedge.runtime.forms.comma_lists import repeated
from moedge.runtime.forms.declared import LOOSE, DeclaredTool
from moedge.runtime.forms.lark_rules import LarkRules, Marks, free_until, quote

Begun = Literal["thought", "remark"]  # a message that the prompt ends in
END, CALL, RETURN = ENDS
_HEADERS = (START, CHANNEL, CONSTRAIN, MESSAGE)


def harmony(
    tools: Sequence[DeclaredTool],
    content: str | None,
    required: bool,
    most: int | None,
    within: Begun | None,
    rules: LarkRules,
    marks: Marks,
) -> str:
    """The Lark of a whole answer behind `<|start|>assistant`, or `within` a message that the prompt has begun.

    `content`: the Lark that the final message is of, None for free text.
    """
    channel, message, end = (marks.here(mark) for mark in (CHANNEL, MESSAGE, END))
    again = f"{end} {marks.here(START)} {quote('assistant')}"
    free = _free(rules, marks, [(END, f"{marks.here(START)} {quote('assistant')}")], may_end=False)
    thought = rules.rule(f"{channel} {quote('analysis')} {message} {free}")
    remark = rules.rule(f"{channel} {quote('commentary')} {message} {free}")
    said = _free(rules, marks, [(mark, "") for mark in (RETURN, END) if not marks.ends_answer(mark)], may_end=True)
    between = f"({thought})*" if required or not tools else f"({thought} | {remark})*"
    last = [_calls(tools, most, again, rules, marks)] if tools else []
    if not required:
        json = f"({quote(' ')} {marks.here(CONSTRAIN)} {quote('json')})?"
        if content is not None:
            last.append(f"{channel} {quote('final')} {json} {message} {content} {_ended(RETURN, marks)}")
        else:
            last += [f"{channel} {quote(name)} {message} {said}" for name in ("final", "analysis", "commentary")]
    whole = f"{between} ({' | '.join(last)})"
    if within is None:
        return whole
    return f"{free} {whole} | {said}" if within == "remark" else f"{free} {whole}"


def _calls(tools: Sequence[DeclaredTool], most: int | None, again: str, rules: LarkRules, marks: Marks) -> str:
    """One call, or several where its end is not the answer's."""
    channel, kind = marks.here(CHANNEL), f"{marks.here(CONSTRAIN)} {quote('json')} {marks.here(MESSAGE)}"
    options = []
    for tool in tools:
        to = f" to=functions.{tool.name}"
        before = f"{quote(to)} {channel} {quote('commentary ')}"
        behind = f"{channel} {quote(f'commentary{to} ')}"
        options.append(rules.rule(f"({before} | {behind}) {kind} {rules.rule(tool.arguments(LOOSE))}"))
    call = rules.rule(" | ".join(options))
    if marks.ends_answer(CALL):
        return call
    start = f"{marks.here(CALL)} {marks.here(START)} {quote('assistant')}"
    return rules.rule(f"{repeated(call, start, most)} {_ended(CALL, marks)}")


def _free(rules: LarkRules, marks: Marks, exits: Sequence[tuple[str, str]], may_end: bool) -> str:
    taken = {mark for mark, _ in exits}
    without = [mark for mark in (*_HEADERS, *ENDS) if mark not in taken]
    return f"({free_until(rules, marks, exits, may_end, without)})"


def _ended(mark: str, marks: Marks) -> str:
    """What ends a message, if it is no end of the answer as well, which the answer's end says."""
    return "" if marks.ends_answer(mark) else f"{marks.here(mark)}?"
