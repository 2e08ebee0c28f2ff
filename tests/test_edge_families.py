"""Answers of families of 2026 over HTTP: thinking, content, and calls, whole and streamed."""

import pytest
from edge_client import TOOLS, chat, chunks_of, pieces
from fake_engine import FakeEngine
from made_templates import MADE

CALLS = {
    "gemma4": "<|tool_call>call:set_light{on:true}<tool_call|>",
    "cohere": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "set_light", "parameters": {"on": true}}]',
    "qwen3_coder": "<tool_call>\n<function=set_light>\n<parameter=on>\ntrue\n</parameter>\n</function>\n</tool_call>",
    "glm": "<tool_call>set_light<arg_key>on</arg_key><arg_value>true</arg_value></tool_call>",
}
ANSWERS = {  # with "So." or a call
    "Gemma 4": "<|channel>thought\nhm\n<channel|>SO<turn|>",
    "Command R7B": "<|START_THINKING|>hm<|END_THINKING|>SO<|END_OF_TURN_TOKEN|>",
    "Qwen 3.6": "hm\n</think>\n\nSO<|im_end|>",
    "Nemotron 3": "hm\n</think>\nSO<|im_end|>",
    "GLM 4.7": "hm</think>SO<|observation|>",
    "Laguna": "hm</think>SO</assistant>",
    "Ling 3": "hm</think>SO<|role_end|>",
}


def asked(serve, name, content, stream):
    """The message and the reason why it ended."""
    made = MADE[name]
    answer = ANSWERS[name].replace("SO", content)
    engine = FakeEngine(lambda prompt: pieces(answer), chat_format=made.chat_format, template=made.source)
    response = chat(serve(engine), tools=TOOLS, stream=stream, reasoning_effort="high")
    assert response.status_code == 200, response.text
    if not stream:
        (choice,) = response.json["choices"]
        return choice["message"], choice["finish_reason"]
    choices = [chunk["choices"][0] for chunk in chunks_of(response) if chunk["choices"]]
    deltas = [choice["delta"] for choice in choices]
    message = {key: "".join(delta.get(key) or "" for delta in deltas) for key in ("reasoning_content", "content")}
    parts = [part["function"] for delta in deltas for part in delta.get("tool_calls") or []]
    if parts:
        function = {key: "".join(part.get(key) or "" for part in parts) for key in ("name", "arguments")}
        message["tool_calls"] = [{"function": function}]
    return message, choices[-1]["finish_reason"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_thinking_and_content(serve, name, stream):
    content = "<|START_RESPONSE|>So.<|END_RESPONSE|>" if MADE[name].chat_format == "cohere" else "So."
    message, reason = asked(serve, name, content, stream)
    assert (message["reasoning_content"], message["content"], reason) == ("hm", "So.", "stop")
    assert "tool_calls" not in message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_thinking_and_a_call(serve, name, stream):
    message, reason = asked(serve, name, CALLS[MADE[name].chat_format], stream)
    assert (message["reasoning_content"], message["content"] or "", reason) == ("hm", "", "tool_calls")
    (made,) = message["tool_calls"]
    assert made["function"] == {"name": "set_light", "arguments": '{"on": true}'}
