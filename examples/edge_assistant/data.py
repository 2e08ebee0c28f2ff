"""Owns the conversations: draws requests, tools, thinking, calls, results and answers, for training and for the test.

The split is by content: phrase skeletons, values, sets of declared kinds and tool names each fall on one side
by a checksum of themselves (`kinds.is_held_out`). A test request uses held-out ones only.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asks import LANGUAGES, Ask, make_ask
from jinja2.sandbox import ImmutableSandboxedEnvironment
from kinds import KINDS, Json, Tool, argument, is_held_out, make_tool
from systems import draw_system
from talk import draw_talk

HERE = Path(__file__).parent
MOST_TOKENS = 512  # of an answer, as the checkpoint's generation_config.json says


def compact(value: Any) -> str:
    """JSON without spaces, as the template writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass
class Sample:
    """A conversation with its tools, and what the last request should call."""

    messages: list[Json]
    tools: list[Json]
    calls: list[Json] = field(default_factory=list)
    tags: Json = field(default_factory=dict)


def _say(rng: random.Random, language: str, asks: list[Ask]) -> tuple[str, list[str]]:
    """The user's message, and each request's own words as they stand in it."""
    module = LANGUAGES[language]
    prefix = rng.choice(module.PREFIXES)
    joins = [rng.choice(module.JOINS) for _ in asks[1:]]
    if len(asks) == 3 and rng.random() < 0.3:
        joins[0] = ", "
    words = [ask.words for ask in asks]
    if rng.random() < 0.4:
        if prefix:
            prefix = prefix[0].upper() + prefix[1:]
        else:
            words[0] = words[0][0].upper() + words[0][1:]
    rest = "".join(join + said for join, said in zip(joins, words[1:], strict=True))
    return prefix + words[0] + rest + rng.choice(module.SUFFIXES), words


def _result(rng: random.Random, ask: Ask) -> tuple[str, str, bool]:
    """What the tool returns, the part of it that an answer repeats, and whether it failed."""
    if rng.random() < 0.04:
        message = rng.choice(("device offline", "timeout", "not found", "battery empty", "busy"))
        return compact({"error": message}), message, True
    if ask.kind in ("temperature", "humidity"):
        value = str(rng.randint(3, 95)) if ask.kind == "humidity" else f"{rng.uniform(2, 32):.1f}"
        if rng.random() < 0.3:
            value = value.split(".")[0]
        return rng.choice((value, f'{{"{ask.kind}":{value}}}', f'{{"value":{value}}}')), value, False
    return rng.choice(("ok", "done", '{"ok":true}', '{"status":"ok"}')), "", False


def survey(tools: list[Tool]) -> list[str]:
    """How thinking starts: a line a tool, `name=kind:name`. What follows is then copying and classifying, no search."""
    return [f"{tool.name}={tool.kind}:{tool.name}" for tool in tools]


def _turn(
    rng: random.Random, language: str, asks: list[Ask], tools: list[Tool], first_index: int
) -> tuple[list[Json], list[Json]]:
    """One user message with the exchange that answers it: (messages, expected calls)."""
    module = LANGUAGES[language]
    text, words = _say(rng, language, asks)
    by_kind = {tool.kind: tool for tool in tools}
    thoughts = survey(tools)
    calls, results, sentences = [], [], []
    for ask, said in zip(asks, words, strict=True):
        tool = by_kind.get(ask.kind)
        if tool is None:
            thoughts.append(f"{said} -> {ask.kind} none")
            sentences.append(module.NO_TOOL)
            continue
        arguments = {name: argument(slot, spelling, ask.values[slot]) for name, slot, spelling in tool.parameters}
        filled = " ".join(f"{name}={compact(value)}" for name, value in arguments.items())
        thoughts.append(f"{said} -> {tool.kind} {tool.name} {filled}")
        identifier = f"functions.{tool.name}:{first_index + len(calls)}"
        function = {"name": tool.name, "arguments": compact(arguments)}
        calls.append({"id": identifier, "type": "function", "function": function})
        result, repeated, failed = _result(rng, ask)
        results.append({"role": "tool", "name": tool.name, "tool_call_id": identifier, "content": result})
        sentence = module.FAILED if failed else module.ANSWERS[ask.key]
        sentences.append(sentence.format(**ask.forms, result=repeated))
    messages: list[Json] = [{"role": "user", "content": text}]
    thinking = "\n".join(thoughts)
    if calls:
        messages += [{"role": "assistant", "reasoning_content": thinking, "content": "", "tool_calls": calls}, *results]
        thinking = ""
    messages.append({"role": "assistant", "reasoning_content": thinking, "content": " ".join(dict.fromkeys(sentences))})
    expected = [{"name": c["function"]["name"], "arguments": json.loads(c["function"]["arguments"])} for c in calls]
    return messages, expected


