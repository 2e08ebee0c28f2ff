"""openai-agents with a default tool, which it declares strict."""

import asyncio

import pytest
from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from conftest import MODEL
from openai import AsyncOpenAI


@pytest.fixture
def agent(url, rooms):
    set_tracing_disabled(True)

    @function_tool
    def set_light(room: str, on: bool) -> str:
        """Turn a light on or off."""
        rooms.append((room, on))
        return "ok"

    model = OpenAIChatCompletionsModel(MODEL, AsyncOpenAI(base_url=url, api_key="none", max_retries=0))
    return Agent(name="house", instructions="You are the assistant of this house.", tools=[set_light], model=model)


def test_the_tool_is_called_and_the_answer_comes(agent, rooms):
    result = asyncio.run(Runner.run(agent, "turn on the kitchen light"))
    assert rooms == [("kitchen", True)]
    assert "kitchen" in result.final_output


def test_the_same_as_a_stream(agent, rooms):
    async def read():
        result = Runner.run_streamed(agent, "turn off the light in the garage")
        async for _ in result.stream_events():
            pass
        return result.final_output

    assert "garage" in asyncio.run(read())
    assert rooms == [("garage", False)]
