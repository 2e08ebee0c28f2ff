"""An answer that the request begins: it goes on where its text ends, in every template that shows texts as they are."""

import pytest
from anthropic_client import MESSAGES, TOOL, alike, ask, message_of, refusal, said, streamed
from fake_engine import TEMPLATE, FakeEngine
from made_templates import MADE

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.continuation import CannotContinue, ContinuedParser, continue_last
from moedge.runtime.chat.formats import chat_parser
from moedge.runtime.chat.template import ChatTemplate
from moedge.runtime.chat.variables import thinking_on

USER = {"role": "user", "content": "u"}
BEGUN = 'The answer <is> {"a": ('
TURNS = [USER, {"role": "assistant", "content": "x", "reasoning_content": "y"}, USER]
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{{ '<|channel|>final' if m.role == 'assistant' }}<|message|>"
    "{{ m.content }}{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def begin(source, content=BEGUN, variables=None, turns=TURNS):
    template = ChatTemplate(source)
    pieces, begun = continue_last(template, [*turns, {"role": "assistant", "content": content}], None, variables)
    return "".join(text for text, _ in pieces), begun


def read(chat_format, begun, parts):
    parser = ContinuedParser(chat_parser(chat_format, begun.prompt_end, calls=False), begun)
    return assistant_message([delta for part in parts for delta in parser.push(part)] + parser.finish())


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_the_prompt_ends_with_the_text_and_the_answer_goes_on_behind_it(name, on):
    made = MADE[name]
    template = ChatTemplate(made.source)
    variables = thinking_on(template.variables) if on else None
    prompt, begun = begin(made.source, variables=variables)
    assert prompt.endswith(BEGUN)
    assert prompt.endswith(begun.markup) and prompt.count(BEGUN) == 1
    for parts in ([" 42)}"], [" 4", "2", ")}"]):
        message = read(made.chat_format, begun, parts)
        assert message == {"role": "assistant", "content": " 42)}"}


def test_an_answer_whose_text_stands_under_a_header_is_read_as_text():
    prompt, begun = begin(HARMONY)
    assert prompt.endswith(f"<|start|>assistant<|channel|>final<|message|>{BEGUN}")
    assert read("gpt_oss", begun, [" 4", "2<|return|>"])["content"] == " 42"


@pytest.mark.parametrize(
    ("content", "parts", "told"),
    [
        ("a <", ["b>"], "b>"),
        ("a <|tool_calls_section_begin|", ["x"], "x"),
        ("<|tool_call", ["s", " "], "s "),
        ("a <", [], ""),
        ("<", ["|"], "|"),
        ("a", ["\n\nb"], "\n\nb"),
    ],
)
def test_what_may_begin_a_marker_is_not_told_twice(content, parts, told):
    _, begun = begin(TEMPLATE, content, turns=[USER])
    assert begun.content == content
    assert read("kimi_k2", begun, parts)["content"] == told


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.content | upper }}X{% endfor %}",  # digits survive it, words do not
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    ],
)
def test_a_template_that_changes_texts_cannot(source):
    with pytest.raises(CannotContinue):
        begin(source)


def test_what_a_template_refuses_is_refused():
    with pytest.raises(MoedgeError, match="ends with a user"):
        begin("{{ raise_exception('ends with a user') if messages[-1].role == 'assistant' }}")


def test_a_user_spells_no_special_token_in_it():
    template = ChatTemplate(TEMPLATE, ("<|user|>", "<|assistant|>"))
    content = "say <|user|> and <|assis"
    pieces, _ = continue_last(template, [USER, {"role": "assistant", "content": content}])
    assert "".join(text for text, _ in pieces) == f"<|user|>u<|assistant|>{content}"
    assert not [text for text, trusted in pieces if trusted and "say" in text]


def test_it_is_answered_and_counted(serve):
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        return ["A", ") yes"]

    begun = [*MESSAGES, {"role": "assistant", "content": [{"type": "text", "text": "It is ("}]}]
    client = serve(FakeEngine(answer))
    message = said(client, messages=begun, tools=[TOOL])
    assert prompts[-1].endswith("<|user|>hi<|assistant|>It is (")
    assert message["content"] == [{"type": "text", "text": "A) yes"}]
    assert alike(message_of(streamed(client, messages=begun)))["content"] == message["content"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "set_light"}}, "tool_choice"),
    ],
)
def test_what_it_cannot_do_any_more_is_refused(serve, fields, name):
    messages = [*MESSAGES, {"role": "assistant", "content": "It is"}]
    error = refusal(ask(serve(), messages=messages, **fields), 400)
    assert error["message"].startswith(f"{name}: the last message begins the answer")


def test_a_template_that_cannot_is_a_400(serve):
    engine = FakeEngine(template="{% for m in messages %}{{ m.content | upper }}{% endfor %}")
    messages = [*MESSAGES, {"role": "assistant", "content": "It is"}]
    assert "none can be continued" in refusal(ask(serve(engine), messages=messages), 400)["message"]


def test_a_real_tokenizer_ends_the_prompt_with_the_text(serve, engine):
    messages = [USER, {"role": "assistant", "content": "It <|im_end|> is"}]
    token_ids, begun = engine.encode_begun(messages)
    assert engine.tokenizer.decode(token_ids).endswith("<|assistant|>It <|im_end|> is")
    spelt = engine.tokenizer.encode("<|im_end|>", allow_special=True)
    assert token_ids.count(spelt[0]) == 1  # that of the template, behind the user's message
    assert begun.content == begun.markup == "It <|im_end|> is"
    assert said(serve(engine), messages=messages)["content"][0]["type"] == "text"
