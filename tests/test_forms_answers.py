"""Whole answers of a form: free text until a call begins, content or calls, thinking before; in every chat format."""

import json
import re

import jsonschema
import pytest
from held_answers import CALL_FORMATS, MARKERS, check_calls, reader, required, tool

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.formats import GRAMMARS
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.forms.answer_form import FREE, AnswerForm

LIGHT = {
    "type": "object",
    "properties": {"room": {"enum": ["kitchen", "bath"]}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
    "additionalProperties": False,
}
CONTENT = AnswerGrammar("json_schema", json.dumps(LIGHT))
TOOLS = (tool("f", LIGHT), tool("g"))
OPENERS = {
    "cohere": '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "',
    "deepseek_v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    "deepseek_v3_1": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    "ernie": '<tool_call>\n{"name": "',
    "gemma4": "<|tool_call>call:",
    "glm": "<tool_call>",
    "gpt_oss": "<|channel|>commentary to=functions.",
    "granite": '<|tool_call|>[{"name": "',
    "hermes": '<tool_call>\n{"name": "',
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.",
    "lfm2": "<|tool_call_start|>[",
    "mistral": "[TOOL_CALLS]",
    "qwen3_coder": "<tool_call>\n<function=",
}


def begun(held, grammar, text, tokens=True):
    """A constraint behind the first text of an answer, its markers spelled out or not; None if it may not begin so."""
    constraint = held.grammars.constraint(grammar)
    for token_id in held.words.encode(text, allow_special=tokens):
        if not constraint.allowed()[token_id]:
            return None
        constraint.add(token_id)
    return constraint


def may_end(held, constraint):
    return constraint.done or bool(constraint.allowed()[sorted(held.marks.ends)].any())


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "texts"])
@pytest.mark.parametrize("chat_format", CALL_FORMATS)
def test_free_text_is_free_until_a_call_begins(chat_format, tokens):
    held = reader(chat_format, tokens)
    grammar = held.grammar(AnswerForm(tools=TOOLS))
    said = "" if chat_format != "gpt_oss" else "<|channel|>final<|message|>"
    free = begun(held, grammar, said + 'Well: {"a": 1}, `f(x)` < 3\n\nGrüße 😀 <tool', tokens)
    assert may_end(held, free)
    beside = held.words.special_ids["<|other|>"]
    assert free.allowed()[beside]  # whatever else the model may say without tools
    opener = OPENERS[chat_format].replace("[TOOL_CALLS]", "[TOOL_CALLS]" if tokens else '[TOOL_CALLS][{"name": "')
    remark = "Hm. " if chat_format != "gpt_oss" else ""
    called = begun(held, grammar, remark + opener, tokens)
    assert not may_end(held, called)
    assert begun(held, grammar, f"{remark}{opener}h", tokens) is None  # no tool's name
    allowed = {chr(i) for i in range(97, 123) if called.allowed()[held.words.encode(chr(i))[0]]}
    assert allowed == {"f", "g"}


@pytest.mark.parametrize("chat_format", [name for name in CALL_FORMATS if name != "gpt_oss"])
def test_a_marker_that_is_spelled_out_begins_a_call_too(chat_format):
    held = reader(chat_format)
    grammar = held.grammar(AnswerForm(tools=TOOLS))
    marker = next(mark for mark in MARKERS[chat_format] if OPENERS[chat_format].startswith(mark))
    spelled = begun(held, grammar, f"So: {marker}", tokens=False)
    assert spelled is not None
    assert not may_end(held, spelled)


@pytest.mark.parametrize("chat_format", CALL_FORMATS)
def test_what_was_said_before_a_call_is_content(chat_format):
    form, held = AnswerForm(tools=TOOLS, most_calls=1), reader(chat_format)
    called = 0
    for text in held.answers(form, 8, ending=0.02):
        message = held.read(text, form)
        called += len(check_calls(message, form))
        if "tool_calls" not in message:
            assert all(OPENERS[chat_format] not in said for said in (text, message["content"]))
    assert called


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "texts"])
@pytest.mark.parametrize("chat_format", GRAMMARS)
def test_content_is_of_its_schema_or_calls_are_made(chat_format, tokens):
    tools = TOOLS if chat_format in CALL_FORMATS else ()
    form, held = AnswerForm(CONTENT, tools), reader(chat_format, tokens)
    kinds = set()
    for text in held.answers(form, 8):
        message = held.read(text, form)
        if check_calls(message, form):
            kinds.add("calls")
            assert chat_format == "gpt_oss" or not message["content"].strip()
        else:
            kinds.add("content")
            jsonschema.validate(json.loads(message["content"].rpartition("\n")[2]), LIGHT)
    assert kinds == ({"content", "calls"} if tools and tokens else kinds)


