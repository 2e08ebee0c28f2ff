"""How tests ask the endpoint, and what they expect of every answer's shape."""

import json

CALL = (
    "<think>lamp</think>Sure.<|tool_calls_section_begin|><|tool_call_begin|>functions.set_light:0"
    '<|tool_call_argument_begin|>{"room": "kitchen"}<|tool_call_end|><|tool_calls_section_end|>'
)
TOOLS = [{"type": "function", "function": {"name": "set_light", "parameters": {"type": "object", "properties": {}}}}]
HELLO = {"messages": [{"role": "user", "content": "hi"}]}


def pieces(text, size=3):
    return [text[i : i + size] for i in range(0, len(text), size)]


def error_of(response, status):
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert set(response.json) == {"error"}
    assert set(response.json["error"]) == {"message", "type", "param", "code"}
    return response.json["error"]


def events_of(response):
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/event-stream"
    lines = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def chunks_of(response):
    *chunks, done = events_of(response)
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def chat(client, **fields):
    return client.post("/v1/chat/completions", json={**HELLO, **fields})
