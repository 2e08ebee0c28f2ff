"""Owns what the tools of the example's world look like: kinds, their slots, and how names and schemas vary.

It does not own what users say (`phrases_en`, `phrases_fr`) nor the conversations (`data`).
"""

import random
import zlib
from dataclasses import dataclass
from pathlib import Path

from dialects import Json, spell_declaration


def is_held_out(text: str, one_in: int) -> bool:
    """Split by the text itself, so that no run can ever train on what the test uses."""
    return zlib.crc32(text.encode()) % one_in == 0


@dataclass(frozen=True)
class Kind:
    """One thing that a house can do: the slots that a request fills, and the words that tools are named with."""

    slots: tuple[str, ...]
    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    numbers: tuple[int, int] = (0, 100)


def _kind(slots: str, verbs: str, nouns: str, numbers: tuple[int, int] = (0, 100)) -> Kind:
    return Kind(tuple(slots.split()), tuple(verbs.split()), tuple(nouns.split()), numbers)


KINDS: dict[str, Kind] = {
    "light": _kind("place power", "set switch turn toggle control", "light lights lamp light_power light_state"),
    "dim": _kind("place n", "dim set adjust change", "brightness dimmer light_level lamp_level light_brightness"),
    "heat": _kind("place n", "set adjust control change", "thermostat heating heat radiator room_heating", (5, 30)),
    "temperature": _kind("place", "get read check measure", "temperature temp room_temperature warmth thermometer"),
    "humidity": _kind("place", "get read check measure", "humidity room_humidity moisture air_humidity hygrometer"),
    "blinds": _kind("place n", "set move adjust control", "blinds shutters blind shutter_position blinds_level"),
    "curtains": _kind("place opening", "move set control draw", "curtains curtain drapes curtain_state"),
    "lock": _kind("place locking", "set control change use", "lock door_lock door doors bolt"),
    "timer": _kind("n label", "start set create make", "timer countdown kitchen_timer minute_timer", (1, 120)),
    "volume": _kind("place n", "set change adjust control", "volume sound_level loudness speaker_volume audio_level"),
    "alarm": _kind("time", "set create make add", "alarm wake_up alarm_clock wakeup morning_alarm"),
    "vacuum": _kind("place", "start send run use", "vacuum robot cleaning hoover vacuum_robot cleaner"),
    "music": _kind("place label", "play start put_on stream", "music song audio media playlist"),
    "shopping": _kind("label", "add put write append", "shopping shopping_item groceries to_list shopping_list"),
}

PARAMETERS: dict[str, tuple[str, ...]] = {
    "place": ("room", "location", "place", "area", "zone", "where", "room_name", "target"),
    "power": ("on", "enabled", "power", "state", "status", "is_on", "action"),
    "opening": ("action", "state", "open", "is_open", "position", "command"),
    "locking": ("action", "state", "locked", "is_locked", "lock", "command"),
    "n": ("value", "level", "amount", "setting", "number"),
    "label": ("name", "label", "title", "item", "text", "what"),
    "time": ("time", "at", "when", "clock", "hour"),
}
OWN_PARAMETERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("dim", "n"): ("percent", "brightness", "level", "value"),
    ("heat", "n"): ("degrees", "temperature", "target_temperature", "celsius", "value"),
    ("blinds", "n"): ("position", "percent", "level", "value"),
    ("timer", "n"): ("minutes", "duration", "length", "time"),
    ("volume", "n"): ("volume", "level", "value"),
    ("lock", "place"): ("door", "which", "name", "location", "room"),
}
# value of the request -> its spelling, by style of the declared enum; a boolean needs none
ENUMS: dict[str, tuple[dict[str, str], ...]] = {
    "power": ({"on": "on", "off": "off"}, {"on": "ON", "off": "OFF"}),
    "opening": ({"open": "open", "close": "close"}, {"open": "open", "close": "closed"}),
    "locking": ({"lock": "lock", "unlock": "unlock"}, {"lock": "locked", "unlock": "unlocked"}),
}
TRUE_VALUES = {"on", "open", "lock"}
EXTRAS = (("fade", "integer"), ("unit", "string"), ("mode", "string"), ("silent", "boolean"), ("repeat", "boolean"))

_ORDINARY = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split()
_ONSETS = (*"bcdfghjklmnprstvwz", "br", "cr", "dr", "fl", "gr", "kl", "pl", "st", "tr", "vr", "zl", "qu", "sh")
_VOWELS = (*"aeiouy", "ai", "ou", "ei")
_CODAS = ["", "", "n", "r", "l", "s", "x", "k", "m", "t", "nd", "rk"]


def _slice(rng: random.Random) -> str:
    """Two to four letters out of an ordinary word."""
    word = rng.choice(_ORDINARY)
    start = rng.randrange(max(1, len(word) - 2))
    return word[start : start + rng.randint(2, 4)]


