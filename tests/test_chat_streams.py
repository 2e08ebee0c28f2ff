"""What holds of every chat format: cuts change nothing, nothing is lost or raised, prompts may open the thinking."""

import json
from itertools import product
from typing import get_args

import pytest
from chat_reading import GENERATED, check, read, read_named, thinking_tags_of
from hypothesis import given, settings
from hypothesis import strategies as st

from moedge.runtime.chat.delta import Content, Reasoning
from moedge.runtime.chat.formats import GRAMMARS, calls_tools, chat_parser
from moedge.runtime.chat.grammar import At, HeaderForm
from moedge.runtime.manifest import ChatFormat

# ü stands in no marker, so it counts what arrives
PIECES = [
    "ü",
    " ",
    "\n",
    "{",
    "}",
    "]",
    "```",
    '{"name": "fü", "arguments": {"ü": "ü"}}',
    '[{"name": "fü", "arguments": {"ü": [1, "ü"]}}, {"name": "g", "id": "ü12345678"}]',
    '{"name": "fü", "name": "gü"}',
    '{"name": 1, "arguments": "ü"}',
    '[fü(ü="ü"), g(x={"ü": (1, true)})]',
    "f(x='ü' # ü\n)",
    "f('ü')",
    'call:fü{ü:<|"|>ü<|"|>,x:[1,{ü:"ü"}]}',
    '{"tool_call_id": "0", "tool_name": "fü", "parameters": {"ü": "ü"}}',
    "functions.fü:0",
    "function<｜tool▁sep｜>fü\n```json\n",
    "fü\n",
    "<arg_key>ü</arg_key>\n<arg_value>ü</arg_value>",
    "<function=fü>\n<parameter=ü>\nü\n</parameter>\n</function>",
    "analysis",
    "commentary to=functions.fü ",
    "<|constrain|>json",
    " to=fü",
    "assistant",
]


# calls as the formats write them, in pieces that a soup may drop or repeat
_JSON_CALL = ("{", '"name": "fü"', ', "arguments": ', '{"ü": "ü"}', "}")
CALLS = {
    "cohere": (
        "<|START_THINKING|>", "ü", "<|END_THINKING|>", "<|START_TEXT|>", "ü", "<|END_TEXT|>", "<|START_ACTION|>", "[",
        '{"tool_call_id": "0", ', '"tool_name": "fü", ', '"parameters": {"ü": 1}', "}", "]", "<|END_ACTION|>",
    ),
    "deepseek_v3": (
        "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "function", "<｜tool▁sep｜>", "fü", "\n", "```json\n",
        '{"ü": ', "1}", "\n```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>",
    ),
    "deepseek_v3_1": (
        "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "fü", "<｜tool▁sep｜>", '{"ü": ', "1}",
        "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>",
    ),
    "ernie": (
        "\n</think>\n\n", "<response>", "\n", "ü", "\n</response>", "\n", "<tool_call>", *_JSON_CALL, "</tool_call>",
    ),
    "gemma4": (
        "<|channel>", "thought", "\n", "ü", "<channel|>", "<|tool_call>", "call:", "fü", "{", "ü", ":", '<|"|>', "ü",
        '<|"|>', ",x:", "[1,ü", "]", "}", "<tool_call|>", "<|tool_call>", "call:g{}", "<tool_call|>",
    ),
    "glm": (
        "<tool_call>", "fü", "\n", "<arg_key>", "ü", "</arg_key>", "<arg_value>", "ü", "</arg_value>", "</tool_call>",
    ),
    "gpt_oss": ("<|start|>", "assistant", "<|channel|>", "commentary", " to=fü", " <|constrain|>json", "<|message|>",
        '{"ü": 1}', "<|call|>", "<|channel|>", "analysis", "<|message|>", "ü", "<|end|>", "<|start|>", "assistant",
        "<|channel|>", "final", "<|message|>", "ü", "<|return|>",
    ),
    "granite": ("<|tool_call|>", "[", *_JSON_CALL, "]", "<tool_call>", *_JSON_CALL, "</tool_call>", "<response>", "ü",
        "</response>",
    ),
    "hermes": (
        "<tool_call>", "\n", *_JSON_CALL, "\n", "</tool_call>", "\n", "<tool_call>", *_JSON_CALL, "</tool_call>",
    ),
    "kimi_k2": (
        "<|tool_calls_section_begin|>", "<|tool_call_begin|>", "functions.fü:0", "<|tool_call_argument_begin|>",
        '{"ü": 1}', "<|tool_call_end|>", "<|tool_calls_section_end|>",
    ),
    "lfm2": (
        "<|tool_call_start|>", "[", "fü(", "ü='ü'", ", x=", "[1, true]", ")", ", ", "g()", "]", "<|tool_call_end|>",
        "ü",
    ),
    "mistral": (
        "[TOOL_CALLS]", " [", *_JSON_CALL, "]", "[TOOL_CALLS]", "fü", "[CALL_ID]", "ü23456789", "[ARGS]", '{"ü": 1}',
        "[TOOL_CALLS]", "gü", "{}",
    ),
    "plain": ("<tool_call>", "ü"),
    "qwen3_coder": (
        "<tool_call>", "\n", "<function=fü>", "\n", "<parameter=ü>", "\nü\n", "</parameter>", "\n</function>", "\n",
        "</tool_call>",
    ),
    "think": ("<think>", "ü", "</think>", "ü"),
}  # fmt: skip


