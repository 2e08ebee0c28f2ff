"""Fields of a request in Anthropic's form: what is accepted, what is refused by name, which tools are shown."""

import pytest
from anthropic_client import TOOL, ask, refusal, said
from fake_engine import FakeEngine
from test_edge_anthropic_turns import CALLED, RESULT, assistant, system, text, user

from moedge.edge_server.anthropic.anthropic_wire import read_message
from moedge.edge_server.errors import ApiError
from moedge.edge_server.questions import ModelLimits
from moedge.edge_server.response_format import json_content
from moedge.runtime.sampling import SamplingParams

LONG = "a" * 128
CHANGES = ("tool_addition", "tool_removal")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": ...}, "max_tokens: it is required"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": ...}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"top_k": 2.5}, "top_k"),
        ({"stop": ["x"]}, "stop: there is no such field; stop_sequences is one"),
        ({"stop_sequences": "x"}, "stop_sequences: it must be a list"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"stop_sequences": ["x" * 257]}, "stop_sequences"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"max_token": 3}, "max_token: there is no such field; max_tokens is one"),
        ({"system": 1}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management"),
        ({"diagnostics": {"previous_message_id": "msg_1"}}, "diagnostics"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"speed": "fast"}, "speed"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens: it is required"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled", "budget_tokens": 1}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "display": "loud"}}, "thinking.display"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": {"type": "json_schema", "schema": []}}, "output_format.schema"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "'web_search_20250305'"),
        ({"tools": [{"type": "computer_20250124", "name": "computer"}]}, "'computer_20250124'"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema: it is required"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "name": "a" * 129}]}, "tools[0].name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name: set_light is there twice"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [{**TOOL, "input_schema": {"type": "array"}}]}, "tools[0].input_schema.type"),
        ({"tools": [{**TOOL, "defer_loading": 1}]}, "tools[0].defer_loading"),
        ({"tools": [{**TOOL, "defer_loading": True}], "tool_choice": {"type": "any"}}, "tool_choice.type"),
        ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]}, "tools[0].allowed_callers"),
        ({"tools": [{**TOOL, "description": "x" * 70000}]}, "tools[0].description"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice: it must be an object"),
        ({"tools": [TOOL], "tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name: there is no tool 'g'"),
        ({"tool_choice": {"type": "any"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "none", "name": "f"}}, "tool_choice.name"),
    ],
    ids=str,
)
def test_fields_are_refused_by_name(serve, fields, words):
    error = refusal(ask(serve(), **fields), 400)
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


def test_a_conversation_that_the_server_shall_hold_is_refused_as_the_package_knows_it(serve):
    response = ask(serve(), thread={"type": "create"})
    assert response.status_code == 400
    assert response.json["error"]["details"] == {"error_code": "thread_unsupported_request"}
    assert "send the whole of it" in response.json["error"]["message"]


def test_what_a_coding_agent_sends_is_accepted(serve):
    mark = {"cache_control": {"type": "ephemeral"}}
    tools = [
        {**TOOL, "name": f"mcp__server__tool_{i}", "description": "d" * 2000, "eager_input_streaming": True}
        for i in range(60)
    ]
    message = said(
        serve(FakeEngine(context_length=1 << 18)),
        model="acme/fake-moe",
        system=[text("You are an agent."), text("rules " * 50, **mark)],
        messages=[user([text("<system-reminder>r</system-reminder>"), text("hello", **mark)]), system([text("env")])],
        tools=[*tools, {**TOOL, "defer_loading": True}],
        metadata={"user_id": "u"},
        temperature=1,
        thinking={"type": "adaptive", "display": "updates", "block_binding": {}},
        output_config={"effort": "high"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        service_tier="auto",
        speed="standard",
        mcp_servers=[],
        container=None,
        **mark,
    )
    assert message["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    "choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "set_light"}, {"type": "none"}]
)
def test_tools_are_shown_as_the_choice_says(serve, choice):
    other = {"name": "other", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}
    counted = {}
    for name, tools in {"both": [TOOL, other], "one": [TOOL], "none": []}.items():
        counted[name] = ask(serve(), "/v1/messages/count_tokens", max_tokens=..., tools=tools).json["input_tokens"]
    chosen = ask(serve(), "/v1/messages/count_tokens", max_tokens=..., tools=[TOOL, other], tool_choice=choice)
    expected = {"tool": "one", "none": "none"}.get(choice["type"], "both")
    assert chosen.json["input_tokens"] == counted[expected]


