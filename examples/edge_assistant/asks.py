"""Owns single requests: phrase skeletons and values, their two sides of the split, and drawing one from a side.

It does not own tools (`kinds`) nor the conversations that requests stand in (`data`).
"""

import itertools
import random
import re
import zlib
from dataclasses import dataclass
from types import ModuleType

import phrases_en
import phrases_fr
from kinds import KINDS, invented_word, is_held_out

LANGUAGES: dict[str, ModuleType] = {"en": phrases_en, "fr": phrases_fr}
_GROUP = re.compile(r"\(([^()]*)\)")
_OPERATION_SLOT = {"light": "power", "curtains": "opening", "lock": "locking"}


def expand(pattern: str) -> list[str]:
    """All skeletons of a pattern with `(a|b)` choices."""
    pieces = _GROUP.split(pattern)
    choices = [piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return ["".join(parts) for parts in itertools.product(*choices)]


def skeletons(language: str, held_out: bool) -> dict[str, list[str]]:
    """Every phrase key of a language with the skeletons of one side.

    A seventh of them, by checksum, is held out, except those with a word that would then occur nowhere in training.
    """
    found = {}
    for key, patterns in LANGUAGES[language].PHRASES.items():
        every = sorted({s for p in patterns for s in expand(p)}, key=lambda s: zlib.crc32(s.encode()))
        border = max(1, len(every) // 7)
        known = set(" ".join(every[border:]).split())
        tested = [s for s in every[:border] if set(s.split()) <= known]
        found[key] = tested if held_out else [s for s in every if s not in tested]
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


def _place(rng: random.Random, language: str, held_out: bool) -> dict[str, str]:
    """The noun and, in French, its forms with article and preposition."""
    while True:
        if rng.random() < (0.55 if held_out else 0.4):
            entry = rng.choice(_PLACES[language])
        else:
            words = [invented_word(rng, held_out) for _ in range(rng.choice((1, 1, 1, 2)))]
            if rng.random() < 0.3:
                words = [w.capitalize() for w in words]
            elif rng.random() < 0.2:
                second = ("room", "house", "corner") if language == "en" else ("nord", "sud", "bleu")
                words = [words[0], rng.choice(second)]
            noun = " ".join(words)
            articles = ("la ", "le ", "l'" if noun[0] in "aeiouy" else "la ")
            entry = noun if language == "en" else rng.choice(articles) + noun
        if language == "en":
            noun, forms = entry, {"place": entry}
        else:
            article, noun = ("l'", entry[2:]) if entry.startswith("l'") else (entry[:3], entry[3:])
            of = "du " if article == "le " else f"de {article}"
            forms = {"place": noun, "the": entry, "in": f"dans {entry}", "of": of + noun}
        if is_held_out(noun, 5) == held_out:
            return forms


def _label(rng: random.Random, language: str, kind: str, held_out: bool) -> str:
    while True:
        if rng.random() < (0.55 if held_out else 0.4):
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
