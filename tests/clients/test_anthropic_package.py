"""The official `anthropic` package: messages, streams and what they collect to, tools, thinking, forms, errors."""

import asyncio
from typing import Literal

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from conftest import MODEL
from pydantic import BaseModel

ASK = [{"role": "user", "content": "turn on the kitchen light"}]
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "name": "set_light",
    "description": "Turn a light on or off",
    "input_schema": {
        "type": "object",
        "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}},
        "required": ["room", "on"],
    },
}
LIGHT = {"room": "kitchen", "on": True}
GREEDY = {"temperature": 0}  # newer packages have no argument for it
COMMON = {"model": MODEL, "max_tokens": 256, "extra_body": GREEDY}


class Light(BaseModel):
    """A light and what it shall be"""

    room: Literal["kitchen", "garage"]
    on: bool


@pytest.fixture
def base(url):
    return url.removesuffix("/v1")


@pytest.fixture
def client(base):
    with Anthropic(base_url=base, api_key="none", max_retries=0) as client:
        yield client


def block(message, kind):
    return next(block for block in message.content if block.type == kind)


def test_a_message(client):
    message = client.messages.create(messages=HELLO, system=[{"type": "text", "text": "You are kind."}], **COMMON)
    assert message.id.startswith("msg_") and message._request_id
    assert (message.role, message.model, message.stop_reason) == ("assistant", MODEL, "end_turn")
    assert block(message, "text").text
    assert message.usage.output_tokens > 0


def test_a_stream_is_the_same_message(client):
    whole = client.messages.create(messages=HELLO, **COMMON)
    with client.messages.stream(messages=HELLO, **COMMON) as stream:
        assert "".join(stream.text_stream) == block(whole, "text").text
        final = stream.get_final_message()
    assert [part.model_dump() for part in final.content] == [part.model_dump() for part in whole.content]
    assert final.stop_reason == whole.stop_reason
    used = final.usage
    assert used.input_tokens + used.cache_read_input_tokens == (
        whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    )
    events = list(client.messages.create(messages=HELLO, stream=True, **COMMON))
    assert events[0].type == "message_start" and events[-1].type == "message_stop"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_and_its_result(client, streamed):
    def ask(messages):
        if not streamed:
            return client.messages.create(messages=messages, tools=[TOOL], **COMMON)
        with client.messages.stream(messages=messages, tools=[TOOL], **COMMON) as stream:
            return stream.get_final_message()

    first = ask(ASK)
    call = block(first, "tool_use")
    assert (call.name, call.input, first.stop_reason) == ("set_light", LIGHT, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "ok"}]}
    turns = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = ask(turns)
    assert "kitchen" in block(second, "text").text
    assert second.stop_reason == "end_turn"
    again = ask([*turns, {"role": "assistant", "content": second.content}, *ASK])
    assert block(again, "tool_use").id != call.id


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "set_light"}])
def test_a_call_that_must_be_made(client, choice):
    message = client.messages.create(messages=HELLO, tools=[TOOL], tool_choice=choice, **COMMON)
    call = block(message, "tool_use")
    assert message.stop_reason == "tool_use"
    assert set(call.input) == {"room", "on"} and isinstance(call.input["on"], bool)


def test_no_call_and_one_call(client):
    message = client.messages.create(messages=ASK, tools=[TOOL], tool_choice={"type": "none"}, **COMMON)
    assert not [part for part in message.content if part.type == "tool_use"]
    one = {"type": "auto", "disable_parallel_tool_use": True}
    message = client.messages.create(messages=ASK, tools=[{**TOOL, "strict": True}], tool_choice=one, **COMMON)
    assert [part.input for part in message.content if part.type == "tool_use"] == [LIGHT]


def test_thinking(client):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    message = client.messages.create(messages=ASK, tools=[TOOL], thinking=thinking, **COMMON)
    thought = block(message, "thinking")
    assert thought.thinking and thought.signature
    with client.messages.stream(messages=ASK, tools=[TOOL], thinking={"type": "adaptive"}, **COMMON) as stream:
        told = "".join(event.thinking for event in stream if event.type == "thinking")
        assert told == thought.thinking == block(stream.get_final_message(), "thinking").thinking
    hidden = {"type": "adaptive", "display": "omitted"}
    hushed = client.messages.create(messages=ASK, tools=[TOOL], thinking=hidden, **COMMON)
    assert block(hushed, "thinking").thinking == "" and block(hushed, "thinking").signature
    result = {"type": "tool_result", "tool_use_id": block(hushed, "tool_use").id, "content": "ok"}
    turns = [*ASK, {"role": "assistant", "content": hushed.content}, {"role": "user", "content": [result]}]
    counted = client.messages.count_tokens(model=MODEL, messages=turns, tools=[TOOL])
    turns[1] = {"role": "assistant", "content": [part for part in hushed.content if part.type != "thinking"]}
    assert counted.input_tokens > client.messages.count_tokens(model=MODEL, messages=turns, tools=[TOOL]).input_tokens
    silent = client.messages.create(messages=ASK, tools=[TOOL], thinking={"type": "disabled"}, **COMMON)
    assert not [part for part in silent.content if part.type == "thinking"]