def test_a_tool_that_is_held_back_is_shown_once_it_was_found(serve):
    other = {"name": "other", "input_schema": {"type": "object"}}
    reference = {"type": "tool_reference", "tool_name": "set_light"}
    found = [user("a"), assistant([CALLED]), user([{**RESULT, "content": [reference]}])]
    named = [user("a"), assistant([CALLED]), user([{**RESULT, "content": "set_light"}])]

    def count(messages, **more):
        fields = {"messages": messages, "tools": [other, {**TOOL, **more}], "max_tokens": ...}
        return ask(serve(), "/v1/messages/count_tokens", **fields).json["input_tokens"]

    hidden = count(named, defer_loading=True)
    assert hidden < count(named) == count(found, defer_loading=True) == count(found)
    changes = {kind: {"type": kind, "tool": {"type": "tool_reference", "name": "set_light"}} for kind in CHANGES}
    added, removed = ([*named, system([changes[kind]])] for kind in CHANGES)
    assert count(added, defer_loading=True) == count(added) == count(named)
    assert count(removed) == count(removed, defer_loading=True) == hidden
    again = [*named, system([changes["tool_removal"], changes["tool_addition"]])]
    assert count(again) == count(named)
    lost = [*named, system([{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "lost"}}])]
    assert "'lost'" in refusal(ask(serve(), messages=lost, tools=[TOOL]), 400)["message"]


@pytest.mark.parametrize(
    ("fields", "effort", "budget", "shown"),
    [
        ({}, None, None, True),
        ({"output_config": {"effort": "max"}}, "max", None, True),
        ({"thinking": None}, None, None, True),
        ({"thinking": {"type": "adaptive"}}, "medium", None, True),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "low"}},
            "low",
            None,
            False,
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "medium", 1024, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 0, "display": "summarized"}}, "medium", 0, True),
        ({"thinking": {"type": "disabled"}}, "none", 0, True),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "none", 0, True),
    ],
)
def test_how_much_to_think(fields, effort, budget, shown):
    data = {"messages": [user("a")], "max_tokens": 9, **fields}
    read = read_message(data, SamplingParams(), ModelLimits(100, 100, True))
    assert (read.question.wishes.effort, read.question.thinking_budget, read.shows_thinking) == (effort, budget, shown)


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_a_form_is_read_from_either_place(place):
    form = {"type": "json_schema", "schema": {"type": "object"}}
    fields = {"output_config": {"format": form}} if place == "output_config" else {"output_format": form}
    data = {"messages": [user("a")], "max_tokens": 9, **fields}
    read = read_message(data, SamplingParams(), ModelLimits(100, 100, True))
    assert read.question.form.content == json_content('{"type": "object"}')
    with pytest.raises(ApiError, match="send one of them"):
        both = {**data, "output_format": form, "output_config": {"format": form}}
        read_message(both, SamplingParams(), ModelLimits(100, 100, True))


@pytest.mark.parametrize(
    ("choice", "calls", "most"),
    [
        (None, "auto", None),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", 1),
        ({"type": "any"}, "required", None),
        ({"type": "tool", "name": LONG}, "required", None),
        ({"type": "tool", "name": "set_light", "disable_parallel_tool_use": True}, "required", 1),
    ],
)
def test_calls_are_held_as_the_choice_says(choice, calls, most):
    name = (choice or {}).get("name", "set_light")
    tools = [{**TOOL, "name": name, "strict": True}]
    data = {"messages": [user("a")], "max_tokens": 9, "tools": tools, "tool_choice": choice}
    form = read_message(data, SamplingParams(), ModelLimits(100, 100, True)).question.form
    assert (form.calls, form.most_calls) == (calls, most)
    assert [(tool.name, tool.strict) for tool in form.tools] == [(name, True)]
