"""LiteLLM as a client of both wire formats: calls and what follows, typed answers, streams, errors to route by."""

import os
from typing import Literal

import pytest
from conftest import MODEL
from pydantic import BaseModel

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for prices when it is imported
import litellm

ASK = "turn on the kitchen light"
TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "description": "Turn a light on or off",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}},
            "required": ["room", "on"],
        },
    },
}


class AskedLight(BaseModel):
    """What is to become of a light"""

    room: Literal["kitchen", "hall"]
    on: bool


@pytest.fixture(params=["openai", "anthropic", "hosted_vllm"])
def ask(url, request):
    """Asks through one of LiteLLM's providers."""
    provider = request.param
    address = url.removesuffix("/v1") if provider == "anthropic" else url

    def ask(messages, **options):
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        options = {"max_retries": 0, "max_tokens": 400, **options}
        return litellm.completion(f"{provider}/{MODEL}", turns, api_base=address, api_key="none", **options)

    return ask


def test_a_call_with_parameters_of_other_servers(url):
    options = {"parallel_tool_calls": False, "seed": -1, "top_p": 0, "stop": ["\n\n\n"], "max_retries": 0}
    messages = [{"role": "user", "content": ASK}]
    whole = litellm.completion(f"openai/{MODEL}", messages, api_base=url, api_key="none", tools=[TOOL], **options)
    (choice,) = whole.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "set_light"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop_ends_with_an_answer(ask, streamed):
    def turn(messages):
        answer = ask(messages, tools=[TOOL], temperature=0, stream=streamed)
        whole = litellm.stream_chunk_builder(list(answer)) if streamed else answer
        return whole.choices[0].message

    messages = [{"role": "user", "content": ASK}]
    first = turn(messages)
    (call,) = first.tool_calls
    assert AskedLight.model_validate_json(call.function.arguments) == AskedLight(room="kitchen", on=True)
    result = {"role": "tool", "tool_call_id": call.id, "name": "set_light", "content": "ok"}
    assert "kitchen" in turn([*messages, first.model_dump(exclude_none=True), result]).content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "set_light"}}], ids=str)
def test_a_call_that_must_be_made(ask, choice):
    message = ask("hello", tools=[TOOL], tool_choice=choice).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["set_light"]


def test_an_answer_has_its_type(ask):
    content = ask(ASK, response_format=AskedLight).choices[0].message.content
    assert isinstance(AskedLight.model_validate_json(content), AskedLight)
    parts = [chunk.choices[0].delta.content or "" for chunk in ask(ASK, response_format=AskedLight, stream=True)]
    assert isinstance(AskedLight.model_validate_json("".join(parts)), AskedLight)


def test_a_stream_ends_with_the_usage(ask):
    chunks = list(ask("hello", stream=True, stream_options={"include_usage": True}, temperature=0))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage.completion_tokens > 0


def test_responses(url):
    answer = litellm.responses(ASK, f"openai/{MODEL}", api_base=url, api_key="none", max_retries=0)
    assert answer.status == "completed" and answer.output


def test_a_prompt_that_is_too_long_is_told_from_other_errors(ask):
    with pytest.raises(litellm.ContextWindowExceededError):
        ask("x " * 20000)
