"""Conversations in Anthropic's form: what the template is shown of them, and what is refused by name."""

import pytest

from moedge.edge_server.anthropic.anthropic_ids import give_call_id, own_call_id
from moedge.edge_server.anthropic.anthropic_signatures import hidden_thought, sign
from moedge.edge_server.anthropic.anthropic_turns import read_conversation
from moedge.edge_server.errors import ApiError
from moedge.edge_server.fields import Fields

CALLED = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": None, "b": [1]}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}


def text(words, **more):
    return {"type": "text", "text": words, **more}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


def shown(*messages, **fields):
    return list(read_conversation(Fields({"messages": list(messages), **fields})).messages)


CALLS = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a": null, "b": [1]}'}}
    ],
}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("a")], [user("a")]),
        ([user([text("a"), text("b")])], [user("a\nb")]),
        ([user([text("a\n"), text("b"), text("\nc")])], [user("a\nb\nc")]),
        ([user("a"), user([text("b", cache_control={"type": "ephemeral", "ttl": "1h"})])], [user("a\nb")]),
        (
            [user("a"), assistant([text("b"), text("c", citations=None)]), user("d")],
            [user("a"), assistant("bc"), user("d")],
        ),
        ([user("a"), assistant("b"), assistant("c"), user("d")], [user("a"), assistant("bc"), user("d")]),
        ([user("a"), assistant([]), user("d")], [user("a"), assistant(""), user("d")]),
        ([user("a"), assistant("")], [user("a")]),
        (
            [user("a"), system("s"), user("b")],
            [user("a\ns\nb")],
        ),
        ([user("a"), system("s")], [user("a\ns")]),
        ([user("a"), {**system("s"), "clear_at": "next_user_message"}], [user("a\ns")]),
        ([user("a"), {**system("s"), "clear_at": "next_user_message"}, user("b")], [user("a\nb")]),
        (
            [user("a"), {**system("s"), "clear_at": "never"}, assistant("b"), user("c")],
            [user("a\ns"), assistant("b"), user("c")],
        ),
        ([system("s"), system([text("t")]), user("a")], [system("s\nt"), user("a")]),
        (
            [user("a"), assistant([CALLED]), user([RESULT]), system("s")],
            [user("a"), CALLS, {"role": "tool", "content": "ok", "tool_call_id": "toolu_1", "name": "f"}, user("s")],
        ),
        (
            [user("a"), assistant([{"type": "thinking", "thinking": "t", "signature": "x"}, text("b")]), user("c")],
            [user("a"), {**assistant("b"), "reasoning_content": "t"}, user("c")],
        ),
        (
            [user("a"), assistant([{"type": "redacted_thinking", "data": "x"}, text("b")]), user("c")],
            [user("a"), assistant("b"), user("c")],
        ),
        (
            [user("a"), assistant([CALLED]), user([RESULT, text("go on")])],
            [
                user("a"),
                CALLS,
                {"role": "tool", "content": "ok", "tool_call_id": "toolu_1", "name": "f"},
                user("go on"),
            ],
        ),
    ],
)
def test_what_the_template_is_shown(messages, expected):
    assert shown(*messages) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"content": ...}, ""),
        ({"content": []}, ""),
        ({"content": [text("a"), text("b")]}, "a\nb"),
        ({"is_error": True}, "Error: ok"),
        ({"is_error": True, "content": ""}, "Error"),
        ({"is_error": False, "cache_control": {"type": "ephemeral"}}, "ok"),
    ],
)
def test_results_of_calls(result, expected):
    block = {name: value for name, value in {**RESULT, **result}.items() if value is not ...}
    assert shown(user("a"), assistant([CALLED]), user([block]))[-1]["content"] == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("s", "s"), ([text("s"), text("t", cache_control={"type": "ephemeral"})], "s\nt"), ("", None), ([], None)],
)
def test_the_system_prompt_stands_first(prompt, expected):
    assert shown(user("a"), system=prompt) == [*([] if expected is None else [system(expected)]), user("a")]


def test_what_the_system_says_before_all_else_belongs_to_its_prompt():
    assert shown(system("t"), user("a"), system="s") == [system("s\nt"), user("a")]


