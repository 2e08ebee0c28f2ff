"""Log probabilities of what the user reads: which tokens a text is made of, and how OpenAI's formats show them.

An answer's tokens spell more than its content: thinking, markers, calls. A text that is said is found again in what the
tokens spell, so that the tokens that are told join to it, the first and the last cut where it begins and ends.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from moedge.edge_server.replies import Json
from moedge.runtime.generation import Token

LEAST = -9999.0  # what OpenAI says for none at all


class TokenSpelling(Protocol):
    """What a tokenizer tells of one token."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that it stands for."""

    def bytes_in_text(self, token_id: int, text: str) -> bytes:
        """The same, where `text` is what it adds to the text before it."""


@dataclass(frozen=True)
class Alternative:
    """A token that was likely."""

    token_id: int
    bytes: bytes
    logprob: float

    @property
    def text(self) -> str:
        """Its bytes as text; part of a character is U+FFFD."""
        return self.bytes.decode("utf-8", "replace")


@dataclass(frozen=True)
class TokenLogprob:
    """A token that is said; its bytes are part of a character sometimes, of which the last token has the text."""

    text: str
    bytes: bytes
    logprob: float
    others: tuple[Alternative, ...]


class TokenTexts:
    """The tokens of one answer, and where they are in what it says."""

    def __init__(self, tokenizer: TokenSpelling) -> None:
        self._tokenizer = tokenizer
        self._tokens: deque[tuple[str, Token]] = deque()  # not passed yet, with what of each is not
        self._held = ""  # what they spell

    def add(self, token: Token) -> None:
        """The next token; its `piece` is what it spells, nothing while a character is not whole."""
        self._tokens.append((token.piece, token))
        self._held += token.piece

    def pass_over(self, text: str) -> tuple[TokenLogprob, ...]:
        """The tokens that this text is made of, which stands behind all that were passed; none if it is nowhere."""
        place = self._held.find(text)
        if place < 0 or not text:
            return ()
        self._held = self._held[place + len(text) :]
        told, left = [], len(text)
        while self._tokens and left:
            piece, token = self._tokens.popleft()
            skipped = min(place, len(piece))
            place -= skipped
            said = piece[skipped : skipped + left]
            left -= len(said)
            if rest := piece[skipped + len(said) :]:
                self._tokens.appendleft((rest, token))
            if said or (not piece and not place):
                told.append(self._tell(token, said))
        return tuple(told)

    def _tell(self, token: Token, text: str) -> TokenLogprob:
        whole = text == token.piece
        own = self._tokenizer.bytes_in_text(token.token_id, text) if whole else text.encode()
        assert token.logprob is not None
        others = tuple(
            Alternative(each, self._tokenizer.token_bytes(each), chance) for each, chance in token.top_logprobs
        )
        return TokenLogprob(text, own, token.logprob, others)


def chat_logprobs(told: Sequence[TokenLogprob]) -> Json:
    """As chat completions show them."""
    return {"content": token_logprobs(told), "refusal": None}


def token_logprobs(told: Sequence[TokenLogprob]) -> list[Json]:
    """A list of tokens, as in `logprobs.content` and in responses."""
    return [
        {
            **_entry(each.text, each.bytes, each.logprob),
            "top_logprobs": [_entry(other.text, other.bytes, other.logprob) for other in each.others],
        }
        for each in told
    ]


def completion_logprobs(told: Sequence[TokenLogprob], offset: int) -> Json:
    """As text completions show them; the text of the first token begins at `offset` characters of the choice's."""
    offsets = []
    for each in told:
        offsets.append(offset)
        offset += len(each.text)
    return {
        "tokens": [each.text for each in told],
        "token_logprobs": [each.logprob for each in told],
        "top_logprobs": [{other.text: other.logprob for other in each.others} or None for each in told],
        "text_offset": offsets,
    }


def _entry(text: str, raw: bytes, logprob: float) -> Json:
    return {"token": text, "logprob": max(logprob, LEAST), "bytes": [*raw]}