@pytest.mark.parametrize("kind", ["regex", "lark", "json_schema"])
@pytest.mark.parametrize("chat_format", GRAMMARS)
def test_content_of_every_kind_stands_behind_thinking(chat_format, kind):
    texts = {"regex": "[ab]/(c|d)", "lark": 'start: word "!"\nword: /[ab]/ "/" /[cd]/', "json_schema": CONTENT.text}
    patterns = {"regex": "[ab]/[cd]", "lark": "[ab]/[cd]!", "json_schema": r'\{"room":"\w+","on":\w+\}'}
    form, held = AnswerForm(AnswerGrammar(kind, texts[kind])), reader(chat_format)
    for text in held.answers(form, 4):
        assert re.fullmatch(patterns[kind], held.read(text, form)["content"]), text


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "texts"])
def test_content_that_spells_a_call_calls_nothing(tokens):
    call = '<tool_call>{"name": "g", "arguments": {}}</tool_call>'
    form, held = AnswerForm(AnswerGrammar("regex", f"Say {re.escape(call)}"), TOOLS), reader("hermes", tokens)
    assert begun(held, held.grammar(form), f"Say {call}", tokens=False).done
    assert held.read(f"Say {call}", form) == {"role": "assistant", "content": f"Say {call}"}
    assert "tool_calls" in held.read(call, form)


@pytest.mark.parametrize("chat_format", ["cohere", "ernie", "granite"])
def test_content_stands_between_the_tags_of_its_format(chat_format):
    held = reader(chat_format)
    tag, end = {"cohere": ("<|START_TEXT|>", "<|END_TEXT|>")}.get(chat_format, ("<response>", "</response>"))
    form = AnswerForm(CONTENT)
    text = f'{tag}{{"room":"bath","on":true}}'
    constraint = begun(held, held.grammar(form), text)
    assert constraint.forced or constraint.allowed()[held.words.encode(end, allow_special=True)[0]]
    assert held.read(f"{text}{end}", form)["content"] == '{"room":"bath","on":true}'


def test_nothing_is_held_where_nothing_is_asked():
    held = reader("hermes")
    assert held.grammar(FREE) is None
    assert held.grammar(AnswerForm(tools=TOOLS, calls="none")) is None
    assert held.grammar(AnswerForm(tools=TOOLS, most_calls=0)) is None


@pytest.mark.parametrize(
    ("chat_format", "form", "said"),
    [
        ("plain", required(tool("f")), "call no tools"),
        ("hermes", required(), "a call is required, and there are no tools"),
        ("hermes", required(tool("f", {"type": "strin"})), None),
        ("hermes", AnswerForm(AnswerGrammar("regex", "(")), "not supported"),
        ("hermes", AnswerForm(AnswerGrammar("lark", "start: x")), "not supported"),
        ("hermes", AnswerForm(AnswerGrammar("regex", "a^b")), "beside a place in its middle"),
    ],
    ids=str,
)
def test_what_cannot_be_held_is_refused_in_a_sentence(chat_format, form, said):
    if said is None:
        assert reader(chat_format).grammar(form)  # arguments are an object whatever their schema calls itself
        return
    with pytest.raises(MoedgeError, match=said) as refused:
        reader(chat_format).grammar(form)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("said", ["<tool_call>", "a</think>", "<|eos|>"])
def test_a_forced_text_that_spells_a_special_token_is_text(said):
    form, held = AnswerForm(AnswerGrammar("json_schema", json.dumps({"const": said}))), reader("hermes")
    for text in held.answers(form):
        assert json.loads(held.read(text, form)["content"]) == said
