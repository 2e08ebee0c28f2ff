"""Messages and tools as public clients send them over HTTP: what is optional, echoed, foreign, and what is refused."""

import json

import pytest
from edge_client import HELLO, chat, error_of
from fake_engine import FakeEngine

ECHO = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }}{{ c.function.arguments }}]{% endfor %}{% endfor %}"
)
USER = {"role": "user", "content": "u"}


@pytest.fixture
def shown(serve):
    """What the model is shown of messages and tools."""
    client = serve(FakeEngine(lambda prompt: [prompt], template=ECHO))

    def shown(*messages, **fields):
        response = chat(client, messages=list(messages), **fields)
        assert response.status_code == 200, response.text
        return response.json["choices"][0]["message"]["content"]

    return shown


def call(**function):
    return {"id": "c1", "type": "function", "function": {"name": "f", **function}}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"content": "x", "reasoning": "y"}, "(y)x"),  # vLLM, OpenRouter
        ({"content": "x", "reasoning": "y", "reasoning_content": "y"}, "(y)x"),
        ({"content": "x", "reasoning": "z", "reasoning_content": "y"}, "(y)x"),
        ({"content": "x", "reasoning": "y", "reasoning_content": ""}, "(y)x"),
        ({"content": "x", "thinking": "y"}, "(y)x"),
        ({"content": "x", "reasoning": None, "reasoning_content": None}, "x"),
        ({"content": None, "reasoning_content": "y"}, "(y)"),
        ({"reasoning_content": "y"}, "(y)"),
        ({"content": None, "tool_calls": []}, ""),
        ({"content": None}, ""),
        ({"content": "x", "tool_calls": None, "refusal": None, "function_call": None, "audio": None}, "x"),
        ({"content": [{"type": "text", "text": "x", "annotations": []}]}, "x"),
        ({"content": [{"type": "thinking", "thinking": "y", "signature": "s"}, {"type": "text", "text": "x"}]}, "(y)x"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "y"}], "closed": True}]}, "(y)"),
        ({"content": "x", "reasoning_details": [{"type": "reasoning.text"}], "thinking_blocks": []}, "x"),
        ({"content": "x", "parsed": None, "provider_specific_fields": {"refusal": None}}, "x"),
        ({"content": "", "tool_calls": [call(arguments='{"a":1}', parsed_arguments={"a": 1})]}, '[f{"a":1}]'),
        ({"content": None, "tool_calls": [call(arguments={"é": 1})]}, '[f{"é": 1}]'),
        ({"tool_calls": [call(arguments=None)]}, "[f]"),
        ({"tool_calls": [{**call(), "index": 0, "provider_specific_fields": {}}]}, "[f]"),
    ],
)
def test_answers_as_clients_send_them_back(shown, answer, text):
    assert shown(USER, {"role": "assistant", **answer}, USER) == f"<|user|>u<|assistant|>{text}<|user|>u"


@pytest.mark.parametrize("content", [{"content": None}, {}, {"content": ""}, {"content": []}])
def test_a_result_may_be_empty(shown, content):
    made = {"role": "assistant", "tool_calls": [call(arguments="{}")]}
    result = {"role": "tool", "tool_call_id": "c1", **content}
    assert shown(USER, made, result) == "<|user|>u<|assistant|>[f{}]<|tool|>"


@pytest.mark.parametrize("role", ["system", "user", "tool", "assistant"])
def test_marks_for_a_cache_are_no_text(shown, role):
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    message = {"role": role, "content": [part, part], "cache_control": {"type": "ephemeral"}}
    message |= {"tool_call_id": "c1"} if role == "tool" else {}
    assert shown(message, {**USER, "name": "Ann"}) == f"<|{role}|>aa<|user|>u"


@pytest.mark.parametrize(
    ("function", "seen"),
    [
        ({"name": "f"}, {"name": "f"}),
        ({"name": "f", "description": None, "parameters": None, "strict": None}, {"name": "f"}),
        ({"name": "f", "strict": True, "parameters": {}}, {"name": "f", "parameters": {}}),
        ({"strict": False, "name": "f", "description": ""}, {"name": "f", "description": ""}),
    ],
)
def test_tools_are_shown_without_what_says_nothing(shown, function, seen):
    tools = [{"type": "function", "function": function, "cache_control": {"type": "ephemeral"}}]
    text = shown(USER, tools=tools)
    assert json.loads(text.removesuffix("<|user|>u")) == [{"type": "function", "function": seen}]


def test_a_tool_that_does_not_say_its_type_is_a_function(shown):
    text = shown(USER, tools=[{"function": {"name": "f"}}])
    assert text.removesuffix("<|user|>u") == '[{"type": "function", "function": {"name": "f"}}]'


def test_records_of_clients_are_no_text(shown):
    notes = {"id": "m1", "timestamp": 1, "metadata": {}}
    made = {"role": "assistant", "tool_calls": [{**call(arguments="{}"), "extra_content": {}}], "finish_reason": "stop"}
    result = {"role": "tool", "tool_call_id": "c1", "content": "4"}
    asked = {**USER, **notes, "tool_calls": []}
    assert shown(asked, {**made, **notes}, {**result, **notes}) == "<|user|>u<|assistant|>[f{}]<|tool|>4"


BAD = {
    "messages[1].tool_calls": {"role": "user", "content": "x", "tool_calls": [call(arguments="{}")]},
    "messages[1].reasoning": {"role": "assistant", "content": "x", "reasoning": 1},
    "messages[1].content[0].thinking": {"role": "assistant", "content": [{"type": "thinking", "thinking": 1}]},
    "messages[1].content[0].type": {"role": "assistant", "content": [{"type": "thinking"}]},
    "messages[1].content": {"role": "user", "content": [{"type": "thinking", "thinking": "y"}]},
    "messages[1].content[0].colour": {"role": "user", "content": [{"type": "text", "text": "x", "colour": 1}]},
    "messages[1].reasoning_content": {"role": "user", "content": "x", "reasoning_content": "y"},
    "messages[1].refusal": {"role": "assistant", "content": None, "refusal": "no"},
    "messages[1].tool_calls[0].function.arguments": {"role": "assistant", "tool_calls": [call(arguments=[1])]},
    "messages[1].tool_calls[0].function.colour": {"role": "assistant", "tool_calls": [call(colour=1)]},
}


@pytest.mark.parametrize(("param", "message"), BAD.items(), ids=BAD)
def test_what_says_something_else_is_refused(serve, param, message):
    assert error_of(chat(serve(), messages=[*HELLO["messages"], message]), 400)["param"] == param


def test_a_tool_is_shown_in_the_order_in_which_it_was_sent(serve):
    tool = '{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}'
    body = f'{{"messages": [{{"role": "user", "content": "u"}}], "tools": [{tool}]}}'
    client = serve(FakeEngine(lambda prompt: [prompt], template=ECHO))
    response = client.post("/v1/chat/completions", data=body, content_type="application/json")
    assert response.json["choices"][0]["message"]["content"] == f"[{tool}]<|user|>u"
