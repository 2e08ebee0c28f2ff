"""Thinking that ends at its budget: by hand, over HTTP, with guesses and grammars beside."""

import pytest
from edge_client import chat, error_of
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st

from moedge.runtime.chat.delta import Content, Reasoning
from moedge.runtime.chat.formats import GRAMMARS, chat_parser
from moedge.runtime.chat.thought_tags import thought_tags
from moedge.runtime.thought_limit import ThoughtBudget, ThoughtLimit

CUT = (90, 91)


def follow(texts, tokens, opened=False):
    """How many of the texts passed before the end of thinking was forced; None if it never was."""
    limit = ThoughtLimit(ThoughtBudget(tokens, "<think>", "</think>", opened, CUT))
    for place, text in enumerate(texts):
        if limit.forced:
            assert limit.forced == [*CUT]
            return place
        limit.add(place, text)
    return len(texts) if limit.forced else None


@pytest.mark.parametrize(
    ("texts", "tokens", "opened", "cut"),
    [
        (["a", "b", "c"], 2, True, 2),
        (["a", "b", "c"], 0, True, 0),
        (["a", "</think>", "c", "d"], 2, True, None),
        (["a</th", "ink>", "c", "d"], 3, True, None),
        (["<think>", "b", "c", "d"], 2, False, 3),
        (["<think>", "b", "c", "d"], 0, False, 1),
        (["\n<th", "ink>", "b", "c"], 1, False, 3),
        (["a", "<think>", "b", "c"], 1, False, None),
        (["<b>", "b", "c"], 0, False, None),
    ],
)
def test_thinking_is_cut_at_its_budget(texts, tokens, opened, cut):
    assert follow(texts, tokens, opened) == cut


def test_what_is_forced_is_forced_once():
    limit = ThoughtLimit(ThoughtBudget(0, "<think>", "</think>", True, CUT))
    for token_id in CUT:
        assert limit.forced[0] == token_id
        limit.add(token_id, "x")
    for token_id in range(20):
        assert limit.forced == []
        limit.add(token_id, "<think>")


@pytest.mark.parametrize("name", [name for name, grammar in GRAMMARS.items() if grammar.think] + ["gpt_oss"])
@given(st.text("abc \n", min_size=1))
def test_what_is_appended_ends_the_thinking_of_every_format(name, thought):
    tags = thought_tags(name, "")
    parser = chat_parser(name)
    deltas = parser.push(f"{tags.opening}{thought}x{tags.cut}said") + parser.finish()
    read = {kind: "".join(d.text for d in deltas if isinstance(d, kind)) for kind in (Reasoning, Content)}
    assert read[Reasoning].strip() == f"{thought}x".strip()
    assert read[Content] == "said"


@pytest.mark.parametrize("field", ["thinking_budget", "thinking_token_budget", "reasoning_budget", "reasoning"])
def test_a_request_bounds_its_thinking_and_is_answered(serve, field):
    engine = FakeEngine(lambda prompt: ["<think>", *"abcdefgh", "</think>", "said"], chat_format="hermes")
    engine.thought_budget = lambda prompt, tokens, must_call: ThoughtBudget(
        tokens, "<think>", "</think>", False, (engine.tokenizer.word("</think>"), engine.tokenizer.word("!"))
    )
    value = {"max_tokens": 3} if field == "reasoning" else 3
    body = chat(serve(engine), **{field: value}).json
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == "abc"
    assert message["content"].startswith("!")
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] >= 3


def test_two_budgets_that_disagree_are_refused(serve):
    assert error_of(chat(serve(), thinking_budget=1, reasoning_budget=2), 400)["param"] == "reasoning_budget"
    assert chat(serve(), thinking_budget=-1).status_code == 200


@pytest.mark.parametrize(("effort", "thought"), [("none", None), ("low", "ab"), (None, "ab")])
def test_whoever_wants_no_thinking_gets_none_without_a_switch_in_the_template_too(serve, effort, thought):
    engine = FakeEngine(lambda prompt: ["<think>", *"ab", "</think>", "said"], chat_format="hermes")
    cut = (engine.tokenizer.word("</think>"), engine.tokenizer.word("!"))
    engine.thought_budget = lambda prompt, tokens, *_: ThoughtBudget(tokens, "<think>", "</think>", False, cut)
    message = chat(serve(engine), reasoning_effort=effort).json["choices"][0]["message"]
    assert message.get("reasoning_content") == thought