def invented_word(rng: random.Random, held_out: bool) -> str:
    """A word of syllables or, in training, of pieces of ordinary words, or one of these; from a side of the split."""
    while True:
        pick = 1.0 if held_out else rng.random()
        if pick < 0.3:
            word = "".join(_slice(rng) for _ in range(rng.choice((1, 2, 2))))
        elif pick < 0.5:
            word = rng.choice(_ORDINARY)
        else:
            syllables = rng.choices((1, 2, 3), (2, 5, 1))[0]
            word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))
        if is_held_out(word, 8) == held_out:
            return word


@dataclass(frozen=True)
class Tool:
    """A declared tool: `parameters` are (name, slot, enum spelling or None) in declared order."""

    kind: str
    name: str
    parameters: tuple[tuple[str, str, dict[str, str] | None], ...]
    declaration: Json
    is_invented: bool


def tool_name(rng: random.Random, kind: Kind, unseen: bool) -> tuple[str, bool]:
    """A name and whether it is invented; `unseen` names are those that training never draws."""
    while True:
        invented = rng.random() < 0.45
        if invented:
            words = [invented_word(rng, unseen) for _ in range(rng.choice((1, 1, 2)))]
        else:
            words = f"{rng.choice(kind.verbs)}_{rng.choice(kind.nouns)}".split("_")
            if rng.random() < 0.2:
                words = words[1:] + words[:1]
            if rng.random() < 0.1:
                words = [rng.choice(("home", "ha", "my", "smart", "house", "device")), *words]
        camel = rng.random() < 0.15
        name = words[0] + "".join(w.capitalize() for w in words[1:]) if camel else "_".join(words)
        if invented or is_held_out(name, 6) == unseen:
            return name, invented


def _schema(rng: random.Random, slot: str, kind: Kind, spelling: dict[str, str] | None) -> Json:
    if slot == "n":
        schema: Json = {"type": "integer"}
        if rng.random() < 0.08:
            schema |= {"minimum": kind.numbers[0], "maximum": kind.numbers[1]}
        return schema
    if slot not in ENUMS:
        return {"type": "string"}
    return {"type": "boolean"} if spelling is None else {"type": "string", "enum": list(spelling.values())}


_HINTS = {
    "place": ("The room", "Name of the room", "La pièce"),
    "power": ("On or off", "New state"),
    "opening": ("Open or close", "New state"),
    "locking": ("Lock or unlock", "New state"),
    "n": ("The value", "A number", "La valeur"),
    "label": ("The name", "What it is", "Le nom"),
    "time": ("Time as hh:mm", "hh:mm", "L'heure"),
}


def make_tool(rng: random.Random, kind_name: str, descriptions: list[str], unseen: bool) -> Tool:
    """Draw one declaration of a kind: name, parameter names, their order, and how much is documented."""
    kind = KINDS[kind_name]
    name, invented = tool_name(rng, kind, unseen)
    slots = list(kind.slots)
    if rng.random() < 0.25:
        rng.shuffle(slots)
    parameters: list[tuple[str, str, dict[str, str] | None]] = []
    properties: Json = {}
    for slot in slots:
        own = OWN_PARAMETERS.get((kind_name, slot), PARAMETERS[slot])
        pick = rng.random()
        parameter = rng.choice(own) if pick < 0.8 else rng.choice(PARAMETERS[slot])
        if pick > (0.93 if unseen else 0.88):
            parameter = invented_word(rng, unseen)
        if parameter in properties:
            parameter = f"{parameter}_{slot}"
        boolean = slot in ENUMS and (rng.random() < 0.5 or parameter.startswith("is_"))
        spelling = rng.choice(ENUMS[slot]) if slot in ENUMS and not boolean else None
        schema = _schema(rng, slot, kind, spelling)
        if rng.random() < 0.12:
            schema["description"] = rng.choice(_HINTS[slot])
        properties[parameter] = schema
        parameters.append((parameter, slot, spelling))
    required = list(properties)
    if rng.random() < 0.08:
        extra, extra_type = rng.choice(EXTRAS)
        properties.setdefault(extra, {"type": extra_type})
    function: Json = {"name": name}
    if invented or rng.random() < 0.85:
        function["description"] = rng.choice(descriptions) + ("." if rng.random() < 0.2 else "")
    function["parameters"] = {"type": "object", "properties": properties}
    if rng.random() < 0.93:
        function["parameters"]["required"] = required
    declaration = {"type": "function", "function": spell_declaration(rng, function)}
    return Tool(kind_name, name, tuple(parameters), declaration, invented)


def argument(slot: str, spelling: dict[str, str] | None, value: str) -> str | int | bool:
    """The value of a slot as the declaration wants it."""
    if slot == "n":
        return int(value)
    if slot in ENUMS:
        return value in TRUE_VALUES if spelling is None else spelling[value]
    return value
