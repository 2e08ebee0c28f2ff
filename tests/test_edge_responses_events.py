"""The events of a response add up to the response, whatever an answer says and however it is cut."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from moedge.edge_server.answering import Said
from moedge.edge_server.logprobs import Alternative, TokenLogprob
from moedge.edge_server.responses.responses_output import ResponseOutput
from moedge.runtime.chat.delta import CallArguments, CallStart, Content, Reasoning

TEXTS = st.text(min_size=1, max_size=6)
NAMES = st.sampled_from(["f", "g", "custom"])


def told(text):
    token = TokenLogprob(text, text.encode(), -0.5, (Alternative(1, b"x", -1.0),))
    return (token,)


@st.composite
def answers(draw):
    """What a parser may say: arguments are of the call before them."""
    said, calls, logprobs = [], 0, draw(st.booleans())
    for kind in draw(st.lists(st.sampled_from(["reasoning", "content", "call", "arguments"]), max_size=12)):
        text = draw(TEXTS)
        if kind == "reasoning":
            said.append(Said(Reasoning(text), () if logprobs else None))
        elif kind == "content":
            said.append(Said(Content(text), told(text) if logprobs else None))
        elif kind == "call":
            said.append(Said(CallStart(calls, f"id{calls}", draw(NAMES)), () if logprobs else None))
            calls += 1
        elif said and isinstance(said[-1].delta, CallStart | CallArguments):
            said.append(Said(CallArguments(calls - 1, text), () if logprobs else None))
    return said


def collected(events):
    """The items as a client collects them from the events alone; each event is checked against what came before."""
    items, done = [], set()
    for event in events:
        kind, place = event["type"].removeprefix("response."), event["output_index"]
        if kind == "output_item.added":
            assert place == len(items)
            assert len(done) == len(items), "one is open at a time"
            items.append(event["item"])
            continue
        assert place == len(items) - 1
        assert place not in done
        item = items[place]
        if kind == "output_item.done":
            if item["type"] == "custom_tool_call":
                assert item == event["item"]
            done.add(place)
            assert {**item, "status": 0} == {**event["item"], "status": 0}
            items[place] = event["item"]
            continue
        assert event["item_id"] == item["id"]
        if kind == "content_part.added":
            item["content"].append(event["part"])
        elif kind == "content_part.done":
            assert item["content"] == [event["part"]]
        elif kind in ("output_text.delta", "reasoning_text.delta"):
            part = item["content"][event["content_index"]]
            part["text"] += event["delta"]
            if "logprobs" in event:
                part["logprobs"] += event["logprobs"]
        elif kind in ("output_text.done", "reasoning_text.done"):
            assert item["content"][event["content_index"]]["text"] == event["text"]
        else:
            name = "input" if "custom" in kind else "arguments"
            if kind.endswith("delta"):
                item[name] += event["delta"]
            else:
                assert event[name] == item[name]
    assert done == set(range(len(items)))
    return items


@given(answers(), st.sampled_from(["completed", "incomplete"]))
def test_events_add_up_to_the_items(said, status):
    output = ResponseOutput(frozenset({"custom"}))
    events = [copy.deepcopy(event) for each in said for event in output.read(each)]
    events += map(copy.deepcopy, output.close(status))
    assert collected(events) == output.items
    texts = {"reasoning": "", "message": "", "function_call": "", "custom_tool_call": ""}
    for item in output.items:
        text = item["content"][0]["text"] if "content" in item else item.get("arguments", item.get("input"))
        texts[item["type"]] += text
    assert texts["reasoning"] == "".join(each.delta.text for each in said if isinstance(each.delta, Reasoning))
    assert texts["message"] == "".join(each.delta.text for each in said if isinstance(each.delta, Content))
    arguments = "".join(each.delta.text for each in said if isinstance(each.delta, CallArguments))
    assert len(texts["function_call"] + texts["custom_tool_call"]) == len(arguments)
    states = [item["status"] for item in output.items if "status" in item]
    assert set(states[:-1]) <= {"completed"}
    assert states[-1:] == [status] or not said or output.items[-1]["type"] == "custom_tool_call"


@given(answers(), st.data())
def test_the_items_do_not_depend_on_how_texts_are_cut(said, data):
    """An answer that comes in smaller parts is the same answer."""
    cut = []
    for each in said:
        if isinstance(each.delta, CallStart) or len(each.delta.text) < 2:
            cut.append(each)
            continue
        place = data.draw(st.integers(1, len(each.delta.text) - 1))
        for text in (each.delta.text[:place], each.delta.text[place:]):
            delta = (
                CallArguments(each.delta.index, text)
                if isinstance(each.delta, CallArguments)
                else type(each.delta)(text)
            )
            cut.append(Said(delta, None))
    assert items_of([Said(each.delta) for each in said]) == items_of([Said(each.delta) for each in cut])


def items_of(said):
    output = ResponseOutput(frozenset({"custom"}))
    for each in said:
        list(output.read(each))
    list(output.close())
    return [{name: value for name, value in item.items() if name != "id"} for item in output.items]