@st.composite
def soups(draw):
    """A format, a text of its markers and of pieces, the places where it is cut, and the end of the prompt."""
    chat_format = draw(st.sampled_from(sorted(GRAMMARS)))
    grammar = GRAMMARS[chat_format]
    markers = sorted({marker for steps in grammar.steps.values() for marker in steps} | set(grammar.ends))
    soup = st.sampled_from([*markers, *PIECES, *(marker[:-2] for marker in markers)])
    call = st.integers(0, len(CALLS[chat_format])).map(
        lambda left_out: "".join(CALLS[chat_format][:left_out] + CALLS[chat_format][left_out + 1 :])
    )
    text = "".join(draw(st.lists(st.one_of(soup, call), max_size=8)))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return chat_format, text, pieces, draw(st.sampled_from(["", f"{grammar.think}\n"]))


def comparable(answer):
    reasoning, content, calls = answer
    return reasoning, content, [(None if GENERATED.fullmatch(i) else i, name, args) for i, name, args in calls]


@settings(max_examples=300, deadline=None)
@given(soups())
def test_cuts_do_not_matter_and_nothing_is_lost(soup):
    chat_format, text, pieces, prompt_end = soup
    whole = comparable(read([text], chat_format, prompt_end))
    assert comparable(read(pieces, chat_format, prompt_end)) == whole
    assert comparable(read(list(text), chat_format, prompt_end)) == whole
    reasoning, content, calls = whole
    # an id that holds its name was written as one text
    parts = [part for i, name, args in calls for part in (i or "", "" if name in (i or "") else name, args)]
    assert "".join([reasoning, content, *parts]).count("ü") == text.count("ü")
    for *_, arguments in calls if chat_format in ("gemma4", "glm", "lfm2", "qwen3_coder") else ():
        assert isinstance(json.loads(arguments), dict)


def test_the_manifest_names_the_formats_that_there_are():
    assert sorted(GRAMMARS) == sorted(get_args(ChatFormat))
    assert {name for name in GRAMMARS if not calls_tools(name)} == {"plain", "think"}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_no_marker_is_complete_before_another_that_holds_it(grammar):
    # so none begins another either, and a search has no choice to make
    for steps in grammar.steps.values():
        # a call in doubt adds the tags that close thinking
        markers = {*steps, *grammar.thought_ends}
        for marker in markers:
            assert not [other for other in markers if marker in other[:-1]]


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_every_state_that_is_reached_is_described(grammar):
    leads = [lead for steps in grammar.steps.values() for lead in steps.values()]
    reached = {lead for lead in leads if isinstance(lead, At)}
    if grammar.calls_tools:
        reached |= {At.INSIDE, At.LOOSE, grammar.refused}
    headers = [form for lead in leads if not isinstance(lead, At) for form in lead if isinstance(form, HeaderForm)]
    if any(not (form.messages and grammar.think) for form in headers):  # such a one opens thinking, Gemma's
        reached.add(At.ARGUMENTS)
    assert reached <= set(grammar.steps)


