"""LangChain over ChatOpenAI: bound tools, typed answers by each method, an agent's loop, and all of it streamed."""

from typing import Literal

import pytest
from conftest import MODEL
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

ASK = HumanMessage("turn on the kitchen light")


class Wish(BaseModel):
    """What is to become of a light"""

    room: Literal["kitchen", "hall"]
    on: bool


@tool
def set_light(room: str, on: bool) -> str:
    """Turn a light on or off."""
    return "ok"


def of_openai(url, **options):
    fields = {"temperature": 0, "max_retries": 0, "stream_usage": True, **options}
    return ChatOpenAI(base_url=url, api_key="none", model=MODEL, **fields)


def of_anthropic(url):
    address = url.removesuffix("/v1")
    return ChatAnthropic(
        base_url=address, api_key="none", model_name=MODEL, temperature=0, max_tokens=512, max_retries=0
    )


@pytest.fixture(params=[of_openai, of_anthropic], ids=["openai", "anthropic"])
def model(url, request):
    return request.param(url)


@pytest.mark.parametrize(
    "options",
    [
        {"strict": True},
        {"strict": True, "tool_choice": "any"},
        {"tool_choice": "set_light"},
        {"tool_choice": "required"},
        {"strict": True, "parallel_tool_calls": False},
    ],
    ids=str,
)
def test_a_bound_tool_is_called_and_its_result_read(url, options):
    answer = of_openai(url).bind_tools([set_light], **options).invoke([ASK])
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("set_light", {"room": "kitchen", "on": True})
    turns = [ASK, answer, ToolMessage("ok", tool_call_id=call["id"])]
    free = of_openai(url).bind_tools([set_light])  # where a call must be made there is another one, never a sentence
    assert "kitchen" in "".join(chunk.text for chunk in free.stream(turns))


@pytest.mark.parametrize("choice", ["any", "set_light"])
def test_a_call_that_must_be_made_is_made_again(model, choice):
    bound = model.bind_tools([set_light], tool_choice=choice)
    answer = bound.invoke([ASK])
    results = [ToolMessage("ok", tool_call_id=call["id"]) for call in answer.tool_calls]
    assert answer.tool_calls and bound.invoke([ASK, answer, *results]).tool_calls


def test_a_streamed_call_adds_up_to_the_whole_one(model):
    bound = model.bind_tools([set_light])
    first, *others = bound.stream([ASK])
    whole = sum(others, first)
    (call,) = whole.tool_calls
    assert (call["name"], call["args"]) == ("set_light", {"room": "kitchen", "on": True})
    assert whole.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_an_answer_has_its_type(url, method):
    form = {"type": "json_object", "schema": Wish.model_json_schema()}  # json_mode tells of no schema: this does
    model = of_openai(url, **({"extra_body": {"response_format": form}} if method == "json_mode" else {}))
    typed = model.with_structured_output(Wish, method=method)
    assert isinstance(typed.invoke([ASK]), Wish)
    *_, last = typed.stream([ASK])
    assert isinstance(last, Wish)


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_an_answer_of_anthropic_has_its_type(url, method):
    typed = of_anthropic(url).with_structured_output(Wish, method=method, include_raw=True)
    assert isinstance(typed.invoke([ASK])["parsed"], Wish)


def test_an_agent_calls_and_answers(model):
    agent = create_agent(model, [set_light])
    *_, call, result, answer = agent.invoke({"messages": [ASK]})["messages"]
    assert call.tool_calls and (result.type, result.content) == ("tool", "ok")
    assert "kitchen" in answer.text
    parts = [part for part, _ in agent.stream({"messages": [ASK]}, stream_mode="messages")]
    assert "kitchen" in "".join(part.text for part in parts if part.type == "AIMessageChunk")


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
def test_an_agent_ends_with_a_type(model, strategy):
    agent = create_agent(model, [], response_format=strategy(Wish))
    assert isinstance(agent.invoke({"messages": [ASK]})["structured_response"], Wish)
