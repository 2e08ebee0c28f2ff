"""Owns single requests: phrase skeletons and values, their two sides of the split, and drawing one from a side.

It does not own tools (`kinds`) nor the conversations that requests stand in (`data`).
"""

import itertools
import random
import re
import zlib
from dataclasses import dataclass
from types import ModuleType

import more_phrases_en
import more_phrases_fr
import phrases_en
import phrases_fr
from kinds import KINDS, invented_word, is_held_out

LANGUAGES: dict[str, ModuleType] = {"en": phrases_en, "fr": phrases_fr}
MORE: dict[str, ModuleType] = {"en": more_phrases_en, "fr": more_phrases_fr}
DEMO = "turn on the {place} light"  # what `make serve` tells a newcomer to ask is learnt, not tested
# Rooms that nearly every house has, and newcomers name first, likewise.
COMMON_PLACES = {
    "en": "kitchen|living room|bedroom|bathroom|garage|hall|hallway|office|dining room|garden",
    "fr": "la cuisine|le salon|la chambre|la salle de bains|le garage|l'entrée|le couloir|le bureau|le jardin",
}
_GROUP = re.compile(r"\(([^()]*)\)")
_OPERATION_SLOT = {"light": "power", "curtains": "opening", "lock": "locking"}


def expand(pattern: str) -> list[str]:
    """All skeletons of a pattern with `(a|b)` choices."""
    pieces = _GROUP.split(pattern)
    choices = [piece.split("|") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return [" ".join("".join(parts).split()) for parts in itertools.product(*choices)]


def tested_part(every: set[str], known: set[str]) -> set[str]:
    """A seventh of the skeletons, by checksum, except those with a word that is in no other and not `known`."""
    ordered = sorted(every, key=lambda s: zlib.crc32(s.encode()))
    border = max(1, len(ordered) // 7)
    known = known | set(" ".join(ordered[border:]).split())
    return {s for s in ordered[:border] if set(s.split()) <= known}


def _expanded(patterns: list[str]) -> set[str]:
    return {s for p in patterns for s in expand(p)}


def _split(language: str) -> tuple[dict[str, list[list[str]]], dict[str, list[list[str]]]]:
    """(training, test): each key's skeletons, those of `phrases_…` first, then a group a pattern of `more_phrases_…`.

    The first patterns are split without a look at the further ones: a checkpoint trained on them alone is known.
    """
    first, more = LANGUAGES[language].PHRASES, MORE[language].MORE_PHRASES
    olds = {key: _expanded(patterns) for key, patterns in first.items()}
    tested = {key: tested_part(old, set()) - {DEMO} for key, old in olds.items()}
    trained = {key: old - tested[key] for key, old in olds.items()}
    spoken = [f" {s} " for found in trained.values() for s in found]
    for key, old in olds.items():
        drawn = tested_part(_expanded(more[key]) - old, set(" ".join(trained[key]).split()))
        tested[key] |= {s for s in drawn if not any(f" {s} " in t for t in spoken)}
    contained = [f" {s} " for held in tested.values() for s in held]
    train: dict[str, list[list[str]]] = {}
    test: dict[str, list[list[str]]] = {}
    for key, old in olds.items():
        groups = [_expanded([pattern]) - old for pattern in more[key]]
        train[key] = [sorted(trained[key])]
        train[key] += [sorted(s for s in group if not any(c in f" {s} " for c in contained)) for group in groups]
        test[key] = [sorted(old & tested[key]), *(sorted(group & tested[key]) for group in groups)]
    return {k: [g for g in v if g] for k, v in train.items()}, {k: [g for g in v if g] for k, v in test.items()}


_GROUPS: dict[tuple[str, bool], dict[str, list[list[str]]]] = {
    (lang, side): _split(lang)[side] for lang in LANGUAGES for side in (False, True)
}
SKELETONS = {
    where: {key: sorted({s for group in groups for s in group}) for key, groups in found.items()}
    for where, found in _GROUPS.items()
}


def _entries(text: str) -> list[str]:
    return "".join(text.splitlines()).split("|")


_PLACES = {lang: _entries(LANGUAGES[lang].PLACES) + _entries(MORE[lang].MORE_PLACES) for lang in LANGUAGES}
_COMMON = {lang: _entries(places) for lang, places in COMMON_PLACES.items()}
_LABELS = {
    lang: {kind: _entries(text) + _entries(MORE[lang].MORE_LABELS[kind]) for kind, text in module.LABELS.items()}
    for lang, module in LANGUAGES.items()
}


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
        if not held_out and rng.random() < 0.15:
            entry = rng.choice(_COMMON[language])
        elif rng.random() < (0.55 if held_out else 0.4):
            entry = rng.choice(_PLACES[language])
        else:
            lengths = (1, 1, 1, 2) if held_out else (1, 1, 2, 2, 3)
            words = [invented_word(rng, held_out) for _ in range(rng.choice(lengths))]
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
            article = next(a for a in ("l'", "les ", "le ", "la ") if entry.startswith(a))
            noun = entry.removeprefix(article)
            of = {"le ": "du ", "les ": "des "}.get(article, f"de {article}")
            forms = {"place": noun, "the": entry, "in": f"dans {entry}", "of": of + noun}
        if (is_held_out(noun, 5) and entry not in _COMMON[language]) == held_out:
            return forms


def _label(rng: random.Random, language: str, kind: str, held_out: bool) -> str:
    while True:
        if rng.random() < (0.55 if held_out else 0.4):
            label = rng.choice(_LABELS[language][kind])
        else:
            lengths = (1, 1, 2) if held_out else (1, 1, 2, 2, 3)
            label = " ".join(invented_word(rng, held_out) for _ in range(rng.choice(lengths)))
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
    pool = _GROUPS[language, held_out]
    key = rng.choice([k for k in pool if k.split(":")[0] == kind and pool[k]])
    first, *more = pool[key]
    skeleton = rng.choice(rng.choice(more) if more and rng.random() < (0.6 if held_out else 0.4) else first)
    if language == "en" and key == "light:on" and not held_out and rng.random() < 0.15:
        skeleton = DEMO
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
