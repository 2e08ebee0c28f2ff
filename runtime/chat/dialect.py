"""How a template wants earlier answers: found out by rendering made-up ones, because none says so.

It owns the questions and what the answers mean; turns.py puts a conversation into the dialect.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from moedge.devices.errors import MoedgeError
from moedge.runtime.chat.grammar import END_THINK, THINK

# Where thinking belongs: under a name of the message, as the first part of its content, or between <think> and </think>
# before its text; "": the template shows none.
Thought = Literal["reasoning_content", "thinking", "reasoning", "part", "tags", ""]
# What ids of calls must be: nine letters and digits (Mistral), or `functions.NAME:INDEX`, where only the id tells the
# name (Kimi).
Ids = Literal["any", "nine", "named"]

Turn = Mapping[str, Any]
Render = Callable[[list[Turn]], str]

THOUGHT_KEYS: tuple[Thought, ...] = ("reasoning_content", "thinking", "reasoning")
_PLACES: tuple[Thought, ...] = (*THOUGHT_KEYS, "part")
_ARGUMENT = "moedge_key"
_ARGUMENTS = {_ARGUMENT: "moedge_value"}
_NAME, _THOUGHT, _SAID = "moedge_name", "moedge_thought", "moedge_said"
_NINE, _LONG = "moedgeid1", "call_moedge0id0as0openai0writes0it"
_USER = {"role": "user", "content": "moedge"}


@dataclass(frozen=True)
class Dialect:
    """What a template must be given to show earlier answers."""

    objects: bool  # arguments as text break it or are encoded a second time, while an object is well rendered
    null_content: bool  # it leaves calls out beside an empty text and shows them beside null
    ids: Ids
    one_call: bool  # of several calls in one message it shows one or refuses them; one after the other it shows all
    text_before: bool  # text beside a call it shows behind it; from a message of its own, in the same turn, before it
    responses: bool  # it wants results of calls in the message that called, under `tool_responses`
    thought: Thought
    thought_alone: bool  # it refuses content beside thinking and a call, and shows the thinking alone
    reads_tags: bool  # it finds thinking between <think> and </think> in the content by itself


def find_dialect(render: Render) -> Dialect:
    """The dialect of the template that `render` renders; OpenAI's own form where it shows no form of its own."""
    probe = _Probe(render)
    null_content = not probe.shows_call("") and probe.shows_call(None)
    content = None if null_content else ""
    as_object, as_text = probe.call(_ARGUMENTS, content), probe.call(json.dumps(_ARGUMENTS), content)
    spoilt = (f'\\"{_ARGUMENT}', f"{{{json.dumps(_ARGUMENTS)}}}")  # encoded twice, or in braces beside its own
    objects = _ARGUMENT in as_object and (not as_text or any(sign in as_text for sign in spoilt))
    arguments = _ARGUMENTS if objects else json.dumps(_ARGUMENTS)
    thought = probe.thought(arguments, content)
    return Dialect(
        objects=objects,
        null_content=null_content,
        ids=probe.ids(arguments, content),
        one_call=probe.one_call(arguments, content),
        text_before=probe.text_before(arguments, content),
        responses=probe.responses(arguments, content),
        thought=thought,
        thought_alone=probe.thought_alone(arguments, thought),
        reads_tags=probe.reads_tags(thought),
    )


def with_thought(message: Turn, text: str, thought: Thought) -> dict[str, Any]:
    """The message with thinking where the template looks for it, and nowhere else."""
    changed = {name: value for name, value in message.items() if name not in THOUGHT_KEYS}
    said = message.get("content") or ""
    parts = [{"type": "text", "text": said}] if said and isinstance(said, str) else said or []
    tagged = f"{THINK}{text}{END_THINK}"
    if thought == "part":
        changed["content"] = [{"type": "thinking", "thinking": text}, *parts]
    elif thought == "tags":
        changed["content"] = tagged + said if isinstance(said, str) else [{"type": "text", "text": tagged}, *parts]
    elif thought:
        changed[thought] = text
    return changed


def thought_of(message: Turn) -> str:
    """The thinking that a message holds under whichever name."""
    return next((message[key] for key in THOUGHT_KEYS if isinstance(message.get(key), str) and message[key]), "")


