"""pydantic-ai with a plain tool."""

import pytest
from conftest import MODEL
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


@pytest.fixture
def agent(url, rooms):
    agent = Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=url, api_key="none")))

    @agent.tool_plain
    def set_light(room: str, on: bool) -> str:
        """Turn a light on or off."""
        rooms.append((room, on))
        return "ok"

    return agent


def test_the_tool_is_called_and_a_second_turn_follows(agent, rooms):
    first = agent.run_sync("turn on the kitchen light")
    assert rooms == [("kitchen", True)]
    assert "kitchen" in first.output
    second = agent.run_sync("turn off the garage light", message_history=first.all_messages())
    assert rooms[1:] == [("garage", False)]
    assert second.output
