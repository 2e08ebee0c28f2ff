"""Regular expressions as JSON Schema has them, ECMAScript's, as terminals of llguidance's Lark."""

import re

from moedge.devices.errors import MoedgeError

MOST_TIMES = 10_000  # that a part may be repeated
_PLACES = frozenset(("^", "$", *(f"\\{letter}" for letter in "bBAzZ")))
_RAW = {"/": "\\/", "\n": "\\n", "\r": "\\r"}  # what a terminal between slashes cannot hold
_SIGN = re.compile(r"\\.|[/\n\r]", re.DOTALL)
# A class that does not end goes on to the end of all: to fail there would be to try again at each bracket in it.
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w++:\]|[^\]\\])*+(?:\]|\\?\Z)|[()|^$/]|.", re.DOTALL)
_REPEATED = re.compile(r"\\.|[{~]\s*(?P<least>\d{1,18})(?:\s*(?:,|\.\.)\s*(?P<most>\d{0,18}))?|.", re.DOTALL)
_CLASSES = {"\\d": "0-9", "\\w": "A-Za-z0-9_"}  # of ASCII alone, as in ECMAScript
_CLASS = re.compile(r"\\[dw]|\\.", re.DOTALL)


def narrow_classes(pattern: str) -> str:
    """The same of ASCII digits and letters, where it names digits and letters."""
    return "".join(_narrowed(found[0]) for found in _PIECE.finditer(pattern))


def check_repetitions(text: str) -> None:
    """MoedgeError for a regular expression, or a grammar, that repeats a part too often, also part by part."""
    inner, products = 1, [1]  # within the group that ended last, and within each that is open
    previous = ""
    for found in _REPEATED.finditer(text):
        piece = found[0]
        times = max(int(count) for count in (found["least"], found["most"], "1") if count)
        if piece == "(":
            products.append(1)
        elif piece == ")" and len(products) > 1:
            inner = products.pop()
            products[-1] = max(products[-1], inner)
        elif found["least"]:
            times *= inner if previous == ")" else 1
            products[-1] = max(products[-1], times)
        if times > MOST_TIMES:
            raise MoedgeError(f"it repeats a part {times} times, {MOST_TIMES} are the most: write a shorter one.")
        previous = piece


def search(pattern: str) -> str:
    """A terminal of all texts in which a regular expression of JSON Schema finds something."""
    return _terminal(narrow_classes(pattern), "(?s:.*)")


def whole(pattern: str) -> str:
    """A terminal of all texts that a regular expression describes from end to end."""
    return _terminal(pattern, "")


def _terminal(pattern: str, beside: str) -> str:
    check_repetitions(pattern)
    branches: list[list[str]] = [[]]
    depth = 0
    for piece in (found[0] for found in _PIECE.finditer(pattern)):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "|" and not depth:
            branches.append([])
        else:
            branches[-1].append(piece)
    return f"/{'|'.join(_anchored(branch, pattern, beside) for branch in branches)}/"


def _anchored(branch: list[str], pattern: str, beside: str) -> str:
    begins, ends = branch[:1] == ["^"], branch[-1:] == ["$"]
    inner = branch[begins : len(branch) - ends]
    if any(piece in _PLACES for piece in inner):
        raise MoedgeError(f"the pattern {pattern[:60]!r} asks what stands beside a place in its middle.")
    said = _SIGN.sub(lambda sign: _RAW.get(sign[0], sign[0]), "".join(inner))
    return f"{'' if begins else beside}({said}){'' if ends else beside}"


def _narrowed(piece: str) -> str:
    if piece in _CLASSES:
        return f"[{_CLASSES[piece]}]"
    if piece.startswith("[") and piece.endswith("]"):
        return _CLASS.sub(lambda found: _CLASSES.get(found[0], found[0]), piece)
    return piece
