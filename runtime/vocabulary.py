"""A tokenizer as llguidance reads it: the bytes of every token, and texts cut as the model was shown them.

What spells a special token is text here, as in all that a grammar says; llguidance's own reading of tokenizer.json
would cut it into that token, which then does not fit the grammar.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.runtime.text import Tokenizer, spelled_bytes

_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"  # as SentencePiece spells it
_READABLE = {"ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip", "BPEDecoder", "Sequence"}
LONGEST = 4096  # bytes that are cut at once: what is forced is asked for again once it was said
_ANCHOR_TOKENS = 4  # at most, a space before it too
_ANCHORS = ("", "\n", "|")  # before a text, which tokenizers that begin texts with a space would not cut as within one


class Vocabulary:
    """What llguidance asks of a tokenizer; MoedgeError for one whose tokens have no bytes of their own."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        decoders = set(_types(_decoder(tokenizer.definition)))
        reason = f"unsupported decoder {min(unknown)}" if (unknown := decoders - _READABLE) else ""
        if tokenizer.spelling(vocab_size) is not None:
            reason = f"it has more tokens than the model, which has {vocab_size}"
        if reason:
            raise MoedgeError(f"this model's tokenizer cannot be held to a schema ({reason}).")
        read = spelled_bytes if "ByteLevel" in decoders else _spaced
        spelled = [read(tokenizer.spelling(token_id) or "") for token_id in range(vocab_size)]
        self._tokenizer = tokenizer
        self.tokens = spelled
        self.special_token_ids = sorted(tokenizer.special_ids.values())
        self.eos_token_id = min(eos_token_ids, default=0)
        self.bos_token_id: int | None = None
        self._ids = {piece: token_id for token_id, piece in enumerate(spelled) if piece}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: bytes) -> list[int]:
        """The tokens of a text that stands within another one; of a long one those that it begins with."""
        text = text[:LONGEST]
        said = text.decode("utf-8", "ignore")
        for anchor in _ANCHORS:
            ids = self._tokenizer.encode(anchor + said)
            for before in range(_ANCHOR_TOKENS if anchor else 1):
                if b"".join(self.tokens[i] for i in ids[before:]) == text:
                    return ids[before:]
        return list(self._greedily(text))

    def _greedily(self, text: bytes) -> Iterator[int]:
        """The longest token first; bytes of which no token is are left out."""
        at = 0
        while at < len(text):
            size = min(self._longest, len(text) - at)
            while size and text[at : at + size] not in self._ids:
                size -= 1
            if size:
                yield self._ids[text[at : at + size]]
            at += size or 1


def _spaced(piece: str) -> bytes:
    fallback = _FALLBACK.fullmatch(piece)
    return bytes([int(fallback[1], 16)]) if fallback else piece.replace(_SPACE, " ").encode()


def _decoder(definition: str) -> Any:
    """What tokenizer.json says of decoding; it is large, and the rest of it is not read."""
    _, _, behind = definition.partition('"decoder":')
    return json.JSONDecoder().raw_decode(behind.lstrip())[0] if behind else None


def _types(decoder: Any) -> Iterator[str]:
    if isinstance(decoder, dict):
        yield str(decoder.get("type"))
        for inner in decoder.get("decoders", ()):
            yield from _types(inner)
