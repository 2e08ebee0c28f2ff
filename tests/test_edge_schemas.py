"""`response_format`: content that is JSON of a schema, whatever the model would rather say; over a toy bundle."""

import json

import pytest
from edge_client import HELLO, chat, chunks_of, error_of
from tiny_bundle import TEMPLATE, WORDS, ids_of, write_tiny_bundle

from moedge.runtime import Engine
from moedge.runtime.chat.delta import Content, Reasoning
from moedge.runtime.chat.formats import GRAMMARS, chat_parser, opens_thought, thoughts_of
from moedge.runtime.constraint import AnswerGrammar
from moedge.runtime.forms.answer_form import AnswerForm

SCHEMA = {
    "type": "object",
    "properties": {"room": {"enum": ["kitchen", "bath"]}, "on": {"type": "boolean"}},
    "required": ["room", "on"],
    "additionalProperties": False,
}
ASKED = {"type": "json_schema", "json_schema": {"name": "light", "strict": True, "schema": SCHEMA}}
THINK, END_THINK, ASSISTANT = (WORDS.token_to_id(text) for text in ("<think>", "</think>", "<|assistant|>"))
A, BRACE = ids_of("a")[0], ids_of("{")[0]


def toy(folder, successors, **options):
    return Engine.load(write_tiny_bundle(folder, successors, layout="shared", context_length=256, **options))


def content_of(response):
    assert response.status_code == 200, response.text
    (choice,) = response.json["choices"]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"]


def keeps(content):
    said = json.loads(content)
    assert set(said) == {"room", "on"}
    assert said["room"] in ("kitchen", "bath")
    assert said["on"] in (True, False)
    assert " " not in content


@pytest.mark.parametrize("stream", [False, True])
def test_content_is_of_the_schema(serve, tmp_path, stream):
    client = serve(toy(tmp_path, {ASSISTANT: A, A: A}, chat_format="plain"))
    response = chat(client, response_format=ASKED, seed=1, stream=stream)
    if stream:
        chunks = chunks_of(response)
        keeps("".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]))
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        keeps(content_of(response))


def test_any_object_and_text_are_forms_too(serve, tmp_path):
    client = serve(toy(tmp_path, {ASSISTANT: A, A: A}, chat_format="plain"))
    answer = chat(client, response_format={"type": "json_object"}, seed=3, max_tokens=200).json["choices"][0]
    assert answer["message"]["content"].startswith("{")
    if answer["finish_reason"] == "stop":
        assert isinstance(json.loads(answer["message"]["content"]), dict)
    keeps(content_of(chat(client, response_format={"type": "json_object", "schema": SCHEMA})))
    plain = chat(client, response_format={"type": "text"}, temperature=0, max_tokens=5).json["choices"][0]
    assert plain["message"]["content"] == "aaaaa"


def test_thinking_before_the_content_is_free(serve, tmp_path):
    chain = {ASSISTANT: THINK, THINK: A, A: END_THINK, END_THINK: BRACE}
    (choice,) = chat(serve(toy(tmp_path, chain)), response_format=ASKED, temperature=0).json["choices"]
    assert choice["message"]["reasoning_content"] == "a"
    keeps(choice["message"]["content"])


def test_a_model_that_may_think_need_not(serve, tmp_path):
    (choice,) = chat(serve(toy(tmp_path, {ASSISTANT: BRACE})), response_format=ASKED, temperature=0).json["choices"]
    assert "reasoning_content" not in choice["message"]
    keeps(choice["message"]["content"])


def test_thinking_that_the_prompt_has_opened_is_free(serve, tmp_path):
    template = TEMPLATE.replace("<|assistant|>{%", "<|assistant|><think>{%")
    assert template != TEMPLATE
    engine = toy(tmp_path, {THINK: A, A: END_THINK}, chat_format="think", template=template)
    (choice,) = chat(serve(engine), response_format=ASKED, temperature=0).json["choices"]
    assert choice["message"]["reasoning_content"] == "a"
    keeps(choice["message"]["content"])


def test_formats_say_where_content_begins():
    thoughts = {name: thoughts_of(name) for name in GRAMMARS if name != "gpt_oss"}
    assert thoughts.pop("plain") is None
    assert (thoughts["kimi_k2"].newlines, thoughts["hermes"].newlines) == (False, True)
    for name, each in thoughts.items():
        said = each.opening + "x" + each.closing + "\n\n" * each.newlines + '{"a":1}'
        parser = chat_parser(name, calls=False)
        assert parser.push(said) + parser.finish() == [Reasoning("x"), Content('{"a":1}')]
        assert opens_thought(name, f"<|assistant|>{each.opening}\n")
        assert not opens_thought(name, "<|assistant|>")


def test_a_bundle_keeps_grammars_that_were_asked_for(engine, monkeypatch):
    form = AnswerForm(AnswerGrammar("json_schema", json.dumps({"const": "once"})))
    prompt = engine.encode_chat(HELLO["messages"])
    grammar = engine.answer_grammar(prompt, form)
    monkeypatch.setattr(engine.grammars, "_compile", None)  # a second one would fail
    assert engine.answer_grammar(prompt, form) == grammar
    assert isinstance(grammar, AnswerGrammar)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({}, "response_format.type"),
        ("json", "response_format"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"schema": [1]}}, "response_format.json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA, "stricter": 1}},
            "response_format.json_schema.stricter",
        ),
        ({"type": "json_object", "json_schema": {}}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "strin"}}}, "response_format"),
    ],
    ids=str,
)
def test_other_forms_are_refused(serve, engine, form, param):
    assert error_of(chat(serve(engine), response_format=form), 400)["param"] == param