SECOND = {**CALLED, "id": "toolu_2"}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages: it must be a list of at least one message"),
        ([{"role": "tool", "content": "a"}], "messages[0].role"),
        ([user("")], "messages[0].content: it is empty"),
        ([user([])], "messages[0].content: it is empty"),
        ([user(1)], "messages[0].content"),
        ([user(["a"])], "messages[0].content[0]"),
        ([{**user("a"), "name": "x"}], "messages[0].name"),
        ([user([text("a", colour="red")])], "messages[0].content[0].colour"),
        ([user([{"type": "image", "source": {}}])], "'image' is not supported"),
        ([user([{"type": "document", "source": {}}])], "'document' is not supported"),
        ([user([{"type": "search_result"}])], "'search_result' is not supported"),
        ([user([{}])], "messages[0].content[0].type"),
        ([user([CALLED])], "messages[0].content[0].type: tool_use does not stand in user"),
        ([user("a"), assistant([RESULT])], "messages[1].content[0].type: tool_result does not stand in assistant"),
        ([user("a"), system([CALLED])], "messages[1].content[0].type"),
        ([user([RESULT])], "messages[0].content[0].tool_use_id: 'toolu_1'"),
        ([user("a"), assistant([CALLED]), user("b")], "messages[2]: the call 'toolu_1' needs its tool_result"),
        ([user("a"), assistant([CALLED])], "messages[1]: the call 'toolu_1' needs its tool_result"),
        ([user("a"), assistant([CALLED, SECOND]), user([RESULT])], "'toolu_2' needs"),
        ([user("a"), assistant([CALLED, CALLED]), user([RESULT])], "two calls have the id"),
        ([user("a"), assistant([CALLED]), user([RESULT, RESULT])], "messages[2].content[1].tool_use_id"),
        ([user("a"), assistant([CALLED]), user([text("b"), RESULT])], "must come before all other content"),
        ([user("a"), assistant([CALLED]), user("b"), user([RESULT])], "must come before all other content"),
        ([user("a"), assistant([CALLED]), system("s"), user([RESULT])], "must come before all other content"),
        ([user("a"), assistant([{**CALLED, "input": "{}"}])], "messages[1].content[0].input: it must be an object"),
        ([user("a"), assistant([{**CALLED, "caller": {"type": "code_execution_20250825"}}])], "content[0].caller"),
        ([user("a"), assistant([CALLED]), user([{**RESULT, "content": [{"type": "image"}]}])], "content[0].content[0]"),
        ([user("a"), assistant([{"type": "thinking", "thinking": "t", "signature": "moedge.!"}])], "signature"),
        (
            [user("a"), assistant([{"type": "thinking", "thinking": "t", "signature": "x"}])],
            "must have begun with text",
        ),
        ([user("a"), assistant("b ")], "must not end in blanks"),
        ([user("a"), {**system("s"), "clear_at": "soon"}], "messages[1].clear_at"),
        ([user("a"), {**system("s"), "output_config": {"effort": "low"}}], "messages[1].output_config"),
        ([user("a"), system([{"type": "tool_addition", "tool": {"type": "tool_definition"}}])], "content[0].tool.type"),
        ([system("s")], "messages: it needs a message of role user"),
    ],
)
def test_what_is_refused(messages, words):
    with pytest.raises(ApiError) as raised:
        shown(*messages)
    assert raised.value.status == 400
    assert words in raised.value.message


def test_ids_of_calls_are_unlike_and_read_back():
    written = "call-functions-2eset_light-3a0"
    first, second = give_call_id(written), give_call_id(written)
    assert first != second
    assert own_call_id(first) == own_call_id(second) == "functions.set_light:0"
    assert own_call_id("toolu_01A09q90qw90lq917835lq9") == "toolu_01A09q90qw90lq917835lq9"


@pytest.mark.parametrize("thought", ["", "a", "é\n<think>", "x" * 1000])
def test_hidden_thinking_is_in_its_signature_alone(thought):
    assert sign(thought, True) == "moedge"
    assert hidden_thought(sign(thought, False)) == thought
    assert hidden_thought("EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds") == ""
    block = {"type": "thinking", "thinking": "", "signature": sign(thought, False)}
    answer = shown(user("a"), assistant([block, text("b")]), user("c"))[1]
    assert answer.get("reasoning_content", "") == thought
