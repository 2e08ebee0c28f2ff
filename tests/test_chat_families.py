"""Families of 2026 from their templates on: format, switch for thinking, earlier answers, answers, and schemas."""

import json

import pytest
from made_templates import GLM_4_5, GLM_4_7, MADE, QWEN_3_6
from tiny_bundle import ids_of
from tokenizers import Tokenizer, models

from moedge.export.tokenizer.chat_signs import detect
from moedge.export.tokenizer.template_choice import choose_template
from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.formats import chat_parser, opens_thought, thoughts_of
from moedge.runtime.chat.template import ChatTemplate
from moedge.runtime.chat.wishes import EFFORTS, Wishes
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.forms.answer_form import AnswerForm
from moedge.runtime.forms.holding import Holding
from moedge.runtime.forms.lark_rules import Marks

USER = {"role": "user", "content": "u"}
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "save", "description": "d", "parameters": SCHEMA}}
ARGUMENTS = {"n": 12, "text": 'Küche, "a"\n  {b}: 12\nline 3'}
SIMPLE = {"n": 1, "text": "12"}
THINKING = [name for name, made in MADE.items() if made.on != made.off]
every = pytest.mark.parametrize("made", MADE.values(), ids=MADE)
thinking = pytest.mark.parametrize("made", [MADE[name] for name in THINKING], ids=THINKING)


def call(identifier, arguments):
    function = {"name": "save", "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": identifier, "type": "function", "function": function}


def read(text, made, prompt, step=0):
    parser = chat_parser(made.chat_format, prompt[-60:], [TOOL])
    parts = [text[at : at + step] for at in range(0, len(text), step)] if step else [text]
    return assistant_message([delta for part in parts for delta in parser.push(part)] + parser.finish())


def calls_of(message):
    return [json.loads(found["function"]["arguments"]) for found in message.pop("tool_calls", [])]


@every
def test_the_template_tells_the_format_and_shows_tools(made, tmp_path):
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    assert detect(tokenizer, made.source) == made.chat_format
    assert ChatTemplate(made.source).shows_tools
    (tmp_path / "chat.jinja").write_text(made.source)
    assert choose_template(str(tmp_path / "chat.jinja"), tokenizer).source == made.source


@every
def test_the_effort_turns_the_templates_own_switch(made):
    template = ChatTemplate(made.source)
    for effort in EFFORTS:
        prompt = template.render([USER], variables=template.choose(Wishes(effort)))
        assert prompt.endswith(made.off if effort == "none" else made.on)


@every
@pytest.mark.parametrize("calls", [[], [SIMPLE], [ARGUMENTS], [SIMPLE, ARGUMENTS, {}]], ids=len)
def test_what_a_template_shows_of_an_answer_is_read_as_that_answer(made, calls):
    """An earlier answer is shown as the model would have written it, behind the prompt that it had."""
    template = ChatTemplate(made.source)
    variables = template.choose(Wishes("high"))
    answer = {"role": "assistant", "content": "" if calls else "So.", "reasoning_content": "hm\n\nhm"}
    if calls:
        answer["tool_calls"] = [call(f"c{n}", arguments) for n, arguments in enumerate(calls)]
    prompt = template.render([USER], [TOOL], variables=variables)
    shown = template.render([USER, answer], [TOOL], add_generation_prompt=False, variables=variables)
    assert shown.startswith(prompt)
    written = shown[len(prompt) :].rstrip("\n")
    for step in (0, 1, 3):
        message = read(written, made, prompt, step)
        assert calls_of(message) == calls
        if "hm" in written:
            assert message.pop("reasoning_content") == "hm\n\nhm"
        assert (message.pop("content").strip(), message) == (answer["content"], {"role": "assistant"})
    # Granite does not think, and the first template of Gemma 4 shows no thinking
    assert ("hm" in written) == (made.chat_format != "granite" and made is not MADE["Gemma 4, first"])


@thinking
def test_the_prompt_says_whether_the_answer_begins_in_a_thought(made):
    template = ChatTemplate(made.source)
    for effort in ("high", "none"):
        prompt = template.render([USER], [TOOL], variables=template.choose(Wishes(effort)))
        thoughts = thoughts_of(made.chat_format)
        opened = effort == "high" and made.chat_format != "gemma4" and made.source != GLM_4_5
        assert opens_thought(made.chat_format, prompt) == opened
        assert read("So.", made, prompt) == (
            {"role": "assistant", "content": "", "reasoning_content": "So."}
            if opened
            else {"role": "assistant", "content": "So."}
        )
        text = f"{'' if opened else thoughts.opening}hm{thoughts.closing}So."
        message = {"role": "assistant", "content": "So.", "reasoning_content": "hm"}
        assert read(text, made, prompt) == read(text, made, prompt, 1) == message


@every
def test_results_of_calls_reach_the_model_in_order(made):
    template = ChatTemplate(made.source)
    answer = {"role": "assistant", "content": "Look.", "tool_calls": [call("c0", SIMPLE), call("c1", ARGUMENTS)]}
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": f"result {n}"} for n in (0, 1)]
    messages = [USER, answer, *results, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "v"}]
    shown = template.render(messages, [TOOL])
    says = ["result 0", "result 1", "Done."]
    if made.chat_format != "cohere" and made is not MADE["Gemma 4, first"]:  # one drops the text, one shows it too late
        says = ["Look.", "line 3", *says]
    places = [shown.find(said) for said in says]
    assert places == sorted(places)
    assert min(places) > 0


@thinking
@pytest.mark.parametrize("effort", ["high", "none"])
def test_thinking_before_content_of_a_schema_is_admitted_and_read(made, effort, engine):
    template = ChatTemplate(made.source)
    prompt = template.render([USER], variables=template.choose(Wishes(effort)))
    thoughts, opened = thoughts_of(made.chat_format), opens_thought(made.chat_format, prompt)
    name = "thought\n" if made.chat_format == "gemma4" and not opened else ""
    text = f"{'' if opened else thoughts.opening}{name}hm{thoughts.closing}" + '{"a":1}'
    schema = json.dumps({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]})
    held = Holding(made.chat_format, Marks({}, engine.eos_token_ids), engine.grammars)  # markers are texts here
    grammar = held.hold(AnswerForm(AnswerGrammar("json_schema", schema)), prompt)
    constraint = engine.grammars.constraint(grammar)
    for token_id in [token_id for letter in text for token_id in ids_of(letter)]:
        assert constraint.allowed()[token_id]
        constraint.add(token_id)
    assert constraint.done
    assert read(text, made, prompt) == {"role": "assistant", "content": '{"a":1}', "reasoning_content": "hm"}


def test_qwens_earlier_thinking_is_kept_where_the_request_wishes_it():
    template = ChatTemplate(QWEN_3_6)
    answer = {"role": "assistant", "content": "So.", "reasoning_content": "hm"}
    for wish in (True, False):
        variables = template.choose(Wishes(variables={"preserve_thinking": wish}))
        assert ("hm" in template.render([USER, answer, USER], variables=variables)) == wish


def test_glms_earlier_thinking_is_kept_where_the_request_wishes_it():
    template = ChatTemplate(GLM_4_7)
    answer = {"role": "assistant", "content": "So.", "reasoning_content": "hm"}
    shown = [template.render([USER, answer, USER], variables={"clear_thinking": clear}) for clear in (True, False)]
    assert ["hm" in text for text in shown] == [False, True]
