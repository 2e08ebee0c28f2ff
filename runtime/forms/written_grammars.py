"""Grammars that people write themselves: Lark as llguidance understands it, or llama.cpp's GBNF put into it."""

import re
from collections.abc import Sequence

from moedge.devices.errors import MoedgeError
from moedge.runtime.constraint import AnswerGrammar, shorten
from moedge.runtime.forms.lark_rules import quote

_GBNF = re.compile(r"^[ \t]*[A-Za-z][\w-]*[ \t]*::=", re.MULTILINE)
_OPTIONS = re.compile(r"^[ \t]*[\w.-]+\[[^\]\n]*\b(temperature|max_tokens|stop)\b", re.MULTILINE)


def as_lark(text: str) -> AnswerGrammar:
    """The grammar that a text says in Lark or in GBNF; MoedgeError for what cannot be kept of it."""
    if option := _OPTIONS.search(text):
        raise MoedgeError(f"the option {option[1]} of a rule is not supported: leave it out.")
    if not _GBNF.search(text):
        return AnswerGrammar("lark", text)
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return AnswerGrammar("lark", gbnf_to_lark(text))
    except Exception as error:  # whatever stops the converter, Exception itself too
        reason = shorten(str(error)) or "nested too deeply"
        raise MoedgeError(f"the GBNF cannot be read ({reason}): mend it, or write Lark with a rule `start`.") from None


def one_of(texts: Sequence[str]) -> AnswerGrammar:
    """One of some texts."""
    return AnswerGrammar("lark", f"start: {' | '.join(map(quote, dict.fromkeys(texts)))}")
