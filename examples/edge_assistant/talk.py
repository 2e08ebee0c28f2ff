"""Owns small talk: its phrasings' two sides of the split, and drawing a message with its answer from a side.

It does not own the words (`talk_en`, `talk_fr`) nor the conversations that talk stands in (`data`).
"""

import random
import re
from dataclasses import dataclass
from types import ModuleType

import talk_en
import talk_fr
from asks import LANGUAGES as PHRASES
from asks import expand
from kinds import invented_word, is_held_out

LANGUAGES: dict[str, ModuleType] = {"en": talk_en, "fr": talk_fr}
TASK, UNCLEAR = "none", "talk unclear"
# What most people say first: drawn far more often in training than the thousands of other phrasings.
COMMON = {
    "en": "hello|hi|hey|hello there|good morning|how are you|how are you today|thank you|thanks|bye|goodbye|good night|"
    "who are you|what is your name|what can you do|help|are you a robot|tell me a joke|I am bored|yes|no|okay|sorry|"
    "what is the weather|what time is it",
    "fr": "bonjour|salut|bonsoir|ça va|comment ça va|comment vas-tu|merci|au revoir|bonne nuit|qui es-tu|"
    "comment t'appelles-tu|que sais-tu faire|que peux-tu faire|aide|es-tu un robot|raconte une blague|je m'ennuie|oui|"
    "non|d'accord|pardon|quelle heure est-il",
}


@dataclass(frozen=True)
class Talk:
    """A message that needs no tool: its text, the words that thinking repeats, what they are, and the answer."""

    text: str
    words: str
    verdict: str
    answer: str


def normalized(text: str) -> str:
    """The words alone, in lower case: what two spellings of one phrasing have in common."""
    return " ".join(re.findall(r"[\w'{}+*-]+", text.lower()))


def phrasings(language: str, held_out: bool) -> dict[str, list[str]]:
    """Each verdict's phrasings of one side: a seventh, by checksum, whose words all occur in training too."""
    module = LANGUAGES[language]
    sources = {f"talk {intent}": patterns for intent, patterns in module.TALK.items()} | {TASK: module.TASKS}
    every = {verdict: sorted({s for p in patterns for s in expand(p)}) for verdict, patterns in sources.items()}
    said = {normalized(s) for s in COMMON[language].split("|")}  # to be learnt, not to be tested
    drawn = {normalized(s) for found in every.values() for s in found if is_held_out(f"talk {normalized(s)}", 7)} - said
    known = {w for found in every.values() for s in found if normalized(s) not in drawn for w in normalized(s).split()}
    tested = {s for s in drawn if set(s.split()) <= known}
    return {verdict: [s for s in found if (normalized(s) in tested) == held_out] for verdict, found in every.items()}


PHRASINGS = {(lang, side): phrasings(lang, side) for lang in LANGUAGES for side in (False, True)}
_VERDICTS = {
    lang: {s: verdict for verdict, found in PHRASINGS[lang, False].items() for s in found} for lang in LANGUAGES
}
_COMMON = {lang: [s for s in said.split("|") if s in _VERDICTS[lang]] for lang, said in COMMON.items()}
_TESTED = {lang: {normalized(s) for found in PHRASINGS[lang, True].values() for s in found} for lang in LANGUAGES}


def answer_of(language: str, verdict: str) -> str:
    """The one answer to every phrasing of a verdict."""
    if verdict == TASK:
        return str(PHRASES[language].NO_TOOL)
    module = LANGUAGES[language]
    return str(module.UNCLEAR if verdict == UNCLEAR else module.TALK_ANSWERS[verdict.removeprefix("talk ")])


def _mistype(rng: random.Random, text: str) -> str:
    """One letter inside a word dropped, doubled, or swapped with the next."""
    places = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 2].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    middle = rng.choice(("", text[i] * 2, text[i + 1] + text[i]))
    return text[:i] + middle + text[i + (2 if len(middle) == 2 and middle[0] == text[i + 1] != text[i] else 1) :]


def _fill(rng: random.Random, phrasing: str, held_out: bool) -> str:
    """The phrasing with a word or two for `{label}` and numbers for `{n}`."""
    label = " ".join(invented_word(rng, held_out) for _ in range(rng.choice((1, 1, 2))))
    if rng.random() < 0.5:
        label = label.title()
    return re.sub(r"\{n\}", lambda _: str(rng.randint(0, 99)), phrasing.replace("{label}", label))


def draw_talk(rng: random.Random, language: str, held_out: bool = False) -> Talk:
    """Draw a message from a side of the split; training also has typing mistakes and words without sense."""
    module = LANGUAGES[language]
    pool = {verdict: found for verdict, found in PHRASINGS[language, held_out].items() if found}
    while True:
        roll = rng.random()
        if not held_out and rng.random() < 0.5:
            words = rng.choice(_COMMON[language])
            verdict = _VERDICTS[language][words]
        elif roll < 0.06:
            verdict = UNCLEAR
            words = " ".join(invented_word(rng, held_out) for _ in range(rng.choice((1, 1, 2, 3, 5, 8, 14))))
        else:
            verdict = TASK if roll < 0.2 else "talk question" if roll < 0.26 else rng.choice(list(pool))
            found = pool[verdict]
            if not held_out and rng.random() < 0.5:  # what people really say first is short
                found = [phrasing for phrasing in found if phrasing.count(" ") < 3] or found
            words = _fill(rng, rng.choice(found), held_out)
        if not held_out and rng.random() < 0.15:
            words = _mistype(rng, words)
        filler, ending = rng.choice(module.FILLERS), rng.choice(module.ENDINGS)
        case = rng.random()
        if case < 0.4 and not filler:
            words = words[0].upper() + words[1:]
        elif case < 0.4:
            filler = filler[0].upper() + filler[1:]
        elif case < 0.45:
            words = words.upper()
        text = filler + words + ending
        if held_out or not _TESTED[language] & {normalized(text), normalized(words), normalized(words + ending)}:
            return Talk(text, words, verdict, answer_of(language, verdict))
