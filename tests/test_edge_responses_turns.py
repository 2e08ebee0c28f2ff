"""Turns of a conversation in responses: what the model is shown of items, what is kept for later turns, for whom."""

import json

import pytest
from edge_client import CALL, error_of, pieces
from fake_engine import FakeEngine

from moedge.edge_server.responses.responses_context import conversation

TOOL = {"type": "function", "name": "set_light", "parameters": {"type": "object"}}
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}


def respond(client, **fields):
    response = client.post("/v1/responses", json=fields)
    assert response.status_code == 200, response.text
    return response.json


def answering(serve, *answers):
    """A client, and the prompts that its engine reads, one for each of the answers."""
    prompts: list[str] = []

    def answer(prompt):
        if prompt not in prompts:
            prompts.append(prompt)
        return pieces(answers[prompts.index(prompt)])

    return serve(FakeEngine(answer)), prompts


def said(text):
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def thought(text, summary=()):
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": each} for each in summary],
        "content": content,
    }


def call(identifier, arguments="{}"):
    return {"type": "function_call", "call_id": identifier, "name": "f", "arguments": arguments}


def output(identifier, value):
    return {"type": "function_call_output", "call_id": identifier, "output": value}


def assistant(content="", thinking=None, calls=()):
    message = {"role": "assistant", "content": content}
    if thinking is not None:
        message["reasoning_content"] = thinking
    functions = [
        {"id": each, "type": "function", "function": {"name": "f", "arguments": arguments}} for each, arguments in calls
    ]
    return {**message, "tool_calls": functions} if functions else message


def call_of(item):
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


HI = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([USER], [HI]),
        ([USER, said("a")], [HI, assistant("a")]),
        ([said("a"), said("b")], [assistant("a"), assistant("b")]),
        ([thought("t"), said("a")], [assistant("a", "t")]),
        ([thought("", ["s", "u"]), said("a")], [assistant("a", "su")]),
        ([thought("t", ["s"]), thought("u")], [assistant("", "tu")]),
        ([said("a"), thought("t"), said("b")], [assistant("a"), assistant("b", "t")]),
        ([thought("t"), said("a"), call("1")], [assistant("a", "t", [("1", "{}")])]),
        ([call("1"), call("2", '{"x":1}')], [assistant(calls=[("1", "{}"), ("2", '{"x":1}')])]),
        ([call("1"), said("a"), thought("t")], [assistant("a", "t", [("1", "{}")])]),
        (
            [call("1"), output("1", "x"), call("2"), output("2", [{"type": "input_text", "text": "y"}]), said("a")],
            [
                assistant(calls=[("1", "{}")]),
                {"role": "tool", "tool_call_id": "1", "content": "x"},
                assistant(calls=[("2", "{}")]),
                {"role": "tool", "tool_call_id": "2", "content": "y"},
                assistant("a"),
            ],
        ),
        (
            [{"type": "custom_tool_call", "call_id": "1", "name": "f", "input": 'a "b"'}],
            [assistant(calls=[("1", json.dumps({"input": 'a "b"'}))])],
        ),
        (
            [{**said(""), "content": [{"type": "refusal", "refusal": "no"}]}],
            [assistant("no")],
        ),
    ],
)
def test_items_of_an_answer_are_its_message_again(items, messages):
    assert conversation(items, None) == messages


def test_leading_texts_of_the_system_are_one_message():
    items = [{**USER, "role": "developer"}, {**USER, "role": "system"}, USER, {**USER, "role": "developer"}]
    system = {"role": "system", "content": "be kind\n\nhi\n\nhi"}
    assert conversation(items, "be kind") == [system, HI, {"role": "system", "content": "hi"}]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop_reads_the_same_by_id_by_items_and_as_a_chat(serve, stream):
    client, prompts = answering(serve, CALL, "Done.")
    first = client.post("/v1/responses", json={"input": "go", "tools": [TOOL], "stream": stream})
    events = [json.loads(line[6:]) for line in first.text.split("\n") if line.startswith("data: ")] if stream else []
    made = events[-1]["response"] if stream else first.json
    result = {"type": "function_call_output", "call_id": made["output"][-1]["call_id"], "output": "it is on"}
    by_id = respond(client, previous_response_id=made["id"], input=[result], tools=[TOOL])
    nulls = [{**item, "namespace": None, "created_by": None} for item in made["output"]]
    by_items = respond(client, input=[{"role": "user", "content": "go"}, *nulls, result], tools=[TOOL], store=False)
    for response in (by_id, by_items):
        ((part,),) = [item["content"] for item in response["output"]]
        assert part["text"] == "Done."
    assert len(prompts) == 2
    assert prompts[1].count("[functions.set_light:0]") == 1, "the id is the model's own again"
    chat = {"role": "user", "content": "go"}
    function = {"type": "function", "function": {name: value for name, value in TOOL.items() if name != "type"}}
    message = {**assistant("Sure.", "lamp"), "tool_calls": [call_of(made["output"][-1])]}
    tool = {"role": "tool", "tool_call_id": result["call_id"], "content": "it is on"}
    body = json.dumps({"messages": [chat, message, tool], "tools": [function]})  # in this order of keys
    assert client.post("/v1/chat/completions", data=body, content_type="application/json").status_code == 200
    assert len(prompts) == 2