def _talk(rng: random.Random, language: str, tools: list[Tool], held_out: bool) -> list[Json]:
    """A message that needs no tool, with its answer."""
    talk = draw_talk(rng, language, held_out)
    thinking = "\n".join([*survey(tools), f"{talk.words} -> {talk.verdict}"])
    return [
        {"role": "user", "content": talk.text},
        {"role": "assistant", "reasoning_content": thinking, "content": talk.answer},
    ]


def draw_kinds(rng: random.Random, count: int, held_out: bool) -> list[str]:
    """Kinds of the declared tools; a set of two or more is on one side of the split."""
    while True:
        chosen = rng.sample(list(KINDS), count)
        if count == 1 or is_held_out(" ".join(sorted(chosen)), 6) == held_out:
            return chosen


def declare(rng: random.Random, kind: str, unseen_name: bool) -> Tool:
    """Draw a tool of a kind, described in English or French."""
    described_in = LANGUAGES["fr" if rng.random() < 0.25 else "en"]
    return make_tool(rng, kind, described_in.DESCRIPTIONS[kind], unseen_name)


def _declare_all(rng: random.Random, kinds: list[str], unseen_names: bool) -> list[Tool]:
    """A tool a kind, of different names."""
    while True:
        tools = [declare(rng, kind, unseen_names) for kind in kinds]
        if len({tool.name for tool in tools}) == len(tools):
            return tools


def _opening(rng: random.Random) -> list[Json]:
    return [{"role": "system", "content": draw_system(rng)}] if rng.random() < 0.25 else []


def _earlier(
    rng: random.Random, language: str, tools: list[Tool], kinds: list[str], turns: int, held_out: bool
) -> list[Json]:
    """Turns that lie in the past: small talk or one request each, at times in the other language."""
    messages: list[Json] = []
    for _ in range(turns):
        spoken = language if rng.random() < 0.9 else rng.choice(("en", "fr"))
        if rng.random() < 0.5:
            messages += _talk(rng, spoken, tools, held_out)
        else:
            ask = make_ask(rng, spoken, rng.choice(kinds), held_out)
            messages += _turn(rng, spoken, [ask], tools, _called(messages))[0]
    return messages


def _called(messages: list[Json]) -> int:
    return sum(m["role"] == "tool" for m in messages)


def make_misfit(rng: random.Random) -> Sample:
    """A held-out request that none of the declared tools can serve: nothing should be called."""
    language = rng.choice(("en", "fr"))
    *declared, missing = draw_kinds(rng, 3, held_out=True)
    text, _ = _say(rng, language, [make_ask(rng, language, missing, held_out=True)])
    tools = [declare(rng, kind, unseen_name=rng.random() < 0.5).declaration for kind in declared]
    tags = {"language": language, "asked": 0, "declared": 2, "unseen_names": False, "invented": False}
    return Sample([{"role": "user", "content": text}], tools, [], tags)


