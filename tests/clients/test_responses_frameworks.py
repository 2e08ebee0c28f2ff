"""Agents and chains that speak the Responses API where they are given the choice."""

import asyncio
from typing import Literal

import pytest
from agents import Agent as OpenAIAgent
from agents import ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from conftest import MODEL
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel as Responses
from pydantic_ai.providers.openai import OpenAIProvider

ASK = "turn on the kitchen light"


class LightState(BaseModel):
    """How a light is"""

    room: Literal["kitchen", "hall"]
    on: bool


@pytest.fixture
def set_light(rooms):
    def set_light(room: str, on: bool) -> str:
        """Turn a light on or off"""
        rooms.append((room, on))
        return '{"ok": true}'

    return set_light


def test_openai_agents(url, set_light, rooms):
    set_tracing_disabled(True)
    tool = function_tool(set_light)

    async def turns():
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            model, settings = OpenAIResponsesModel(MODEL, client), ModelSettings(temperature=0)
            agent = OpenAIAgent("house", model=model, tools=[tool], model_settings=settings)
            whole = await Runner.run(agent, ASK)
            streamed = Runner.run_streamed(agent, ASK)
            async for _ in streamed.stream_events():
                pass
            off = "turn off the kitchen light"
            later = await Runner.run(agent, off, previous_response_id=streamed.last_response_id)
            return [whole.final_output, streamed.final_output, later.final_output]

    outputs = asyncio.run(turns())
    assert all("kitchen" in output for output in outputs)
    assert rooms == [("kitchen", True), ("kitchen", True), ("kitchen", False)]


def test_pydantic_ai_with_its_history(url, set_light, rooms):
    provider = OpenAIProvider(base_url=url, api_key="none")
    agent = Agent(Responses(MODEL, provider=provider), tools=[set_light], model_settings={"temperature": 0})
    first = agent.run_sync(ASK)
    agent.run_sync("turn off the kitchen light", message_history=first.all_messages())
    assert rooms == [("kitchen", True), ("kitchen", False)]


def test_langchain_with_tools_a_schema_and_a_stream(url, set_light):
    model = ChatOpenAI(model=MODEL, base_url=url, api_key="none", use_responses_api=True, temperature=0)
    bound, messages = model.bind_tools([set_light]), [HumanMessage(ASK)]
    answer = bound.invoke(messages)
    (call,) = answer.tool_calls
    assert call["args"]["on"] is True
    messages += [answer, ToolMessage('{"ok": true}', tool_call_id=call["id"])]
    assert "kitchen" in bound.invoke(messages).text
    assert isinstance(model.with_structured_output(LightState).invoke(ASK), LightState)
    assert "".join(chunk.text for chunk in model.stream("hello"))
