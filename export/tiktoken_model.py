"""Kimi's `tiktoken.model` as a `tokenizer.json` that gives the same tokens.

A line of the file is a token in base64 and its rank. tiktoken merges, of all neighbours that make a token, those whose
token ranks lowest; a byte-level BPE does the same with every split of a token into two tokens as a merge, by the rank
of the whole. The pattern that splits words is not in the file: it is a fact of Kimi's code (tokenization_kimi.py, and
tokenization_moonshot.py of Moonlight), so a checkpoint that names other code is refused.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from moedge.devices.errors import MoedgeError

TIKTOKEN_NAME = "tiktoken.model"
KNOWN_CODE = ("tokenization_kimi", "tokenization_moonshot")
RESERVED = 256  # special tokens after the ranked ones, named or not
_LETTERS = r"\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]"  # of no case; Chinese has an alternative of its own
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    (
        r"[\p{Han}]+",
        rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]*[\p{{Ll}}{_LETTERS}]+{_ENDING}",
        rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]+[\p{{Ll}}{_LETTERS}]*{_ENDING}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def read_tiktoken(path: Path, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a tiktoken.model beside its tokenizer_config.json; MoedgeError if it is not Kimi's."""
    _refuse_other_code(path, config)
    ranks = _ranks(path)
    letters = _byte_letters()
    spelt = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [(spelt[a], spelt[b]) for _, a, b in sorted(_splits(ranks), key=lambda split: split[0])]
    vocabulary = {spelt[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    named = config.get("added_tokens_decoder") or {}
    contents = {int(i): token["content"] for i, token in named.items()}
    reserved = range(len(ranks), len(ranks) + RESERVED)
    tokenizer.add_special_tokens(
        [AddedToken(contents.get(i, f"<|reserved_token_{i}|>"), normalized=False, special=True) for i in reserved]
    )
    return tokenizer


def _refuse_other_code(path: Path, config: dict[str, Any]) -> None:
    code = (config.get("auto_map") or {}).get("AutoTokenizer")
    code = code[0] if isinstance(code, list) and code else code
    kind = config.get("tokenizer_class")
    known = isinstance(code, str) and code.partition(".")[0].rpartition("--")[2] in KNOWN_CODE
    if not known and not (code is None and kind == "TikTokenTokenizer"):
        raise MoedgeError(
            f"{path} is read by {code or kind or 'code that tokenizer_config.json does not name'}, whose splitting of "
            "words moedge does not know: add a tokenizer.json to the checkpoint."
        )


def _ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    try:
        for line in path.read_bytes().splitlines():
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (ValueError, binascii.Error):
        raise MoedgeError(f"{path} is not a list of tokens in base64 with their ranks: download it again.") from None
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([b]) not in ranks for b in range(256)):
        raise MoedgeError(f"{path} lacks ranks or bytes, or names a token twice: download it again.")
    return ranks


def _splits(ranks: dict[bytes, int]) -> list[tuple[tuple[int, int, int], bytes, bytes]]:
    """Every token as two tokens: ((its rank, the parts' ranks), part, part)."""
    found = []
    for token, rank in ranks.items():
        for cut in range(1, len(token)):
            a, b = ranks.get(token[:cut]), ranks.get(token[cut:])
            if a is not None and b is not None:
                found.append(((rank, a, b), token[:cut], token[cut:]))
    return found


def _byte_letters() -> list[str]:
    """The character by which byte-level vocabularies spell each byte: printable Latin-1 as is, the rest from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
