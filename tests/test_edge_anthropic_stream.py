"""Whatever a model says, the events of a stream add up to the whole message, and its calls have an object as input."""

import json

import pytest
from anthropic_client import blocks_of
from hypothesis import given
from hypothesis import strategies as st

from moedge.edge_server.anthropic.anthropic_events import AnswerBlocks
from moedge.edge_server.anthropic.call_input import CallInput
from moedge.edge_server.replies import named_event
from moedge.runtime.chat.answer import assistant_message
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Reasoning

words = st.text('ab\n{}"\\,:[] é\U0001f600', max_size=6)
objects = st.dictionaries(words, st.recursive(st.none() | st.integers() | words, st.lists, max_leaves=3), max_size=3)


@st.composite
def call(draw, index):
    arguments = draw(words | objects.map(json.dumps))
    cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=3)))
    parts = [arguments[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
    return [CallStart(index, f"id{index}", "f"), *(CallArguments(index, part) for part in parts if part)]


@st.composite
def answers(draw):
    deltas, calls = [], 0
    for kind in draw(st.lists(st.sampled_from(("thought", "text", "call")), max_size=6)):
        if kind == "call":
            deltas += draw(call(calls))
            calls += 1
        else:
            text = draw(words.filter(bool))
            deltas.append(Reasoning(text) if kind == "thought" else Content(text))
    return deltas


@given(answers(), st.booleans())
def test_events_add_up_to_the_message(deltas, shown):
    blocks = AnswerBlocks(shown)
    events = [event for delta in deltas for event in blocks.read(delta)] + blocks.close()
    assert all(named_event(event).endswith(b"\n\n") for event in events)
    assert blocks_of(events) == blocks.content
    message = assistant_message(deltas)
    told = {
        kind: [block for block in blocks.content if block["type"] == kind] for kind in ("text", "thinking", "tool_use")
    }
    assert "".join(block["text"] for block in told["text"]) == message["content"]
    thought = "".join(block["thinking"] for block in told["thinking"])
    assert thought == (message.get("reasoning_content", "") if shown else "")
    assert all(block["signature"] for block in told["thinking"])
    for block, made in zip(told["tool_use"], message.get("tool_calls", []), strict=True):
        try:
            arguments = json.loads(made["function"]["arguments"])
        except ValueError:
            continue
        assert block["input"] == (arguments if isinstance(arguments, dict) else {})


@given(objects, st.integers(0, 60), st.sampled_from((None, 0, 1)))
def test_an_object_is_read_whole_or_up_to_where_it_is_cut(value, cut, indent):
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    whole, broken = CallInput(), CallInput()
    assert json.loads(whole.push(text) + whole.finish()) == value == whole.value
    told = json.loads("".join(map(broken.push, text[:cut])) + broken.finish())
    assert told == broken.value
    assert all(value[name] == told[name] for name in told)


@given(st.text('{}[]",:\\ud80ab1e9 \n', max_size=40))
def test_whatever_is_written_an_object_comes_out(text):
    reader = CallInput()
    told = "".join(map(reader.push, text)) + reader.finish()
    assert json.loads(told) == reader.value
    json.dumps(reader.value, ensure_ascii=False, allow_nan=False).encode()
    at_once = CallInput()
    assert at_once.push(text) + at_once.finish() == told


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a": 1', {}),
        ('{"a": 1, "b": "x', {"a": 1}),
        ('{"a": 1, b: 2, "c": 3}', {"a": 1, "c": 3}),
        ('{"a": "\\ud800", "b": 1}', {"b": 1}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": NaN, "b": 1e999, "c": {"d": Infinity}}', {}),
        ('{"a": {"b": ["}", "\\"", ","]}}', {"a": {"b": ["}", '"', ","]}}),
        ('{"a": 1} {"b": 2}', {"a": 1}),
        ('[{"a": 1}]', {}),
        ('"a"', {}),
        ("a{}", {}),
        ('{"a":' + "[" * 5000 + "]" * 5000 + ', "b": 1}', {"b": 1}),
        ('{"a": ' + "9" * 5000 + "}", {}),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
    ids=lambda text: str(text)[:40],
)
def test_what_is_no_json_is_left_out(text, value):
    reader = CallInput()
    assert json.loads(reader.push(text) + reader.finish()) == reader.value == value
