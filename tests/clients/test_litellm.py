"""LiteLLM, whose errors routers and agents decide by."""

import os

import pytest
from conftest import MODEL

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for prices when it is imported
import litellm

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


def ask(url, text, **options):
    messages = [{"role": "user", "content": text}]
    return litellm.completion(f"openai/{MODEL}", messages, api_base=url, api_key="none", max_retries=0, **options)


def test_a_call_with_parameters_of_other_servers(url):
    options = {"parallel_tool_calls": False, "seed": -1, "top_p": 0, "stop": ["\n\n\n"]}
    (choice,) = ask(url, "turn on the kitchen light", tools=[TOOL], **options).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "set_light"


def test_a_stream_ends_with_the_usage(url):
    chunks = list(ask(url, "hello", stream=True, stream_options={"include_usage": True}, temperature=0))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage.completion_tokens > 0


def test_a_prompt_that_is_too_long_is_told_from_other_errors(url):
    with pytest.raises(litellm.ContextWindowExceededError):
        ask(url, "x " * 20000)
