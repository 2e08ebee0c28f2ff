"""openai-agents over both of its models: a default tool, which it declares strict, a typed end, a handoff."""

import asyncio
from typing import Literal

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from conftest import MODEL
from openai import AsyncOpenAI
from pydantic import BaseModel

INSTRUCTIONS = "You are the assistant of this house."


class WishedLight(BaseModel):
    """What is to become of a light"""

    room: Literal["kitchen", "hall"]
    on: bool


@pytest.fixture(params=[OpenAIChatCompletionsModel, OpenAIResponsesModel], ids=["chat", "responses"])
def model(url, request):
    set_tracing_disabled(True)
    return request.param(MODEL, AsyncOpenAI(base_url=url, api_key="none", max_retries=0))


@pytest.fixture
def set_light(rooms):
    @function_tool
    def set_light(room: str, on: bool) -> str:
        """Turn a light on or off."""
        rooms.append((room, on))
        return "ok"

    return set_light


@pytest.fixture
def agent(model, set_light):
    return Agent(name="house", instructions=INSTRUCTIONS, tools=[set_light], model=model)


async def streamed(agent, text):
    result = Runner.run_streamed(agent, text)
    async for _ in result.stream_events():
        pass
    return result.final_output


def test_the_tool_is_called_and_the_answer_comes(agent, rooms):
    result = asyncio.run(Runner.run(agent, "turn on the kitchen light"))
    assert rooms == [("kitchen", True)]
    assert "kitchen" in result.final_output


def test_the_same_as_a_stream(agent, rooms):
    assert "garage" in asyncio.run(streamed(agent, "turn off the light in the garage"))
    assert rooms == [("garage", False)]


def test_a_call_that_must_be_made_first(model, set_light, rooms):
    """The agent lifts the choice once the tool was used, so that its loop ends."""
    settings = ModelSettings(tool_choice="required", temperature=0)
    agent = Agent(name="house", instructions=INSTRUCTIONS, tools=[set_light], model=model, model_settings=settings)
    assert asyncio.run(Runner.run(agent, "hello")).final_output
    assert rooms


def test_an_agent_ends_with_a_type(model):
    agent = Agent(name="house", instructions=INSTRUCTIONS, model=model, output_type=WishedLight)

    async def ends():
        whole = await Runner.run(agent, "turn on the kitchen light")
        return [whole.final_output, await streamed(agent, "turn on the kitchen light")]

    assert [type(end) for end in asyncio.run(ends())] == [WishedLight, WishedLight]


def test_a_handoff_is_a_call(model, agent):
    settings = ModelSettings(tool_choice="transfer_to_house", temperature=0)
    porter = Agent(name="porter", handoffs=[agent], model=model, model_settings=settings)
    result = asyncio.run(Runner.run(porter, "turn on the kitchen light"))
    assert result.last_agent.name == "house"
    assert result.final_output