@dataclass(frozen=True)
class _Probe:
    render: Render

    def text(self, *messages: Turn) -> str:
        """What the template makes of these messages; "" if it refuses them."""
        try:
            return self.render([_USER, *messages])
        except MoedgeError:
            return ""

    def call(self, arguments: Any, content: str | None) -> str:
        return self.text(*_exchange(arguments, content))

    def shows_call(self, content: str | None) -> bool:
        return any(_ARGUMENT in self.call(form, content) for form in (_ARGUMENTS, json.dumps(_ARGUMENTS)))

    def ids(self, arguments: Any, content: str | None) -> Ids:
        nine, long = (self._nameless(arguments, content, identifier) for identifier in (_NINE, _LONG))
        if nine and (not long or (_NINE in nine and _LONG not in long)):
            return "nine"
        return "named" if _LONG in long and _NAME not in long else "any"

    def _nameless(self, arguments: Any, content: str | None, identifier: str) -> str:
        call, result = _exchange(arguments, content, identifier)
        return self.text(call, {name: value for name, value in result.items() if name != "name"})

    def one_call(self, arguments: Any, content: str | None) -> bool:
        def all_shown(*messages: Turn) -> bool:
            text = self.text(*messages)
            return all(f"{sign}{n}" in text for n in (1, 2) for sign in signs)

        exchanges = [_exchange(arguments, content, f"{_NINE[:-1]}{n}", f"{_NAME}{n}", f"{_SAID}{n}") for n in (1, 2)]
        called = [answer["tool_calls"][0] for answer, _ in exchanges]
        together = {**exchanges[0][0], "tool_calls": called}
        one_by_one = self.text(*(message for exchange in exchanges for message in exchange))
        signs = [sign for sign in (_NINE[:-1], _NAME, _SAID) if f"{sign}1" in one_by_one and f"{sign}2" in one_by_one]
        return bool(signs) and not all_shown(together, *(result for _, result in exchanges))

    def text_before(self, arguments: Any, content: str | None) -> bool:
        call, _ = _exchange(arguments, content)
        beside = self.text({**call, "content": _SAID})
        before = self.text({"role": "assistant", "content": _SAID}, call)
        in_order = 0 <= before.find(_SAID) < before.find(_ARGUMENT) and len(before) == len(beside)
        return in_order and 0 <= beside.find(_ARGUMENT) < beside.find(_SAID)

    def responses(self, arguments: Any, content: str | None) -> bool:
        call, result = _exchange(arguments, content)
        within = self.text({**call, "tool_responses": [{"name": _NAME, "response": _SAID}]})
        return _SAID in within and within != self.text(call, result)

    def thought(self, arguments: Any, content: str | None) -> Thought:
        call, result = _exchange(arguments, content)
        plain = {"role": "assistant", "content": _SAID}
        for place in _PLACES:
            for shown in (
                self.text(with_thought(call, _THOUGHT, place), result),
                self.text(with_thought(plain, _THOUGHT, place), _USER),
            ):
                # a list that is printed as it is shows the names of its parts too
                if _THOUGHT in shown and not any(f"{quote}thinking{quote}" in shown for quote in "'\""):
                    return place
        tagged = self.text(with_thought(call, _THOUGHT, "tags"), result)
        once = tagged.count(THINK) == tagged.count(END_THINK) == 1  # not beside an empty thought of the template's own
        return "tags" if once and _THOUGHT in tagged and _ARGUMENT in tagged and self.reads_tags("") else ""

    def thought_alone(self, arguments: Any, thought: Thought) -> bool:
        shown = []
        for content in (_SAID, ""):
            call, result = _exchange(arguments, content)
            shown.append(_THOUGHT in self.text(with_thought(call, _THOUGHT, thought), result))
        return shown == [False, True]

    def reads_tags(self, thought: Thought) -> bool:
        tagged = {"role": "assistant", "content": f"{THINK}\n{_THOUGHT}\n{END_THINK}\n\n{_SAID}"}
        later = (_USER, {"role": "assistant", "content": "moedge"}, _USER)  # some show the thinking of the last answer
        shown = self.text(tagged, *later)
        if _SAID not in shown:
            return False
        apart = self.text(with_thought({**tagged, "content": _SAID}, _THOUGHT, thought), *later)
        return _THOUGHT not in shown or (thought in THOUGHT_KEYS and shown == apart)


def _exchange(
    arguments: Any, content: str | None, identifier: str = _NINE, name: str = _NAME, said: str = _SAID
) -> tuple[dict[str, Any], dict[str, Any]]:
    call = {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}
    answer = {"role": "assistant", "content": content, "tool_calls": [call]}
    return answer, {"role": "tool", "tool_call_id": identifier, "name": name, "content": said}