def make_talk(rng: random.Random, held_out: bool = False) -> Sample:
    """A conversation whose last message calls nothing: small talk, or requests where no tool is declared or fits.

    In some that declare none, tools served the turns before.
    """
    language = rng.choice(("en", "fr"))
    bare = rng.random() < 0.6
    kinds = draw_kinds(rng, rng.randint(1, 4), held_out)
    tools = _declare_all(rng, kinds, False) if not bare or rng.random() < 0.15 else []
    turns = rng.choices((0, 1, 2), (4, 4, 2))[0]
    messages = _opening(rng) + _earlier(rng, language, tools, kinds, turns, held_out)
    tools = [] if bare else tools
    requested = rng.random() < (0.3 if bare else 0.15)
    if requested:
        missing = [kind for kind in KINDS if bare or kind not in kinds]
        asked = rng.choices((1, 2, 3), (6, 3, 1))[0]
        asks = [make_ask(rng, language, rng.choice(missing), held_out) for _ in range(asked)]
        messages += _turn(rng, language, asks, tools, 0)[0]
    else:
        messages += _talk(rng, language, tools, held_out)
    about = ("request" if requested else "small talk") + (", no tools" if bare else ", tools")
    tags = {"language": language, "asked": 0, "declared": len(tools), "unseen_names": False, "invented": False}
    return Sample(messages, [tool.declaration for tool in tools], [], tags | {"talk": about, "turn": turns + 1})


def make_sample(rng: random.Random, level: float, held_out: bool = False, unseen_names: bool = False) -> Sample:
    """One conversation; `level` from 0 (one tool, one request) to 1 (the full mix). Held-out ones end in a call."""
    language = rng.choice(("en", "fr"))
    full = held_out or rng.random() < level
    if full and not held_out and rng.random() < 0.28:
        return make_talk(rng)
    count = rng.choices((1, 2, 3, 4), (1, 4, 4, 2))[0] if full else 1
    count = max(2, count) if held_out else count
    asked = rng.choices((1, 2, 3), (55, 37, 8) if held_out else (40, 35, 25))[0] if full else 1
    kinds = draw_kinds(rng, count, held_out)
    tools = _declare_all(rng, kinds, unseen_names)
    asks = []
    for _ in range(asked):
        stray = full and not held_out and rng.random() < 0.06
        asks.append(make_ask(rng, language, rng.choice(list(KINDS) if stray else kinds), held_out))
    turns = rng.choices((0, 1, 2), (80, 14, 6))[0] if full and not held_out else 0
    messages = _opening(rng) + _earlier(rng, language, tools, kinds, turns, held_out)
    turn, calls = _turn(rng, language, asks, tools, _called(messages))
    tags = {
        "language": language,
        "asked": asked,
        "declared": count,
        "unseen_names": unseen_names,
        "invented": any(t.is_invented for t in tools),
    }
    return Sample(messages + turn, [tool.declaration for tool in tools], calls, tags)


def _tojson(value: Any, separators: tuple[str, str] | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, separators=separators)


def load_template(path: Path = HERE / "chat_template.jinja") -> Any:
    """The chat template, in the same sandbox that servers use."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    return environment.from_string(path.read_text(encoding="utf-8"))


_TEMPLATE = load_template()


def render_prompt(messages: list[Json], tools: list[Json]) -> str:
    """The text a server would prefill for these messages."""
    return str(_TEMPLATE.render(messages=messages, tools=tools, add_generation_prompt=True))


def render(sample: Sample) -> str:
    """The whole conversation as it is generated: the thinking before the last calls is still there."""
    last = sample.messages[-1]
    prompt = render_prompt(sample.messages[:-1], sample.tools)
    return f"{prompt}<think>{last['reasoning_content']}</think>{last['content']}<|im_end|>"


def training_text(rng: random.Random, level: float) -> str:
    """A rendered training conversation. Most end with the calls: the sentence after the results is learnt soon."""
    text = render(make_sample(rng, level))
    end = text.find("<|tool_calls_section_end|><|im_end|>", text.rfind("<|im_user|>"))
    return text if end < 0 or rng.random() < 0.2 else text[: end + len("<|tool_calls_section_end|><|im_end|>")]


def training_texts(seed: int, level: float) -> Iterator[str]:
    """Endless training conversations."""
    rng = random.Random(seed)
    while True:
        yield training_text(rng, level)
