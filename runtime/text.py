"""Text to token ids and back. It owns `tokenizer.json`; templates live elsewhere, streams in `text_stream.py`.

What a user wrote never becomes a special token.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock

import tokenizers
from tokenizers import decoders

from moedge.devices.errors import MoedgeError
from moedge.runtime.prompt_too_long import PromptTooLong
from moedge.runtime.text_stream import ByteStream, TextStream, WindowStream

PIECE = 1 << 12  # characters of a long text that are counted at once
SEAM = 64  # tokens that a cut between two pieces costs at most: far more than a word or a run of blanks falls into
SHORT = 4  # characters a token allowed: up to here a text is encoded whole, its tokens are not counted first


class Tokenizer:
    """The tokenizer of one bundle; safe to share between threads."""

    def __init__(self, definition: str) -> None:
        data = json.loads(definition)
        added = data.get("added_tokens", [])
        # Some models mark <think> or <tool_call> as ordinary added tokens. They steer the model all the same, so text
        # of a user must not become them; runs of blanks, which some vocabularies add too, may.
        for token in added:
            token["special"] = token["special"] or bool(token["content"].strip())
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(data))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._byte_level = isinstance(self._tokenizer.decoder, decoders.ByteLevel)
        self._added: dict[int, bytes] = {token["id"]: token["content"].encode() for token in added}
        self._bytes: dict[int, bytes] = {}
        self._lock = Lock()  # encode_special_tokens is a setting of the tokenizer, not of a call

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Read a tokenizer.json; MoedgeError if it is missing or broken."""
        try:
            return cls(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MoedgeError(f"{path} is missing: export the bundle again.") from None
        except BaseException as error:  # tokenizers raises Exception itself, and in a panic not even that
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            raise MoedgeError(f"{path} is not a tokenizer ({error}): export the bundle again.") from error

    @property
    def definition(self) -> str:
        """What tokenizer.json says, all added tokens being special but blanks."""
        return self._tokenizer.to_str()

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Spellings that steer the model: the added tokens, whether flagged special or not, blanks apart."""
        return tuple(content.decode() for content in self._added.values() if content.strip())

    @property
    def special_ids(self) -> dict[str, int]:
        """The same with their ids."""
        return {content.decode(): token_id for token_id, content in self._added.items() if content.strip()}

    def encode(
        self, text: str, allow_special: bool = False, add_special_tokens: bool = False, most: int | None = None
    ) -> list[int]:
        """Token ids of a text. The spelling of a special token becomes it with `allow_special` and stays text without.

        `add_special_tokens` puts what the model wants around a bare text (a beginning-of-sequence token, mostly).
        A text that has more than `most` tokens raises PromptTooLong, at the cost of `most` tokens at most.
        """
        if most is not None and len(text) > max(PIECE, SHORT * most):
            self._refuse_longer(text, allow_special, most)
        token_ids = self._encode(text, allow_special, add_special_tokens)
        if most is not None and len(token_ids) > most:
            raise PromptTooLong(f"{len(token_ids)} tokens", most)
        return token_ids

    def _refuse_longer(self, text: str, allow_special: bool, most: int) -> None:
        counted = 0
        for start in range(0, len(text), PIECE):
            counted += len(self._encode(text[start : start + PIECE], allow_special, False)) - SEAM
            if counted > most:
                raise PromptTooLong(f"more than {counted} tokens", most)

    def _encode(self, text: str, allow_special: bool, add_special_tokens: bool) -> list[int]:
        with self._lock:
            self._tokenizer.encode_special_tokens = not allow_special
            try:  # a batch, though of one: `encode` would keep all other threads of Python waiting
                (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
            except TypeError:
                raise MoedgeError("the text holds half of a surrogate pair: send valid Unicode.") from None
            except BaseException as error:
                if not _is_panic(error):
                    raise
                raise RuntimeError(f"the tokenizer fails on this text: {error}") from None
        return list(encoding.ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some tokens; special ones appear as their spelling."""
        if self._byte_level:
            return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", "replace")
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def spelling(self, token_id: int) -> str | None:
        """How tokenizer.json spells a token, or None for an id without one."""
        found: str | None = self._tokenizer.id_to_token(token_id)
        return found

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one token stands for; empty for an id without a token."""
        found = self._bytes.get(token_id)
        if found is None:
            found = self._bytes[token_id] = self._spell(token_id)
        return found

    def bytes_in_text(self, token_id: int, text: str) -> bytes:
        """The same where the token adds `text` to an answer: some vocabularies spell by what stands beside."""
        return self.token_bytes(token_id) if self._byte_level else text.encode()

    def stream(self) -> TextStream:
        """A fresh incremental detokenizer."""
        return ByteStream(self.token_bytes) if self._byte_level else WindowStream(self.decode)

    def _spell(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id]
        if not self._byte_level:
            return self.decode([token_id]).encode()
        return spelled_bytes(self._tokenizer.id_to_token(token_id) or "")


def spelled_bytes(piece: str) -> bytes:
    """The bytes that a byte-level vocabulary spells so."""
    alphabet = _byte_alphabet()
    try:
        return bytes(alphabet[character] for character in piece)
    except KeyError:  # not in the alphabet, so the decoder takes it as it is
        return piece.encode()


@cache
def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level vocabularies spell bytes: printable Latin-1 as is, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _is_panic(error: BaseException) -> bool:
    """Whether it is a panic of tokenizers', which is no Exception to Python, and of no class that could be named."""
    return type(error).__name__ == "PanicException"
