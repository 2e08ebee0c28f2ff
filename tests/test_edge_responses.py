"""POST /v1/responses: answers whole and as events, against an engine that says what a test wrote down."""

import json

import pytest
from edge_client import CALL, error_of, pieces
from fake_engine import FakeEngine, MidwayError

TOOL = {"type": "function", "name": "set_light", "parameters": {"type": "object", "properties": {}}, "strict": True}


def respond(client, **fields):
    return client.post("/v1/responses", json={"input": "hi", **fields})


def response_of(response, status="completed"):
    assert response.status_code == 200, response.text
    assert (response.json["object"], response.json["status"]) == ("response", status)
    return response.json


def events_of(response):
    """The events of a stream: named twice, numbered from 0, one at the end that says how it went."""
    assert response.status_code == 200, response.text
    assert response.mimetype == "text/event-stream"
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    events = []
    for block in blocks:
        named, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert named == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")
    return events


def without_ids(items):
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


def message(text, status="completed"):
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "role": "assistant", "content": [part], "status": status}


def thought(text):
    content = [{"type": "reasoning_text", "text": text}]
    item = {"type": "reasoning", "summary": [], "encrypted_content": None, "content": content}
    return {**item, "status": "completed"}


def test_an_answer_is_thinking_a_message_and_calls(serve):
    client = serve(FakeEngine(lambda prompt: pieces(CALL)))
    whole = response_of(respond(client, tools=[TOOL]))
    call = {"type": "function_call", "name": "set_light", "arguments": '{"room": "kitchen"}', "status": "completed"}
    assert without_ids(whole["output"]) == [
        thought("lamp"),
        message("Sure."),
        {**call, "call_id": "call-functions-2eset_light-3a0"},
    ]
    prefixes = [item["id"].partition("_")[0] for item in whole["output"]]
    assert prefixes == ["rs", "msg", "fc"]
    usage = whole["usage"]
    assert usage["output_tokens"] == len(pieces(CALL)) + 1
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens_details"]["reasoning_tokens"] > 0
    assert usage["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": usage["input_tokens"]}


def test_a_stream_tells_every_step_and_ends_with_the_whole(serve):
    client = serve(FakeEngine(lambda prompt: pieces(CALL, 7)))
    events = events_of(respond(client, tools=[TOOL], stream=True))
    names = [event["type"].removeprefix("response.") for event in events]
    steps = [name for before, name in zip(["", *names], names, strict=False) if name != before]
    begin, end = ["output_item.added", "content_part.added"], ["content_part.done", "output_item.done"]
    assert steps == [
        *("created", "in_progress"),
        *(*begin, "reasoning_text.delta", "reasoning_text.done", *end),
        *(*begin, "output_text.delta", "output_text.done", *end),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        "completed",
    ]
    final = events[-1]["response"]
    assert final["output"] == [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert without_ids(final["output"]) == without_ids(response_of(respond(client, tools=[TOOL]))["output"])
    for begun in (events[0]["response"], events[1]["response"]):
        assert (begun["id"], begun["status"], begun["output"]) == (final["id"], "in_progress", [])
        assert (begun["usage"], begun["completed_at"]) == (None, None)


def test_what_is_cut_is_incomplete(serve):
    client = serve(FakeEngine(lambda prompt: ["one ", "two ", "three"]))
    for stream in (False, True):
        answer = respond(client, max_output_tokens=2, stream=stream)
        whole = events_of(answer)[-1]["response"] if stream else response_of(answer, "incomplete")
        assert whole["status"] == "incomplete"
        assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
        assert without_ids(whole["output"]) == [message("one two ", "incomplete")]
        assert (whole["max_output_tokens"], whole["completed_at"]) == (2, None)


def test_an_answer_of_nothing_has_no_items(serve):
    client = serve(FakeEngine(lambda prompt: []))
    assert response_of(respond(client))["output"] == []
    assert [event["type"] for event in events_of(respond(client, stream=True))[2:]] == ["response.completed"]


def test_a_stream_that_breaks_says_so_and_keeps_what_was_said(serve):
    client = serve(FakeEngine(lambda prompt: ["half ", MidwayError("the lamp is out")]))
    events = events_of(respond(client, stream=True))
    *_, error, failed = events
    assert error["type"] == "error"
    assert (error["message"], error["code"], error["param"]) == ("The lamp is out", None, None)
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "invalid_prompt", "message": "The lamp is out"}
    assert without_ids(failed["response"]["output"]) == [message("half ", "incomplete")]
    kept = client.get(f"/v1/responses/{failed['response']['id']}")
    assert kept.json["status"] == "failed"
    error_of(respond(client), 400)


