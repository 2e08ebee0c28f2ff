"""The Responses API through the official `openai` package, which checks what it reads by its own types."""

import asyncio
from typing import Literal

import openai
import pytest
from conftest import MODEL
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

ASK = "turn on the kitchen light"


class SetLight(BaseModel):
    """Turn a light on or off"""

    room: str
    on: bool


class State(BaseModel):
    """How a light is"""

    room: Literal["kitchen", "hall"]
    on: bool


TOOLS = [
    {
        "type": "function",
        "name": "set_light",
        "description": "Turn a light on or off",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}},
            "required": ["room", "on"],
            "additionalProperties": False,
        },
        "strict": True,
    }
]


@pytest.fixture(scope="module")
def client(url):
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def create(client):
    return lambda asked=ASK, **more: client.responses.create(
        model=MODEL, input=asked, **{"temperature": 0, "max_output_tokens": 300, **more}
    )


def output_of(call):
    return {"type": "function_call_output", "call_id": call.call_id, "output": '{"ok": true}'}


def test_every_answer_is_of_the_packages_types(client, create):
    """Strictly, which the package itself is not."""
    for more in ({}, {"tools": TOOLS}, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}):
        raw = client.responses.with_raw_response.create(model=MODEL, input=ASK, temperature=0, **more)
        assert raw.parse().output_text == Response.model_validate(raw.http_response.json(), strict=True).output_text
        assert raw.headers["x-request-id"]
        event = TypeAdapter(ResponseStreamEvent)
        streamed = [event.validate_python(each.to_dict(), strict=True) for each in create(stream=True, **more)]
        assert streamed[-1].type == "response.completed"
        assert [each.sequence_number for each in streamed] == list(range(len(streamed)))


