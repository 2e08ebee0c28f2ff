"""LangChain's ChatOpenAI with bound tools, strict ones and such that must be called."""

import pytest
from conftest import MODEL
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def set_light(room: str, on: bool) -> str:
    """Turn a light on or off."""
    return "ok"


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
    model = ChatOpenAI(base_url=url, api_key="none", model=MODEL, temperature=0).bind_tools([set_light], **options)
    messages = [HumanMessage("turn on the kitchen light")]
    answer = model.invoke(messages)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("set_light", {"room": "kitchen", "on": True})
    messages += [answer, ToolMessage("ok", tool_call_id=call["id"])]
    assert "kitchen" in "".join(chunk.text for chunk in model.stream(messages))