def test_a_custom_tool_is_called_with_a_text(serve):
    said = CALL.replace('{"room": "kitchen"}', json.dumps({"input": 'say "hi"\n'}))
    engine = FakeEngine(lambda prompt: pieces(said) if "<|tool|>" not in prompt else ["Done."])
    client = serve(engine)
    tool = {"type": "custom", "name": "set_light", "description": "says"}
    whole = response_of(respond(client, tools=[tool]))
    *_, call = whole["output"]
    told = {"type": "custom_tool_call", "name": "set_light", "input": 'say "hi"\n'}
    assert {**told, "id": call["id"], "call_id": call["call_id"]} == call
    assert whole["tools"] == [{**tool, "format": {"type": "text"}}]
    output = {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "it said"}
    again = response_of(respond(client, tools=[tool], input=[{"role": "user", "content": "go"}, call, output]))
    assert without_ids(again["output"]) == [message("Done.")]
    events = events_of(respond(client, tools=[tool], stream=True))
    (delta,) = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert delta == 'say "hi"\n'


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"input": 3}', '{"other": "x"}'])
def test_a_custom_tool_that_is_called_badly_gets_what_was_written(serve, arguments):
    said = CALL.replace('{"room": "kitchen"}', arguments)
    client = serve(FakeEngine(lambda prompt: pieces(said)))
    *_, call = response_of(respond(client, tools=[{"type": "custom", "name": "set_light"}]))["output"]
    assert call["input"] == (arguments or "{}")  # which is what a call of nothing is read as


def test_logprobs_join_to_the_text(serve):
    client = serve(FakeEngine(lambda prompt: ["<think>so</think>", "wör", "ld", "!"]))
    for more in ({"include": ["message.output_text.logprobs"]}, {"top_logprobs": 2}):
        *_, said = response_of(respond(client, **more))["output"]
        (part,) = said["content"]
        assert "".join(entry["token"] for entry in part["logprobs"]) == part["text"] == "wörld!"
        assert {len(entry["top_logprobs"]) for entry in part["logprobs"]} == {more.get("top_logprobs", 0)}
        events = events_of(respond(client, stream=True, **more))
        deltas = [event for event in events if event["type"] == "response.output_text.delta"]
        assert all("".join(each["token"] for each in event["logprobs"]) == event["delta"] for event in deltas)


def test_the_answer_repeats_the_request(serve):
    sent = {
        "instructions": "be kind",
        "max_output_tokens": 9,
        "max_tool_calls": 3,
        "metadata": {"k": "v"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "p",
        "reasoning": {"effort": None, "summary": "auto"},
        "safety_identifier": "s",
        "store": False,
        "temperature": 0.25,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": {"type": "function", "name": "set_light"},
        "tools": [{**TOOL, "description": "d"}],
        "top_logprobs": 1,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    whole = response_of(respond(serve(), **sent))
    assert {name: whole[name] for name in sent} == sent
    assert (whole["background"], whole["service_tier"], whole["error"]) == (False, "default", None)


def test_nothing_said_is_told_as_openai_does(serve):
    whole = response_of(respond(serve()))
    assert (whole["tool_choice"], whole["tools"], whole["parallel_tool_calls"]) == ("auto", [], True)
    assert whole["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert (whole["store"], whole["truncation"], whole["metadata"]) == (True, "disabled", {})
    assert whole["created_at"] <= whole["completed_at"]


def test_a_chats_own_fields_are_honoured(serve):
    engine = FakeEngine()
    response_of(respond(serve(engine), top_k=5, min_p=0.1, seed=7, stop=["!"], repetition_penalty=1.5, top_p=None))
    (params,) = engine.params
    assert (params.top_k, params.min_p, params.seed, params.repetition_penalty) == (5, 0.1, 7, 1.5)


def test_input_is_counted(serve):
    client = serve()
    whole = response_of(respond(client, instructions="be kind", tools=[TOOL]))
    asked = {"input": "hi", "instructions": "be kind", "tools": [TOOL]}
    counted = client.post("/v1/responses/input_tokens", json=asked)
    assert counted.json == {"object": "response.input_tokens", "input_tokens": whole["usage"]["input_tokens"]}