def test_instructions_are_of_one_response_alone(serve):
    client, prompts = answering(serve, "one", "two")
    first = respond(client, input="go", instructions="be kind")
    second = respond(client, input="on", instructions="be brief", previous_response_id=first["id"])
    assert prompts[1] == "<|system|>be brief<|user|>go<|assistant|>one<|user|>on<|assistant|>"
    assert (second["instructions"], second["previous_response_id"]) == ("be brief", first["id"])


def test_a_turn_may_follow_without_new_input(serve):
    client, prompts = answering(serve, "one", "two")
    first = respond(client, input="go")
    respond(client, input=[], previous_response_id=first["id"])
    assert prompts[1] == "<|user|>go<|assistant|>one<|assistant|>"


def test_auto_truncation_leaves_out_the_oldest_turns_alone(serve):
    engine = FakeEngine(lambda prompt: pieces("ok"), context_length=200)
    client = serve(engine)
    turns = [{"role": role, "content": f"{n} {'x' * 18}"} for n in range(8) for role in ("user", "assistant")]
    fields = {"input": [*turns, {"role": "user", "content": "now"}], "instructions": "be kind", "max_output_tokens": 20}
    error = error_of(client.post("/v1/responses", json=fields), 400)
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")
    whole = respond(client, **fields, truncation="auto")
    assert 200 - 20 - 60 < whole["usage"]["input_tokens"] <= 200 - 20  # a turn more would not fit
    prompt = engine.tokenizer.decode(engine.program._lanes.popitem()[1].tokens)
    assert prompt.startswith("<|system|>be kind<|user|>")
    assert "<|user|>now<|assistant|>" in prompt
    items = client.get(f"/v1/responses/{whole['id']}/input_items?limit=100").json["data"]
    assert len(items) == 17, "all of it is kept"
    alone = {**fields, "input": "x" * 300, "truncation": "auto"}
    assert error_of(client.post("/v1/responses", json=alone), 400)["code"] == "context_length_exceeded"
    short = {**fields, "input": "hello", "truncation": "auto"}
    assert respond(client, **short)["usage"]["input_tokens"] < 60


@pytest.mark.parametrize("count", range(10))
def test_auto_truncation_leaves_out_no_turn_too_many(serve, count):
    client = serve(FakeEngine(lambda prompt: ["ok"], context_length=200))
    turn = [{"role": "user", "content": "x" * 11}, {"role": "assistant", "content": "y" * 8}]  # 40 tokens
    fields = {"input": [*turn * count, {"role": "user", "content": "x"}], "truncation": "auto", "store": False}
    begins = len("<|user|>x<|assistant|>")
    held = [kept for kept in range(count + 1) if begins + 40 * kept <= 200 - 200 // 8]
    assert respond(client, **fields)["usage"]["input_tokens"] == begins + 40 * held[-1]


def test_an_item_that_is_kept_can_be_referred_to(serve):
    client, prompts = answering(serve, "one", "two")
    made = respond(client, input="go")
    (question,) = client.get(f"/v1/responses/{made['id']}/input_items").json["data"]
    ids = (question["id"], made["output"][0]["id"])
    items = [{"type": "item_reference", "id": ids[0]}, {"id": ids[1]}, {"role": "user", "content": "on"}]
    again = respond(client, input=items)
    assert prompts[1] == "<|user|>go<|assistant|>one<|user|>on<|assistant|>"
    listed = client.get(f"/v1/responses/{again['id']}/input_items?order=asc").json["data"]
    assert [item["id"] for item in listed[:2]] == [*ids]
