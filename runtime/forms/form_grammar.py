"""The grammar of a whole answer: thinking, then content of a form, or calls as the chat format writes them."""

import json
from collections.abc import Mapping

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.formats import Thoughts, calls_tools, response_tags, thoughts_of
from moedge.runtime.constraint import AnswerGrammar, check_size
from moedge.runtime.forms.answer_form import AnswerForm
from moedge.runtime.forms.call_writing import CallWriter, call_openers
from moedge.runtime.forms.closed_objects import close_objects
from moedge.runtime.forms.declared import DeclaredTool, json_of
from moedge.runtime.forms.harmony_writing import Begun, harmony
from moedge.runtime.forms.lark_rules import LarkRules, Marks, free_until
from moedge.runtime.forms.patterns import whole

HARMONY = "gpt_oss"  # whose messages have headers
COMPACT = (",", ":")
_INNER = "content"  # the name of a grammar within the answer's


def write_grammar(form: AnswerForm, chat_format: str, opened: bool, marks: Marks) -> AnswerGrammar | None:
    """That of answers to a chat, whose prompt may have `opened` the thinking; None where nothing is to be held.

    UnfitTool for a tool, MoedgeError for a content that cannot be held to.
    """
    tools = [DeclaredTool(tool) for tool in form.called] if form.most_calls != 0 else []
    if tools and not calls_tools(chat_format):
        raise MoedgeError(f"answers in the chat format {chat_format} call no tools.")
    if form.calls == "required" and not tools:
        raise MoedgeError("a call is required, and there are no tools.")
    if not tools and form.content is None:
        return None
    if form.begun and (form.content is not None or form.calls == "required"):
        raise MoedgeError("the answer has begun with free text, it can be of no other form: let it begin anew.")
    rules = LarkRules()
    content = None if form.content is None or form.calls == "required" else _content(form.content, rules)
    if chat_format == HARMONY:
        within: Begun | None = "thought" if opened else "remark" if form.begun else None
        start = harmony(tools, content, form.calls == "required", form.most_calls, within, rules, marks)
    else:
        start = _answer(form, tools, content, chat_format, opened, rules, marks)
    return _whole(rules.text(start), form)


def _answer(
    form: AnswerForm,
    tools: list[DeclaredTool],
    content: str | None,
    chat_format: str,
    opened: bool,
    rules: LarkRules,
    marks: Marks,
) -> str:
    openers: Mapping[str, str] = {}
    if tools:
        openers = call_openers(chat_format, CallWriter(tools, form.most_calls, rules, marks))
    if content is None and form.calls != "required":
        return free_until(rules, marks, list(openers.items()), may_end=True)
    options = []
    if content is not None:
        options += [content, *_between_tags(content, chat_format, marks)]
    if tools:
        options += [f"{marks.here(mark)} {openers[mark]}" for mark in marks.known(openers)]
    after = rules.rule(" | ".join(options))
    thoughts = thoughts_of(chat_format)
    return after if thoughts is None else _behind_thinking(thoughts, opened, after, openers, rules, marks)


def _behind_thinking(
    thoughts: Thoughts, opened: bool, after: str, openers: Mapping[str, str], rules: LarkRules, marks: Marks
) -> str:
    """An answer whose thinking, free but for calls, may come first; a call within ends it."""
    gap = "/\\n{0,2}/ " if thoughts.newlines else ""
    exits = [(thoughts.closing, f"{gap}{after}"), *openers.items()]
    thought = rules.rule(free_until(rules, marks, exits, may_end=False))
    return thought if opened else f"{after} | {marks.here(thoughts.opening)} {thought}"


def _between_tags(content: str, chat_format: str, marks: Marks) -> list[str]:
    """The content as formats write it that have tags around it."""
    tags = dict(response_tags(chat_format))
    return [f'{marks.here(tag)} "\\n"? {content} "\\n"? {marks.here(tags[tag])}' for tag in marks.known(tags)]


def _content(content: AnswerGrammar, rules: LarkRules) -> str:
    match content.kind:
        case "json_schema":
            return rules.rule(json_of(close_objects(check_size(content.text)), COMPACT))
        case "regex":
            return rules.word(whole(content.text))
        case "lark":
            return f"@{_INNER}"
    raise MoedgeError("the content of an answer is a JSON schema, a regular expression or a grammar in Lark.")


def _whole(text: str, form: AnswerForm) -> AnswerGrammar:
    if form.content is None or form.content.kind != "lark" or f"@{_INNER}" not in text:
        return AnswerGrammar("lark", text)
    parts = [{"lark_grammar": text}, {"name": _INNER, "lark_grammar": form.content.text}]
    return AnswerGrammar("llguidance", json.dumps({"grammars": parts}))
