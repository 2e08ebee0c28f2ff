"""Cohere's answers, of Command and of North: a thought, then a text or calls. Whole, cut anywhere, and broken."""

import pytest
from chat_reading import check

THOUGHT = "<|START_THINKING|>hm<|END_THINKING|>"
F, G = ("f", '{"a": 1}'), ("g", "{}")
ONE = '{"tool_call_id": "0", "tool_name": "f", "parameters": {"a": 1}}'
TWO = '{"tool_call_id": "1", "tool_name": "g", "parameters": {}}'


def action(*calls: str) -> str:
    return f"<|START_ACTION|>[\n    {', '.join(calls)}\n]<|END_ACTION|>"


def unread(text: str) -> tuple:
    return text, ("", text, [])


ANSWERS = {
    "a response": ("<|START_RESPONSE|>So.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", ("", "So.", [])),
    "a text": ("<|START_TEXT|>So.<|END_TEXT|><|END_OF_TURN_TOKEN|>", ("", "So.", [])),
    "behind a thought": (f"{THOUGHT}<|START_RESPONSE|>So.<|END_RESPONSE|>", ("hm", "So.", [])),
    "lines beside the markers": (f"\n{THOUGHT}\n<|START_TEXT|>\nSo.\n<|END_TEXT|>\n", ("hm", "So.", [])),
    "no markers": ("So.<|END_OF_TURN_TOKEN|>", ("", "So.", [])),
    "end forgotten": ("<|START_TEXT|>So.", ("", "So.", [])),
    "an empty thought closed again": ("<|END_THINKING|><|START_TEXT|>So.<|END_TEXT|>", ("", "So.", [])),
    "thinking cut off": ("<|START_THINKING|>hm", ("hm", "", [])),
    "citations": (
        "<|START_RESPONSE|>It is <co>4</co: 0:[1,2],1:[0]>.<|END_RESPONSE|>",
        ("", "It is <co>4</co: 0:[1,2],1:[0]>.", []),
    ),
    "calls": (f"{THOUGHT}{action(ONE, TWO)}<|END_OF_TURN_TOKEN|>", ("hm", "", [F, G])),
    "a call alone": (f"<|START_ACTION|>{ONE}<|END_ACTION|>", ("", "", [F])),
    "no number": (action('{"tool_name": "f", "parameters": {"a": 1}}'), ("", "", [F])),
    "a number that is one": (action(ONE.replace('"0"', "0")), ("", "", [F])),
    "no parameters": (action('{"tool_call_id": "0", "tool_name": "g"}'), ("", "", [G])),
    "as others write calls": (action('{"name": "f", "arguments": {"a": 1}}'), ("", "", [F])),
    "end forgotten behind calls": (f"<|START_ACTION|>[{ONE}]", ("", "", [F])),
    "one action behind the other": (f"{action(ONE)}\n{action(TWO)}", ("", "", [F, G])),
    "text, then calls": (f"<|START_TEXT|>Look.<|END_TEXT|>{action(ONE)}", ("", "Look.", [F])),
    "calls, then text": (f"{action(ONE)}<|START_TEXT|>So.<|END_TEXT|>", ("", "So.", [F])),
    "call in a thought": (f"<|START_THINKING|>hm{action(ONE)}", ("hm", "", [F])),
    "a thought about calls": (f"<|START_THINKING|>{action(ONE)}<|END_THINKING|>So.", (action(ONE), "So.", [])),
    "no calls": (action(), ("", "", [])),
    "nearly JSON": (action("{'tool_name': 'f', 'parameters': {'a': 1,},}"), ("", "", [F])),
    "cut off": unread('<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_na'),
    "a name twice": unread(action('{"tool_name": "f", "name": "g"}')),
    "an unknown key": unread(action('{"tool_name": "f", "why": 1}')),
    "a number that is none": unread(action(ONE.replace('"0"', "[0]"))),
    "nameless": unread(action('{"tool_call_id": "0", "parameters": {}}')),
    "no object": unread(action("1")),
    "prose": unread("Between <|START_ACTION|> and <|END_ACTION|>."),
}


@pytest.mark.parametrize(("text", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_answers(text, expected):
    check(text, expected, "cohere")


def test_the_prompt_opened_the_thought():
    check(f"hm<|END_THINKING|>{action(ONE)}", ("hm", "", [F]), "cohere", "<|CHATBOT_TOKEN|><|START_THINKING|>")
    check("hm", ("hm", "", []), "cohere", "<|CHATBOT_TOKEN|><|START_THINKING|>")
    check("So.", ("", "So.", []), "cohere", "<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>")