def test_a_stream_collects_to_what_comes_whole(client, create):
    with client.responses.stream(model=MODEL, input=ASK, tools=TOOLS, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.reasoning_text.delta", "response.function_call_arguments.delta"} <= kinds
    (call,) = [item for item in final.output if item.type == "function_call"]
    assert call.parsed_arguments == {"room": "kitchen", "on": True}
    whole = create(tools=TOOLS)
    assert whole.output[-1].arguments == call.arguments
    assert whole.output_text == final.output_text


def test_a_tool_loop_by_the_id_of_the_response(create):
    first = create(tools=TOOLS)
    second = create([output_of(first.output[-1])], tools=TOOLS, previous_response_id=first.id)
    assert "kitchen" in second.output_text
    assert second.usage.input_tokens_details.cached_tokens > first.usage.input_tokens
    third = create("thank you", tools=TOOLS, previous_response_id=second.id)
    assert third.output_text


@pytest.mark.parametrize("form", ["objects", "dumped", "without nulls"])
def test_a_tool_loop_with_items_as_they_came(create, form):
    first = create(tools=TOOLS, store=False, include=["reasoning.encrypted_content"])
    items = [{"role": "user", "content": ASK}]
    match form:
        case "objects":
            items += first.output
        case "dumped":
            items += [item.model_dump() for item in first.output]
        case _:
            items += [item.to_dict(exclude_none=True) for item in first.output]
    items.append(output_of(first.output[-1]))
    assert "kitchen" in create(items, tools=TOOLS, store=False).output_text


def test_a_parsed_response_goes_back_as_it_is(client, create):
    tools = [openai.pydantic_function_tool(SetLight, name="set_light")]
    first = client.responses.parse(model=MODEL, input=ASK, tools=tools, temperature=0)
    assert isinstance(first.output[-1].parsed_arguments, SetLight)
    items = [{"role": "user", "content": ASK}, *(item.model_dump() for item in first.output)]
    assert create([*items, output_of(first.output[-1])], tools=TOOLS).output_text


def test_a_text_is_parsed_into_a_format(client):
    fields = {"model": MODEL, "input": ASK, "temperature": 0, "max_output_tokens": 1000, "text_format": State}
    parsed = client.responses.parse(**fields).output_parsed
    assert isinstance(parsed, State)
    with client.responses.stream(**fields) as stream:
        done = [event.parsed for event in stream if event.type == "response.output_text.done"]
        assert stream.get_final_response().output_parsed == parsed
    assert done == [parsed]


def test_choices_of_tools(create):
    named = {"type": "function", "name": "set_light"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [named]}
    for choice in ("none", "auto", "required", named, allowed):
        response = create(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
        assert (response.output[-1].type == "function_call") is (choice != "none")
        assert (response.tools[0].name, response.parallel_tool_calls) == ("set_light", False)
    (call,) = [
        item
        for item in create(tools=[{"type": "custom", "name": "set_light", "description": "x"}]).output
        if item.type == "custom_tool_call"
    ]
    assert call.input


def test_logprobs_join_to_the_text(create):
    response = create("hello", include=["message.output_text.logprobs"], top_logprobs=2)
    told = response.output[-1].content[0].logprobs
    assert "".join(each.token for each in told) == response.output_text
    assert {len(each.top_logprobs) for each in told} == {2}


def test_what_is_cut_is_incomplete(client, create):
    response = create("hello", max_output_tokens=3)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    with client.responses.stream(model=MODEL, input="hello", max_output_tokens=3) as stream:
        assert [event.type for event in stream][-1] == "response.incomplete"


def test_fields_that_are_repeated(create):
    response = create(
        "hello",
        instructions="Be kind.",
        metadata={"a": "b"},
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "medium"},
        truncation="auto",
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        service_tier="auto",
        max_tool_calls=1,
        extra_body={"top_k": 5, "min_p": 0.01, "seed": 3, "repetition_penalty": 1.01},
    )
    assert (response.instructions, response.metadata, response.reasoning.effort) == ("Be kind.", {"a": "b"}, "low")
    assert (response.truncation, response.user, response.service_tier) == ("auto", "u", "default")


def test_kept_responses(client, create):
    response = create("hello")
    assert client.responses.retrieve(response.id) == response
    (item,) = client.responses.input_items.list(response.id)
    assert (item.type, item.role, item.content[0].text) == ("message", "user", "hello")
    again = create([{"type": "item_reference", "id": item.id}])
    assert again.output_text == response.output_text
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(response.id)
    client.responses.delete(response.id)
    for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            gone(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list(response.id)
    with pytest.raises(openai.BadRequestError) as raised:
        create("hello", previous_response_id=response.id)
    assert (raised.value.code, raised.value.param) == ("previous_response_not_found", "previous_response_id")


def test_items_are_listed_page_by_page(client, create):
    response = create([{"role": "user", "content": str(number)} for number in range(5)], max_output_tokens=1)
    listed = client.responses.input_items.list(response.id, limit=2, order="asc")
    assert [item.content[0].text for item in listed] == ["0", "1", "2", "3", "4"]


def test_input_is_counted(client, create):
    counted = client.responses.input_tokens.count(model=MODEL, input=ASK, tools=TOOLS)
    assert counted.input_tokens == create(tools=TOOLS).usage.input_tokens


def test_asynchronous_turns(url):
    async def turns():
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            async with client.responses.stream(model=MODEL, input="hello", temperature=0) as stream:
                events = [event.type async for event in stream]
                first = await stream.get_final_response()
            second = await client.responses.create(
                model=MODEL, input="hello", previous_response_id=first.id, temperature=0
            )
            items = [item.type async for item in client.responses.input_items.list(second.id)]
            return events[-1], items

    last, items = asyncio.run(turns())
    assert last == "response.completed"
    assert items[0] == items[-1] == "message"
    assert len(items) >= 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "x"}]}, "tools[0].type"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"temperature": 3}, "temperature"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input[0].call_id"),
        ({"extra_body": {"messages": []}}, "messages"),
    ],
)
def test_what_does_not_fit_is_a_bad_request_that_names_the_field(create, fields, param):
    with pytest.raises(openai.BadRequestError) as raised:
        create(fields.pop("input", ASK), **fields)
    assert raised.value.param == param
