"""Chat completions through the official `openai` package: what it can say to a model of text, and what it reads."""

import asyncio
import json
from typing import Literal

import openai
import pytest
from conftest import MODEL
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

ASK = [{"role": "user", "content": "turn on the kitchen light"}]
HELLO = [{"role": "user", "content": "hello"}]


class SetLight(BaseModel):
    """Turn a light on or off"""

    room: str
    on: bool


class LightState(BaseModel):
    """How a light is"""

    room: Literal["kitchen", "hall"]
    on: bool


def is_set(arguments):
    """The kitchen's light; so small a model may call the room by more words."""
    assert isinstance(arguments, SetLight)
    assert arguments.on
    assert arguments.room.startswith("kitchen")


TOOLS = [openai.pydantic_function_tool(SetLight, name="set_light")]


@pytest.fixture(scope="module")
def create(url):
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield lambda messages, **more: client.chat.completions.create(
            model=MODEL, messages=messages, **{"temperature": 0, "max_tokens": 200, **more}
        )


@pytest.fixture
def client(url):
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_a_call_is_parsed_into_the_model_that_declared_it(client):
    (choice,) = client.chat.completions.parse(model=MODEL, messages=ASK, tools=TOOLS, temperature=0).choices
    (call,) = choice.message.tool_calls
    is_set(call.function.parsed_arguments)
    assert choice.finish_reason == "tool_calls"


def test_a_stream_collects_to_the_same_answer(client):
    with client.chat.completions.stream(model=MODEL, messages=ASK, tools=TOOLS, temperature=0) as stream:
        kinds = [event.type for event in stream]
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    is_set(call.function.parsed_arguments)
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= set(kinds)


def test_a_stream_is_parsed_into_a_format(client):
    fields = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 1000, "seed": 3}
    with client.chat.completions.stream(response_format=LightState, **fields) as stream:
        texts = "".join(event.delta for event in stream if event.type == "content.delta")
        message = stream.get_final_completion().choices[0].message
    assert message.parsed == LightState.model_validate_json(texts)
    assert (
        client.chat.completions.parse(response_format=LightState, **fields).choices[0].message.parsed == message.parsed
    )


def test_json_object_is_an_object(create):
    (choice,) = create(ASK, response_format={"type": "json_object"}, temperature=1, seed=5, max_tokens=1000).choices
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    assert choice.message.content.startswith("{")


def test_a_tool_loop_with_messages_as_they_came(client):
    """The package's own objects go back, with all that they hold beside the text."""
    messages = list(ASK)
    first = client.chat.completions.parse(model=MODEL, messages=messages, tools=TOOLS, temperature=0).choices[0].message
    messages.append(first)
    for call in first.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"ok": true}'})
    for answer in (first, first.model_dump(), first.to_dict()):
        messages[1] = answer
        second = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, temperature=0)
        assert second.choices[0].finish_reason == "stop"
        assert "kitchen" in second.choices[0].message.content


def test_several_answers(create):
    choices = create(HELLO, n=3, temperature=1.5, seed=1).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert [choice.message.content for choice in choices] == [
        choice.message.content for choice in create(HELLO, n=3, temperature=1.5, seed=1).choices
    ]
    texts = ["", "", ""]
    for chunk in create(HELLO, n=3, temperature=1.5, seed=1, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in choices]


def test_logprobs_join_to_the_text(create):
    message = create(HELLO, logprobs=True, top_logprobs=3)
    (choice,) = message.choices
    told = choice.logprobs.content
    assert "".join(each.token for each in told) == choice.message.content
    assert bytes(byte for each in told for byte in each.bytes).decode() == choice.message.content
    assert all(each.logprob == max(other.logprob for other in each.top_logprobs) for each in told), "it was greedy"
    assert {len(each.top_logprobs) for each in told} == {3}


def test_seeds_stops_and_biases(create):
    def text(**more):
        return create(HELLO, **more).choices[0].message.content

    assert text(temperature=1.2, seed=7) == text(temperature=1.2, seed=7)
    whole = text()
    stopped = create(HELLO, stop=[whole[3:5]]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (whole[: whole.index(whole[3:5])], "stop")
    first = create(HELLO, logprobs=True).choices[0].logprobs.content[0].token
    penalized = {"frequency_penalty": 2.0, "presence_penalty": 2.0}
    assert create(HELLO, **penalized).choices[0].message.role == "assistant"
    tokens = {str(token): -100 for token in range(260)}
    assert create(HELLO, logit_bias=tokens, max_tokens=5).usage.completion_tokens <= 5
    assert whole.startswith(first)


def test_lengths_roles_and_efforts(create):
    cut = create(HELLO, max_tokens=None, max_completion_tokens=3)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 3)
    messages = [{"role": "developer", "content": "Answer in one word."}, *HELLO]
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh"):
        assert create(messages, reasoning_effort=effort).choices[0].message.content
    for choice in ("none", "auto", "required", {"type": "function", "function": {"name": "set_light"}}):
        answer = create(ASK, tools=TOOLS, tool_choice=choice).choices[0]
        assert (answer.finish_reason == "tool_calls") is (choice != "none")
    (call,) = create(ASK, tools=TOOLS, parallel_tool_calls=False).choices[0].message.tool_calls
    assert call.function.name == "set_light"


def test_a_stream_has_one_id_and_ends_with_its_usage(create):
    *chunks, last = create(HELLO, stream=True, stream_options={"include_usage": True})
    assert {chunk.id for chunk in chunks} == {last.id}
    assert (last.choices, last.usage.total_tokens) == ([], last.usage.prompt_tokens + last.usage.completion_tokens)
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    texts = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert texts == create(HELLO).choices[0].message.content


def test_asynchronous_requests_at_once(url):
    async def ask():
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            several = [
                client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, max_tokens=50)
                for _ in range(4)
            ]
            return {answer.choices[0].message.content for answer in await asyncio.gather(*several)}

    assert len(asyncio.run(ask())) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 5}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"stop": [""]}, "stop"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"format": "wav", "voice": "ash"}}, "audio"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"verbosity": "high"}, "verbosity"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages[0].content[0].type",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
    ],
)
def test_what_does_not_fit_is_a_bad_request_that_names_the_field(create, fields, param):
    with pytest.raises(openai.BadRequestError) as raised:
        create(fields.pop("messages", HELLO), **fields)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