def test_tokens_are_counted_as_they_are_used(client):
    asked = {"messages": ASK, "system": "Be brief.", "tools": [TOOL]}
    counted = client.messages.count_tokens(model=MODEL, **asked).input_tokens
    used = client.messages.create(**asked, **COMMON).usage
    assert counted == used.input_tokens + used.cache_read_input_tokens + used.cache_creation_input_tokens


def test_answers_of_a_form(client):
    message = client.messages.parse(messages=ASK, output_format=Light, **COMMON)
    assert isinstance(message.parsed_output, Light)
    with client.messages.stream(messages=ASK, output_format=Light, **COMMON) as stream:
        assert stream.get_final_message().parsed_output == message.parsed_output
    form = {"type": "json_schema", "schema": {**Light.model_json_schema(), "additionalProperties": False}}
    written = client.messages.create(messages=ASK, output_config={"format": form, "effort": "low"}, **COMMON)
    assert isinstance(Light.model_validate_json(block(written, "text").text), Light)
    assert isinstance(client.beta.messages.parse(messages=ASK, output_format=Light, **COMMON).parsed_output, Light)


def test_stop_sequences_and_limits(client):
    text = block(client.messages.create(messages=HELLO, **COMMON), "text").text
    stopped = client.messages.create(messages=HELLO, stop_sequences=["zzz", text[2:4]], **COMMON)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", text[2:4])
    assert block(stopped, "text").text == text[: text.index(text[2:4])]
    cut = client.messages.create(model=MODEL, max_tokens=2, messages=HELLO, extra_body=GREEDY)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)
    warm = client.messages.create(model=MODEL, max_tokens=0, messages=HELLO, system="A long rule. " * 50)
    assert (warm.content, warm.stop_reason) == ([], "max_tokens")
    used = client.messages.create(messages=HELLO, system="A long rule. " * 50, **COMMON).usage
    assert used.cache_read_input_tokens > used.input_tokens


def test_an_answer_that_was_begun_goes_on(client):
    begun = [*HELLO, {"role": "assistant", "content": "Hello"}]
    message = client.messages.create(messages=begun, **COMMON)
    assert not block(message, "text").text.startswith("Hello")


def test_the_tool_runner(client):
    rooms = []

    @beta_tool
    def set_light(room: str, on: bool) -> str:
        """Turn a light on or off"""
        rooms.append((room, on))
        return "ok"

    runner = client.beta.messages.tool_runner(messages=ASK, tools=[set_light], **COMMON)
    assert "kitchen" in block(runner.until_done(), "text").text
    ((room, on),) = rooms
    assert "kitchen" in room and on is True


def test_the_same_without_waiting(base):
    async def run():
        async with AsyncAnthropic(base_url=base, auth_token="none", max_retries=0) as client:
            message = await client.messages.create(messages=ASK, tools=[TOOL], **COMMON)
            async with client.messages.stream(messages=HELLO, **COMMON) as stream:
                text = "".join([text async for text in stream.text_stream])
            return message, text, [model.id async for model in client.models.list()]

    message, text, models = asyncio.run(run())
    assert block(message, "tool_use").input == LIGHT
    assert text
    assert models == [MODEL]


def test_models(client):
    (model,) = client.models.list(limit=1)
    assert model == client.models.retrieve(MODEL)
    assert model.max_input_tokens == 4096 and model.created_at.year >= 2024


def test_errors_are_those_of_the_package(client):
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long") as raised:
        client.messages.create(messages=[{"role": "user", "content": "x " * 20000}], **COMMON)
    assert raised.value.request_id
    assert raised.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError, match="claude-opus"):
        client.messages.create(model="claude-opus", max_tokens=9, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="'image' is not supported"):
        picture = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/a.png"}}
        client.messages.create(messages=[{"role": "user", "content": [picture]}], **COMMON)
    with pytest.raises(anthropic.BadRequestError, match="web_search_20250305"):
        tools = [{"type": "web_search_20250305", "name": "web_search"}]
        client.messages.create(messages=HELLO, tools=tools, **COMMON)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.list()
