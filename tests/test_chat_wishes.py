"""What a template reads beside the conversation: its variables, and how much to think put in its own words."""

import json

import pytest

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.template import ChatTemplate
from moedge.runtime.chat.variables import UnknownVariable
from moedge.runtime.chat.wishes import EFFORTS, MAX_BYTES, Wishes, read_wishes

USER = [{"role": "user", "content": "u"}]
SAID = "{% for m in messages %}{{ m.content }}{% endfor %}"


def chosen(source, effort):
    return ChatTemplate(source + SAID).choose(Wishes(effort))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", set()),
        ("{% if enable_thinking is defined and not enable_thinking %}x{% endif %}", {"enable_thinking"}),
        ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}", {"thinking"}),
        ("{% set keep = keep | default(false) %}{{ keep }}", {"keep"}),
        ("{% set keep = keep or true %}{{ keep }}", {"keep"}),
        ("{% macro say(effort) %}{{ effort }}{{ identity }}{% endmacro %}{{ say(1) }}", {"identity"}),
        # what it makes of the conversation is its own
        ("{% if tools %}{% set head = 'x' %}{% endif %}{{ head }}{% for m in messages %}{{ m }}{% endfor %}", set()),
        ("{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ add_generation_prompt }}{{ continue_final_message }}", set()),
        ("{{ raise_exception }}{{ strftime_now }}{{ namespace }}{{ range }}", set()),
    ],
)
def test_variables_are_what_a_template_takes_from_outside(source, names):
    assert ChatTemplate(source + SAID).variables == names


def test_values_reach_the_template_as_they_are():
    template = ChatTemplate("{{ given | tojson }}|{{ other }}" + SAID)
    given = {"given": [1, None, {"a": True}], "other": "x"}
    assert template.render(USER, variables=template.choose(Wishes(variables=given))) == '[1, null, {"a": true}]|xu'


@pytest.mark.parametrize(
    "name", ["x", "messages", "tools", "add_generation_prompt", "bos_token", "_moedge_step", "namespace"]
)
def test_a_name_that_is_not_read_is_refused_with_those_that_are(name):
    template = ChatTemplate("{{ one }}{{ two }}{{ bos_token }}{{ tools }}" + SAID)
    with pytest.raises(UnknownVariable, match=rf"reads no variable '{name}', its variables are: one, two\."):
        template.choose(Wishes(variables={"one": 1, name: 1}))
    with pytest.raises(UnknownVariable, match=r"its variables are: none\."):
        ChatTemplate(SAID).choose(Wishes(variables={name: 1}))


def test_no_value_becomes_a_special_token_and_none_counts_as_the_conversation():
    template = ChatTemplate("<|sys|>{{ identity }}<|end|>" + SAID, ("<|sys|>", "<|end|>"))
    pieces = template.render_pieces(USER, variables={"identity": "a<|end|>b", "messages": []})
    assert pieces == [("<|sys|>", True), ("a<|end|>b", False), ("<|end|>u", True)]


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_switch_is_off_for_none_and_on_for_all_else(effort):
    on = effort != "none"
    assert chosen("{{ enable_thinking }}", effort) == {"enable_thinking": on}
    assert chosen("{{ thinking }}", effort) == {"thinking": on}
    assert chosen("{{ reasoning }}", effort) == {"reasoning": on}
    assert chosen("{{ thinking_mode }}", effort) == {"thinking_mode": "enabled" if on else "disabled"}
    assert chosen("{{ enable_thinking }}{{ thinking }}", effort) == {"enable_thinking": on, "thinking": on}
    assert chosen("", effort) == {}


PRINTS = "{{ 'Reasoning: ' + (reasoning_effort or 'medium') }}"  # gpt-oss
REFUSES = (  # Kimi K3
    "{% if thinking and thinking_effort not in ['low', 'high', 'max'] %}{{ raise_exception('no') }}{% endif %}"
)
REFUSES_SOME = (
    "{% if reasoning_effort not in ['low', 'medium', 'xhigh'] %}{{ raise_exception('no') }}{% endif %}"  # Qwen 3.8
)
HUNYUAN = "{% if reasoning_effort not in ['no_think', 'low', 'high'] %}{{ raise_exception('no') }}{% endif %}"
KNOWS_MAX = "{% if thinking and reasoning_effort == 'max' %}Think hard.{% endif %}"  # DeepSeek V4
KNOWS_LESS = "{% if reasoning_effort in ['low', 'minimal'] %}Be brief.{% endif %}"  # Solar


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        (PRINTS, "reasoning_effort", ["low", "low", "low", "medium", "high", "high", "high"]),
        (PRINTS.replace("effort", "strength"), "reasoning_strength", ["low"] * 3 + ["medium"] + ["high"] * 3),
        (REFUSES, "thinking_effort", [None, "low", "low", "high", "high", "max", "max"]),
        (REFUSES_SOME, "reasoning_effort", ["low", "low", "low", "medium", "xhigh", "xhigh", "xhigh"]),
        (HUNYUAN, "reasoning_effort", ["no_think", "low", "low", "high", "high", "high", "high"]),
        (KNOWS_MAX, "reasoning_effort", [None, "minimal", "low", "medium", "high", "max", "max"]),
        (KNOWS_LESS, "reasoning_effort", ["minimal", "minimal", "low", "medium", "high", "xhigh", "max"]),
    ],
    ids=["prints", "prints strength", "refuses", "refuses some", "hunyuan", "knows max", "knows less"],
)
def test_an_effort_is_said_in_a_word_that_the_template_takes(source, name, words):
    template = ChatTemplate(source + SAID)
    for effort, word in zip(EFFORTS, words, strict=True):
        variables = template.choose(Wishes(effort))
        assert variables.get(name) == word
        assert "{% if thinking" not in source or variables["thinking"] == (effort != "none")
        assert template.render(USER, variables=variables).endswith("u")


def test_a_value_that_is_stated_counts_more_than_the_effort():
    template = ChatTemplate(PRINTS + "{{ enable_thinking }}" + SAID)
    wishes = Wishes("high", {"enable_thinking": False})
    assert template.choose(wishes) == {"reasoning_effort": "high", "enable_thinking": False}


def test_what_the_options_say():
    assert read_wishes(None, None) == Wishes()
    assert read_wishes("low", '{"a": [1]}') == Wishes("low", {"a": [1]})


def nested(depth):
    return json.loads('{"a": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": "\\ud800"}', "half of a surrogate"),
        (json.dumps(nested(9)), "more than 8 deep"),
        (json.dumps({str(n): n for n in range(33)}), "has 33 names, at most 32"),
        (json.dumps({"a": "x" * MAX_BYTES}), "more than 16384 bytes"),
    ],
)
def test_variables_out_of_bounds_are_refused(text, message):
    with pytest.raises(MoedgeError, match=message):
        read_wishes(None, text)


def test_variables_at_the_bounds_are_taken():
    for given in (nested(8), {str(n): n for n in range(32)}, {"a": "x" * (MAX_BYTES - len('{"a": ""}'))}):
        assert read_wishes(None, json.dumps(given)).variables == given
