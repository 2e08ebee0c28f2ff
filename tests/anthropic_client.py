"""How tests ask the endpoint in Anthropic's form, and how a client adds its events up."""

import json

MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {"name": "set_light", "input_schema": {"type": "object", "properties": {"room": {"type": "string"}}}}
FIELDS = {"message_start": {"message"}, "ping": set(), "content_block_start": {"index", "content_block"}}
FIELDS |= {"content_block_delta": {"index", "delta"}, "content_block_stop": {"index"}, "message_stop": set()}
FIELDS |= {"message_delta": {"delta", "usage", "timings"}}
GROWS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def ask(client, path="/v1/messages", headers=None, **fields):
    body = {"messages": MESSAGES, "max_tokens": 64, **fields}
    return client.post(path, json={name: value for name, value in body.items() if value is not ...}, headers=headers)


def said(client, **fields):
    response = ask(client, **fields)
    assert response.status_code == 200, response.text
    return response.json


def refusal(response, status):
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert set(response.json) == {"type", "error", "request_id"}
    assert response.json["type"] == "error"
    assert response.json["request_id"] == response.headers["request-id"] == response.headers["X-Request-Id"]
    assert set(response.json["error"]) == {"type", "message"}
    return response.json["error"]


def events_in(text):
    """The events of a stream, each checked to be named and shaped as it says."""
    events = []
    for frame in text.split("\n\n"):
        if frame and not frame.startswith(":"):
            name, data = frame.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            events.append(event)
    return events


def streamed(client, **fields):
    response = ask(client, stream=True, **fields)
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/event-stream"
    assert response.headers["request-id"] == response.headers["X-Request-Id"]
    return events_in(response.text)


def blocks_of(events):
    """The content that the events of blocks add up to."""
    blocks, texts = [], []
    for event in events:
        assert set(event) - {"type"} == FIELDS[event["type"]]
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks) == len(texts)
            blocks.append(dict(event["content_block"]))
            texts.append("")
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                assert blocks[-1]["input"] == {}
                texts[-1] += delta["partial_json"]
            else:
                blocks[-1][GROWS[delta["type"]]] += delta[GROWS[delta["type"]]]
        elif event["type"] == "content_block_stop":
            assert event["index"] == len(blocks) - 1
            if blocks[-1]["type"] == "tool_use":
                blocks[-1]["input"] = json.loads(texts[-1])
    return blocks


def message_of(events):
    """The message that a whole stream adds up to."""
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert {event["type"] for event in events[2:-2]} <= {
        *("content_block_start", "content_block_delta", "content_block_stop", "ping")
    }
    start, delta = events[0]["message"], events[-2]
    assert start["content"] == [] and start["stop_reason"] is None
    ending = {name: value for name, value in delta["delta"].items() if name != "container"}
    return {**start, **ending, "usage": {**start["usage"], **delta["usage"]}, "content": blocks_of(events[2:-2])}


def alike(message):
    """A message without what differs from one request to the next."""
    kept = {name: value for name, value in message.items() if name not in ("id", "timings")}
    content = [{name: value for name, value in block.items() if name != "id"} for block in message["content"]]
    return {**kept, "content": content}
