"""pydantic-ai over its three kinds of model: a plain tool with its history, streams, and typed answers of each kind."""

import asyncio
from typing import Literal

import pytest
from conftest import MODEL
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

ASK = "turn on the kitchen light"


class LightWish(BaseModel):
    """What is to become of a light"""

    room: Literal["kitchen", "hall"]
    on: bool


SCHEMA = LightWish.model_json_schema() | {"additionalProperties": False}
FORM = {"type": "json_schema", "schema": SCHEMA}
# pydantic-ai describes a PromptedOutput in words alone; the API's own field holds the model to it.
HELD = {
    "chat": {"response_format": {"type": "json_schema", "json_schema": {"name": "wish", "schema": SCHEMA}}},
    "responses": {"text": {"format": {"name": "wish", **FORM}}},
    "anthropic": {"output_config": {"format": FORM}},
}


@pytest.fixture(params=HELD)
def api(request):
    return request.param


@pytest.fixture
def model(url, api):
    if api == "anthropic":
        provider = AnthropicProvider(base_url=url.removesuffix("/v1"), api_key="none")
        # it knows of Anthropic's own models which of them can
        return AnthropicModel(MODEL, provider=provider, profile=ModelProfile(supports_json_schema_output=True))
    kind = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}[api]
    return kind(MODEL, provider=OpenAIProvider(base_url=url, api_key="none"))


@pytest.fixture
def agent(model, rooms):
    agent = Agent(model)

    @agent.tool_plain
    def set_light(room: str, on: bool) -> str:
        """Turn a light on or off."""
        rooms.append((room, on))
        return "ok"

    return agent


def test_the_tool_is_called_and_a_second_turn_follows(agent, rooms):
    first = agent.run_sync(ASK)
    assert rooms == [("kitchen", True)]
    assert "kitchen" in first.output
    second = agent.run_sync("turn off the garage light", message_history=first.all_messages())
    assert rooms[1:] == [("garage", False)]
    assert second.output


def test_the_same_as_a_stream(agent, rooms):
    async def read():
        async with agent.run_stream(ASK) as stream:
            return [text async for text in stream.stream_text(delta=True, debounce_by=None)]

    assert "kitchen" in "".join(asyncio.run(read()))
    assert rooms == [("kitchen", True)]


@pytest.mark.parametrize("kind", [ToolOutput, NativeOutput], ids=lambda kind: kind.__name__)
def test_an_answer_has_its_type(model, kind):
    agent = Agent(model, output_type=kind(LightWish))
    assert isinstance(agent.run_sync(ASK).output, LightWish)

    async def read():
        async with agent.run_stream(ASK) as stream:
            *_, last = [partial async for partial in stream.stream_output(debounce_by=None)]
            return last

    assert isinstance(asyncio.run(read()), LightWish)


def test_a_type_described_in_the_prompt(model, api):
    agent = Agent(model, output_type=PromptedOutput(LightWish), model_settings={"extra_body": HELD[api]})
    assert isinstance(agent.run_sync(ASK).output, LightWish)
