"""Held answers through the `openai` package: the embedded model must call, or answers in a schema beside tools."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

MODEL = "edge-assistant"
SCHEMAS: dict[str, Any] = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "set_light": {
        "type": "object",
        "properties": {"room": {"enum": ["kitchen", "bathroom"]}, "on": {"type": "boolean"}},
        "required": ["room", "on"],
        "additionalProperties": False,
    },
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
ANSWER: Any = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"enum": ["sure", "no"]}, "strict": True},
}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="none", max_retries=0) as opened:
        yield opened


def ask(client: OpenAI, text: str, stream: bool, **fields: Any) -> tuple[list[tuple[str, Any]], str | None, str]:
    """The calls, the content and the finish reason."""
    messages: Any = [{"role": "user", "content": text}]
    sent = {"model": MODEL, "messages": messages, "max_tokens": 400, "temperature": 0, "tools": TOOLS, **fields}
    sent["parallel_tool_calls"] = False
    if not stream:
        (choice,) = client.chat.completions.create(**sent).choices
        made = [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or ()]
        return made, choice.message.content, choice.finish_reason
    with client.chat.completions.stream(**sent) as events:
        (choice,) = events.get_final_completion().choices
    made = [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or ()]
    return made, choice.message.content, choice.finish_reason


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["Turn on the kitchen light", "Hello!", "Tell me a joke about the weather"])
def test_a_call_that_is_required_is_made(client: OpenAI, text: str, stream: bool) -> None:
    calls, content, reason = ask(client, text, stream, tool_choice="required")
    assert (content or "", reason) == ("", "tool_calls")
    for name, arguments in calls:
        assert set(arguments) == set(SCHEMAS[name]["required"])
    assert calls


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_function_that_is_named_is_called(client: OpenAI, name: str, stream: bool) -> None:
    choice = {"type": "function", "function": {"name": name}}
    calls, _, reason = ask(client, "Hello!", stream, tool_choice=choice)
    assert [called for called, _ in calls] == [name]
    assert reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_beside_a_schema_the_model_still_calls(client: OpenAI, stream: bool) -> None:
    calls, content, reason = ask(client, "Turn on the kitchen light", stream, response_format=ANSWER)
    assert [name for name, _ in calls] == ["set_light"]
    assert reason == "tool_calls"
    calls, content, reason = ask(client, "Hello!", stream, response_format=ANSWER)
    assert calls or json.loads(content or "") in ("sure", "no")
    calls, content, reason = ask(client, "Hello!", stream, response_format=ANSWER, tool_choice="none")
    assert (calls, reason) == ([], "stop")
    assert json.loads(content or "") in ("sure", "no")
