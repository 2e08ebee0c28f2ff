"""What an answer may look like: a grammar, and of each answer which tokens may come next, and which must.

llguidance reads grammars and follows them; it is imported when the first one is asked for. How a token is chosen from
those that may come is `sampling.py`.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.runtime.forms.closed_objects import close_objects
from moedge.runtime.text import Tokenizer
from moedge.runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

GrammarKind = Literal["json_schema", "regex", "lark", "llguidance"]
KEPT = 32  # grammars that are ready for further answers
TRIED = 64  # that were found to be fit
FUEL, MOST_FUEL = 1_000_000, 20_000_000  # for the words of a grammar; at most some tenths of a second
FUEL_A_SCHEMA = 150_000  # more: 128 tools have many words
MOST_STATES = 20_000  # of a grammar's words, in one answer: `a{1000000}` shall not keep a step waiting for seconds
MOST_ITEMS = 10_000  # that may come next at one place: 2,500 optional properties, and some milliseconds a token there
MOST_DEPTH = 64  # of a schema
MOST_CHARACTERS = 1 << 16  # of a schema; properties that are all optional take some seconds then


@dataclass(frozen=True)
class AnswerGrammar:
    """A JSON schema, a regular expression or a grammar in llguidance's Lark, as text; the whole answer is one of it.

    "llguidance" is several grammars together, in the JSON that it reads. JSON of a schema is compact: no whitespace but
    in strings.
    """

    kind: GrammarKind
    text: str


def check_size(schema: str) -> dict[str, Any]:
    """The JSON schema that a text says; MoedgeError if it is none, too large or nested too deeply."""
    if len(schema) > MOST_CHARACTERS:
        raise MoedgeError(f"the schema has {len(schema)} characters, {MOST_CHARACTERS} are the most: make it shorter.")
    try:
        stated = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f"the schema is no JSON: {shorten(str(error))}.") from None
    if not isinstance(stated, dict):
        raise MoedgeError("the schema is no JSON schema: it must be an object.")
    level: list[Any] = [stated]
    for _ in range(MOST_DEPTH):
        level = [each for value in level for each in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, dict | list)]
    if level:
        raise MoedgeError(f"the schema is nested more than {MOST_DEPTH} deep: define its parts in $defs.")
    return stated


def _compact(schema: str) -> str:
    """The schema, of which only the shortest JSON is."""
    # else nothing between two values is ever forced, and blanks may go on and on
    return json.dumps({**close_objects(check_size(schema)), "x-guidance": {"whitespace_flexible": False}})


class Constraint:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: "LLMatcher", vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self.forced: list[int] = matcher.compute_ff_tokens()

    @property
    def done(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token [vocab] may come next; the end may where the answer is whole."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)

    def add(self, token_id: int) -> None:
        """What came next; MoedgeError if the grammar is too much for llguidance's limits."""
        self._matcher.consume_token(token_id)
        self._check()
        # what was forced stays cut as it was, however its rest would be cut by itself
        self.forced = self.forced[1:] or self._matcher.compute_ff_tokens()

    def _check(self) -> None:
        if not self._matcher.is_error():
            return
        error = self._matcher.get_error()
        if "Current row has" in error:
            error = "too much may come next at one place, such as too many optional properties of a schema"
        raise MoedgeError(f"the grammar cannot be followed: {shorten(error)}.")


class _Kept:
    """A grammar that is ready once its lock was free; whoever wants another one does not wait for it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.matcher: LLMatcher | None = None


class Grammars:
    """Makes constraints for the answers of one model. Any thread may ask."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_token_ids = sorted(eos_token_ids)
        self._vocabulary: LLTokenizer | None = None
        self._reading = Lock()  # of the vocabulary
        self._kept = lru_cache(KEPT)(lambda grammar: _Kept())
        self._tried = lru_cache(TRIED)(self._try_out)

    def constraint(self, grammar: AnswerGrammar) -> Constraint:
        """For one answer, at its beginning; MoedgeError for what is no grammar, or is not supported.

        The first one reads the vocabulary, which takes about a second where it is large.
        """
        kept = self._kept(grammar)
        with kept.lock:
            if kept.matcher is None:
                kept.matcher = self._compile(grammar)
            matcher = kept.matcher.deep_copy()
        return Constraint(matcher, self._vocab_size)

    def read_ahead(self) -> None:
        """Read the vocabulary now, while nobody waits for an answer; what is wrong with it those hear who ask."""
        with suppress(MoedgeError):
            self._read_vocabulary()

    def try_out(self, grammar: AnswerGrammar) -> None:
        """Begin with the first value of a grammar; MoedgeError as of `constraint`, or if it cannot be followed."""
        self._tried(grammar)

    def _try_out(self, grammar: AnswerGrammar) -> None:
        constraint = Constraint(self._compile(grammar), self._vocab_size)
        begun = list(constraint.forced)
        if not begun:
            opening = self._tokenizer.encode("{")
            begun = opening if len(opening) == 1 and constraint.allowed()[opening[0]] else []
        for token_id in begun:
            constraint.add(token_id)
        if not constraint.done:
            constraint.allowed()

    def _read_vocabulary(self) -> "LLTokenizer":
        from llguidance import LLTokenizer, TokenizerWrapper

        with self._reading:
            if self._vocabulary is None:
                read = TokenizerWrapper(Vocabulary(self._tokenizer, self._vocab_size, self._eos_token_ids))
                try:
                    self._vocabulary = LLTokenizer(read, n_vocab=self._vocab_size, eos_token=self._eos_token_ids)
                except ValueError as error:
                    reason = shorten(str(error))
                    raise MoedgeError(f"this model's tokenizer cannot be held to a schema ({reason}).") from None
            return self._vocabulary

    def _compile(self, grammar: AnswerGrammar) -> "LLMatcher":
        from llguidance import LLMatcher, LLParserLimits

        vocabulary = self._read_vocabulary()
        match grammar.kind:
            case "json_schema":
                source = LLMatcher.grammar_from_json_schema(_compact(grammar.text))
            case "regex":
                source = LLMatcher.grammar_from_regex(grammar.text)
            case "lark":
                source = LLMatcher.grammar_from_lark(grammar.text)
            case "llguidance":
                source = grammar.text
        limits = LLParserLimits(
            initial_lexer_fuel=min(FUEL + FUEL_A_SCHEMA * grammar.text.count("%json"), MOST_FUEL),
            max_lexer_states=MOST_STATES,
            max_items_in_row=MOST_ITEMS,
            verbose_errors=False,
        )
        matcher = LLMatcher(vocabulary, source, log_level=0, limits=limits)
        if matcher.is_error():
            raise MoedgeError(f"the grammar is not supported: {shorten(matcher.get_error())}.")
        return matcher


def shorten(text: str) -> str:
    """What llguidance says, without the place and the lines of a grammar that the user may never have seen."""
    words = " ".join(re.split(r"\n *1 \|", re.sub(r"^at \d+\(\d+\): ", "", text))[0].split())
    return words.rstrip(".") if len(words) <= 200 else f"{words[:200]} …"
