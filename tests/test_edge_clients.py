"""What clients send beside OpenAI's fields, how they choose tools, and which of their spellings mean the same."""

import re
from pathlib import Path

import pytest
from edge_client import HELLO, TOOLS, chat, error_of
from fake_engine import FakeEngine

from moedge.edge_server.foreign_fields import HARMLESS, NEUTRAL

TWO_TOOLS = [*TOOLS, {"type": "function", "function": {"name": "get_time"}}]
NAMED = {"type": "function", "function": {"name": "get_time"}}


def content_of(response):
    assert response.status_code == 200, response.text
    return response.json["choices"][0]["message"]["content"]


@pytest.fixture
def echo(serve):
    """A server whose model repeats its prompt."""
    return serve(FakeEngine(lambda prompt: [prompt]))


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_what_changes_nothing_is_let_through_whatever_it_says(serve, name):
    client = serve()
    for value in ("x", 3, {"a": [1]}, None):
        assert chat(client, **{name: value}).status_code == 200
        assert client.post("/v1/completions", json={"prompt": "x", name: value}).status_code == 200


def test_the_page_lists_what_changes_nothing():
    page = (Path(__file__).parents[1] / "docs" / "http.md").read_text()
    listed = page[page.index("<!-- harmless -->") : page.index("<!-- /harmless -->")]
    assert re.findall(r"`(\w+)`", listed) == sorted(HARMLESS)


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_what_is_so_anyway_is_let_through_and_nothing_else(serve, name):
    client = serve()
    for value in (*NEUTRAL[name], None):
        assert chat(client, **{name: value}).status_code == 200
        assert client.post("/v1/completions", json={"prompt": "x", name: value}).status_code == 200
    error = error_of(chat(client, **{name: "else"}), 400)
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")


def test_a_number_at_its_default_may_have_a_decimal_point(serve):
    client = serve()
    assert chat(client, typical_p=1.0, n=1.0).status_code == 200
    assert error_of(chat(client, typical_p=True), 400)["param"] == "typical_p"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("temprature", "temperature"), ("max_token", "max_tokens"), ("tool_choise", "tool_choice"), ("top-p", "top_p")],
)
def test_a_misspelt_field_is_told_the_right_name(serve, written, meant):
    error = error_of(chat(serve(), **{written: 1}), 400)
    assert (error["param"], error["code"]) == (written, "unknown_parameter")
    assert meant in error["message"]


@pytest.mark.parametrize("name", ["enable_thinking", "thinking", "think", "reasoning"])
def test_how_other_servers_switch_thinking_is_told_where_to_be_said(serve, name):
    assert "chat_template_kwargs" in error_of(chat(serve(), **{name: False}), 400)["message"]


def test_a_field_like_no_other_is_told_no_name(serve):
    assert error_of(chat(serve(), colour=1), 400)["message"] == "colour: there is no such field."


def sampled_with(serve, **fields):
    engine = FakeEngine()
    response = chat(serve(engine), **fields)
    assert response.status_code == 200, response.text
    (params,) = engine.params
    return params


def test_spellings_of_other_servers_mean_the_same(serve):
    assert sampled_with(serve, top_k=-1).top_k == 0
    assert sampled_with(serve, max_tokens=-1).max_tokens is None
    assert sampled_with(serve, max_completion_tokens=-1).max_tokens is None
    assert sampled_with(serve, repeat_penalty=1.5).repetition_penalty == 1.5
    assert sampled_with(serve, repeat_penalty=1.5, repetition_penalty=1.5).repetition_penalty == 1.5
    error = error_of(chat(serve(), repeat_penalty=1.5, repetition_penalty=1.1), 400)
    assert error["param"] == "repeat_penalty"


def test_any_64_bits_are_a_seed(serve):
    for seed in (0, 1, -1, -(1 << 63), (1 << 63), (1 << 64) - 1):
        assert sampled_with(serve, seed=seed).seed == seed % (1 << 64)
    for seed in (-(1 << 63) - 1, 1 << 64, 1.5, "7"):
        assert error_of(chat(serve(), seed=seed), 400)["param"] == "seed"


def test_top_p_of_0_takes_the_likeliest(serve):
    assert sampled_with(serve, top_p=0).top_p == 0


def test_a_stop_string_may_have_256_bytes(serve):
    assert chat(serve(), stop="é" * 128).status_code == 200
    assert error_of(chat(serve(), stop="é" * 128 + "e"), 400)["param"] == "stop"


def test_stream_options_are_read_where_there_is_no_stream(serve):
    assert "usage" in chat(serve(), stream_options={"include_usage": True}).json


@pytest.mark.parametrize("choice", ["required", "any", "auto", None])
def test_a_choice_of_all_tools_shows_them_all(echo, choice):
    text = content_of(chat(echo, tools=TWO_TOOLS, tool_choice=choice))
    assert "set_light" in text
    assert "get_time" in text


@pytest.mark.parametrize(
    "choice",
    [
        NAMED,
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
    ],
)
def test_a_choice_of_some_tools_shows_those_alone(echo, choice):
    text = content_of(chat(echo, tools=TWO_TOOLS, tool_choice=choice))
    assert "set_light" not in text
    assert "get_time" in text


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("always", "tool_choice"),
        (3, "tool_choice"),
        ({"type": "mcp"}, "tool_choice.type"),
        ({"type": "function"}, "tool_choice.function"),
        ({"type": "function", "function": {"name": "f"}}, "tool_choice.function.name"),
        ({**NAMED, "x": 1}, "tool_choice.x"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "all"}}, "tool_choice.allowed_tools.mode"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp"}]}},
            "tool_choice.allowed_tools.tools[0].type",
        ),
    ],
)
def test_a_choice_of_what_is_not_there_is_named(serve, choice, param):
    assert error_of(chat(serve(), tools=TWO_TOOLS, tool_choice=choice), 400)["param"] == param


def test_a_call_cannot_be_required_of_no_tools(serve):
    assert error_of(chat(serve(), tool_choice="required"), 400)["param"] == "tool_choice"
    assert chat(serve(), tool_choice="none").status_code == 200
    assert chat(serve(), tool_choice="auto", tools=[], messages=HELLO["messages"]).status_code == 200