FORMATS_THAT_THINK = sorted(name for name, grammar in GRAMMARS.items() if grammar.think)


@pytest.mark.parametrize("chat_format", FORMATS_THAT_THINK)
def test_thinking_that_the_prompt_opened(chat_format):
    grammar = GRAMMARS[chat_format]
    tag, end = thinking_tags_of(chat_format)
    for prompt_end in (tag, f"<|assistant|>{tag}{grammar.thought_name}\n"):
        check(f"It is 4.{end}Four.", ("It is 4.", "Four.", []), chat_format, prompt_end)
        check("It is", ("It is", "", []), chat_format, prompt_end)
    assert read_named([f"It is 4.{end}Four."], chat_format)[0] == ""
    for prompt_end in (f"{tag}\n\n{end}\n\n", f"{tag} said the user<|assistant|>", ""):
        check("Four.", ("", "Four.", []), chat_format, prompt_end)


@pytest.mark.parametrize("chat_format", sorted(set(FORMATS_THAT_THINK) - {"kimi_k2"}))
def test_newlines_beside_the_tags_are_layout(chat_format):
    tag, end = thinking_tags_of(chat_format)
    text = f"{tag}\nIt is 4.\n\nSurely.\n{end}\n\n  Four.\n"
    check(text, ("It is 4.\n\nSurely.", "  Four.\n", []), chat_format)
    check(f"{tag}\n\n{end}\n\nFour.", ("", "Four.", []), chat_format)
    check(f"\n{tag}a", ("a", "", []), chat_format)
    check(f"{tag}\n{tag}\na", ("a", "", []), chat_format, f"{tag}\n")
    check(" \n", ("", " \n", []), chat_format)
    check(f"Say {tag} or {end}.", ("", f"Say {tag} or {end}.", []), chat_format)


@pytest.mark.parametrize("chat_format", sorted(GRAMMARS))
def test_the_end_of_a_turn_may_be_delivered(chat_format):
    for end in GRAMMARS[chat_format].ends:
        check(f"Hi{end}", ("", "Hi", []), chat_format)
        check(f"Hi{end[:-1]}", ("", f"Hi{end[:-1]}", []), chat_format)
        check(f"a{end}b", ("", f"a{end}b", []), chat_format)
        check(end, ("", "", []), chat_format)


REPEATED = (
    " ",
    "\n",
    '"',
    '"\\',
    "'",
    "{",
    '{"',
    '{a:<|"|>',
    "call:f{a:[",
    "<arg_key>a</arg_key><arg_value>",
    "<function=f>\n",
    "f(from=",
    "to=",
)


@pytest.mark.parametrize("chat_format", sorted(GRAMMARS))
def test_a_model_that_repeats_itself_is_read_in_time(chat_format):
    """A parser that searches the same text over and over would take hours."""
    grammar = GRAMMARS[chat_format]
    openers = {mark for steps in grammar.steps.values() for mark, lead in steps.items() if not isinstance(lead, At)}
    within = {mark for at in (At.INSIDE, At.ARGUMENTS) for mark in grammar.steps.get(at, {})}
    for repeated, opener, closer in product(REPEATED, sorted(openers), sorted({*within, ""})):
        text = [opener, "f", repeated * 3000, closer]
        for prompt_end in ("", f"{grammar.think}\n"):
            read(text, chat_format, prompt_end)


@pytest.mark.parametrize("chat_format", sorted(GRAMMARS))
def test_text_streams_at_once(chat_format):
    parser = chat_parser(chat_format)
    assert parser.push("Hello") == [Content("Hello")]
    assert parser.push(" you") == [Content(" you")]
    if GRAMMARS[chat_format].think:
        parser = chat_parser(chat_format, GRAMMARS[chat_format].think)
        assert parser.push("Well") == [Reasoning("Well")]
        assert parser.push(" so\n") == [Reasoning(" so" if chat_format != "kimi_k2" else " so\n")]
