"""Owns the conversations: draws requests, tools, thinking, calls, results and answers, for training and for the test.

The split is by content: phrase skeletons, values, sets of declared kinds and tool names each fall on one side
by a checksum of themselves (`kinds.is_held_out`). A test request uses held-out ones only.
"""

import itertools
import json
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import phrases_en
import phrases_fr
from jinja2.sandbox import ImmutableSandboxedEnvironment
from kinds import KINDS, Json, Tool, argument, invented_word, is_held_out, make_tool

HERE = Path(__file__).parent
LANGUAGES: dict[str, ModuleType] = {"en": phrases_en, "fr": phrases_fr}
_GROUP = re.compile(r"\(([^()]*)\)")
_OPERATION_SLOT = {"light": "power", "curtains": "opening", "lock": "locking"}


def compact(value: Any) -> str:
    """JSON without spaces, as the template writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def expand(pattern: str) -> list[str]:
    """All skeletons of a pattern with `(a|b)` choices."""
    pieces = _GROUP.split(pattern)
    choices = [piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return ["".join(parts) for parts in itertools.product(*choices)]


def skeletons(language: str, held_out: bool) -> dict[str, list[str]]:
    """Every phrase key of a language with the skeletons of one side of the split: a seventh, by checksum, is held out."""
    found = {}
    for key, patterns in LANGUAGES[language].PHRASES.items():
        every = sorted({s for p in patterns for s in expand(p)}, key=lambda s: zlib.crc32(s.encode()))
        border = max(1, len(every) // 7)
        found[key] = every[:border] if held_out else every[border:]
    return found


SKELETONS = {(lang, side): skeletons(lang, side) for lang in LANGUAGES for side in (False, True)}
_PLACES = {lang: "".join(module.PLACES.splitlines()).split("|") for lang, module in LANGUAGES.items()}


@dataclass(frozen=True)
class Ask:
    """One thing asked: its words, the values of its slots, and the forms that an answer may need."""

    kind: str
    key: str
    words: str
    values: dict[str, str]
    forms: dict[str, str]


@dataclass
class Sample:
    """A conversation with its tools, and what the last request should call."""

    messages: list[Json]
    tools: list[Json]
    calls: list[Json] = field(default_factory=list)
    tags: Json = field(default_factory=dict)


def _place(rng: random.Random, language: str, held_out: bool) -> dict[str, str]:
    """The noun and, in French, its forms with article and preposition."""
    while True:
        if rng.random() < 0.55:
            entry = rng.choice(_PLACES[language])
        else:
            words = [invented_word(rng, held_out) for _ in range(rng.choice((1, 1, 1, 2)))]
            if rng.random() < 0.3:
                words = [w.capitalize() for w in words]
            elif rng.random() < 0.2:
                words = [words[0], rng.choice(("room", "house", "corner") if language == "en" else ("nord", "sud", "bleu"))]
            noun = " ".join(words)
            entry = noun if language == "en" else rng.choice(("la ", "le ", "l'" if noun[0] in "aeiouy" else "la ")) + noun
        if language == "en":
            noun, forms = entry, {"place": entry}
        else:
            article, noun = ("l'", entry[2:]) if entry.startswith("l'") else (entry[:3], entry[3:])
            of = "du " if article == "le " else f"de {article}"
            forms = {"place": noun, "the": entry, "in": f"dans {entry}", "of": of + noun}
        words_held_out = is_held_out(noun, 5)
        if noun.split()[0] and (words_held_out == held_out):
            return forms


def _label(rng: random.Random, language: str, kind: str, held_out: bool) -> str:
    while True:
        if rng.random() < 0.55:
            label: str = rng.choice(LANGUAGES[language].LABELS[kind].split("|"))
        else:
            label = " ".join(invented_word(rng, held_out) for _ in range(rng.choice((1, 1, 2))))
        if is_held_out(label, 5) == held_out:
            return label


def _number(rng: random.Random, low: int, high: int, held_out: bool) -> str:
    while True:
        n = rng.randint(low, high) if rng.random() < 0.6 else min(high, max(low, 5 * rng.randint(low // 5, high // 5)))
        if is_held_out(f"number {n}", 5) == held_out:
            return str(n)


def _time(rng: random.Random, held_out: bool) -> str:
    while True:
        time = f"{rng.randint(0, 23):02d}:{rng.choice((0, 15, 30, 45, rng.randint(0, 59))):02d}"
        if is_held_out(time, 5) == held_out:
            return time


def make_ask(rng: random.Random, language: str, kind: str, held_out: bool) -> Ask:
    """Draw one request of a kind, every part of it from one side of the split."""
    pool = SKELETONS[language, held_out]
    key = rng.choice([k for k in pool if k.split(":")[0] == kind and pool[k]])
    skeleton = rng.choice(pool[key])
    values: dict[str, str] = {}
    forms: dict[str, str] = {}
    spoken: dict[str, str] = {}
    for slot in KINDS[kind].slots:
        if slot == "place":
            forms |= _place(rng, language, held_out)
            values["place"] = forms["place"]
        elif slot == "n":
            values["n"] = _number(rng, *KINDS[kind].numbers, held_out)
        elif slot == "label":
            values["label"] = _label(rng, language, kind, held_out)
        elif slot == "time":
            values["time"] = _time(rng, held_out)
            if language == "fr" and rng.random() < 0.5:
                spoken["time"] = values["time"].replace(":", "h")
        else:
            values[_OPERATION_SLOT[kind]] = key.split(":")[1]
    words = skeleton.format(**(forms | values | spoken))
    return Ask(kind, key, words, values, forms | values)


def _say(rng: random.Random, language: str, asks: list[Ask]) -> tuple[str, list[str]]:
    """The user's message, and each request's own words as they stand in it."""
    module = LANGUAGES[language]
    prefix = rng.choice(module.PREFIXES)
    joins = [rng.choice(module.JOINS) for _ in asks[1:]]
    words = [ask.words for ask in asks]
    if rng.random() < 0.4:
        if prefix:
            prefix = prefix[0].upper() + prefix[1:]
        else:
            words[0] = words[0][0].upper() + words[0][1:]
    text = prefix + words[0] + "".join(j + w for j, w in zip(joins, words[1:], strict=True)) + rng.choice(module.SUFFIXES)
    return text, words


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


def _turn(rng: random.Random, language: str, asks: list[Ask], tools: list[Tool], first_index: int) -> tuple[list[Json], list[Json]]:
    """One user message with the exchange that answers it: (messages, expected calls)."""
    module = LANGUAGES[language]
    text, words = _say(rng, language, asks)
    by_kind = {tool.kind: tool for tool in tools}
    thoughts, calls, results, sentences = [], [], [], []
    for ask, said in zip(asks, words, strict=True):
        tool = by_kind.get(ask.kind)
        if tool is None:
            thoughts.append(f"{said} -> none")
            sentences.append(module.NO_TOOL)
            continue
        arguments = {name: argument(slot, spelling, ask.values[slot]) for name, slot, spelling in tool.parameters}
        thoughts.append(f"{said} -> {tool.name} " + " ".join(f"{k}={compact(v)}" for k, v in arguments.items()))
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


def _talk(rng: random.Random, language: str) -> list[Json]:
    """A message that needs no tool, with its answer."""
    module = LANGUAGES[language]
    if rng.random() < 0.5:
        said, answer = rng.choice(module.SMALL_TALK)
    else:
        label = invented_word(rng, held_out=False).capitalize()
        said = rng.choice(module.OFF_TOPIC).format(label=label, n=rng.randint(2, 99))
        answer = module.NO_TOOL
    if rng.random() < 0.5:
        said = said[0].upper() + said[1:]
    thinking = f"{said} -> none"
    return [{"role": "user", "content": said + rng.choice(("", "", "!", "?"))},
            {"role": "assistant", "reasoning_content": thinking, "content": answer}]


def draw_kinds(rng: random.Random, count: int, held_out: bool) -> list[str]:
    """Kinds of the declared tools; a set of two or more is on one side of the split."""
    while True:
        chosen = rng.sample(list(KINDS), count)
        if count == 1 or is_held_out(" ".join(sorted(chosen)), 6) == held_out:
            return chosen


def make_sample(rng: random.Random, level: float, held_out: bool = False, unseen_names: bool = False) -> Sample:
    """One conversation; `level` from 0 (one tool, one request) to 1 (the full mix). Held-out ones end in a call."""
    language = rng.choice(("en", "fr"))
    full = held_out or rng.random() < level
    count = rng.choices((1, 2, 3, 4), (1, 4, 4, 2))[0] if full else 1
    count = max(2, count) if held_out else count
    asked = rng.choices((1, 2, 3), (55, 37, 8))[0] if full else 1
    kinds = draw_kinds(rng, count, held_out)
    tools: list[Tool] = []
    for kind in kinds:
        described_in = LANGUAGES["fr" if rng.random() < 0.25 else "en"]
        tool = make_tool(rng, kind, described_in.DESCRIPTIONS[kind], unseen_names)
        tools.append(tool)
    if len({tool.name for tool in tools}) < count:
        return make_sample(rng, level, held_out, unseen_names)

    def asks(number: int) -> list[Ask]:
        drawn = []
        for _ in range(number):
            stray = full and not held_out and rng.random() < 0.05
            drawn.append(make_ask(rng, language, rng.choice(list(KINDS) if stray else kinds), held_out))
        return drawn

    messages: list[Json] = []
    declared = [tool.declaration for tool in tools]
    roll = rng.random() if full and not held_out else 1.0
    if roll < 0.04:
        return Sample(_talk(rng, language), declared if rng.random() < 0.8 else [])
    if rng.random() < 0.05:
        messages.append({"role": "system", "content": rng.choice(("You are the assistant of this house.", "Be brief.",
                                                                  "Tu es l'assistant de cette maison."))})
    first_index = 0
    if roll < 0.12:
        earlier, called = (_talk(rng, language), []) if roll < 0.06 else _turn(rng, language, asks(1), tools, 0)
        messages += earlier
        first_index = len(called)
    turn, calls = _turn(rng, language, asks(asked), tools, first_index)
    tags = {"language": language, "asked": asked, "declared": count, "unseen_names": unseen_names,
            "invented": any(t.is_invented for t in tools)}
    return Sample(messages + turn, declared, calls, tags)


def _tojson(value: Any, separators: tuple[str, str] | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, separators=separators)


def load_template(path: Path = HERE / "chat_template.jinja") -> Any:
    """The chat template, in the same sandbox that servers use."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
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
    end = text.rfind("<|tool_calls_section_end|><|im_end|>")
    return text if end < 0 or rng.random() < 0.35 else text[: end + len("<|tool_calls_section_end|><|im_end|>")]


def training_texts(seed: int, level: float) -> Iterator[str]:
    """Endless training conversations."""
    rng = random.Random(seed)
    while True:
        yield training_text(rng, level)
