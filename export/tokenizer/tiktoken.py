"""Kimi's `tiktoken.model` as a tokenizer.json that gives the same ids. No code of the checkpoint is run or read.

A tiktoken file holds tokens and their ranks, but neither how text is split before nor the special tokens. The split is
part of the model's Python file; that of Kimi and Moonlight is known here as a fact, so other models' files are refused.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.merges import rebuild_merges

# Where Kimi K2, K2.5, Kimi-Linear (first name) and Moonlight, Kimi-VL (second) keep the class; both split alike.
_KNOWN_CLASSES = ("tokenization_kimi.TikTokenTokenizer", "tokenization_moonshot.TikTokenTokenizer")
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_HEAD, _TAIL = (rf"[{case}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^\p{{Han}}]]" for case in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
# `pat_str` of these files: Chinese apart from other words, words at changes of case, digits by threes.
KIMI_PATTERN = "|".join(
    [
        r"[\p{Han}]+",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_HEAD}*{_TAIL}+{_SUFFIX}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_HEAD}+{_TAIL}*{_SUFFIX}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
_SPECIAL_TOKENS = 256  # ids behind the ranks; those without a name in the config are reserved


def convert_tiktoken(path: Path, config: Mapping[str, Any], named: Mapping[int, AddedToken]) -> Tokenizer:
    """The tokenizer of a tiktoken file; of `config` (tokenizer_config.json) its class is read.

    `named` are the special tokens by id; those of the 256 that it lacks are reserved. MoedgeError if the config does
    not name a class whose split is known, or if the file is broken.
    """
    reader = _class_name(config)
    if reader not in _KNOWN_CLASSES:
        raise MoedgeError(
            f"{path} is read by {reader or 'no class that tokenizer_config.json names'}, whose way of splitting text "
            f"moedge does not know: add a tokenizer.json to the checkpoint."
        )
    tokens = _read_tokens(path)
    tokenizer = build_byte_pairs(path, tokens, KIMI_PATTERN)
    added = _special_tokens(path, len(tokens), named)
    tokenizer.add_tokens(added)
    for token_id, token in enumerate(added, len(tokens)):
        if tokenizer.token_to_id(token.content) != token_id:
            raise MoedgeError(
                f"tokenizer_config.json gives {token.content!r} the id {token_id}, but another id has this spelling "
                f"already: it does not belong to {path}."
            )
    return tokenizer


def build_byte_pairs(path: Path, tokens: list[bytes], pattern: str, first: Sequence[AddedToken] = ()) -> Tokenizer:
    """The tokenizer of byte-pair tokens by rank, whose ids stand behind those of special tokens that come first."""
    alphabet = _byte_spellings()
    ranks = {"".join(alphabet[byte] for byte in token): rank for rank, token in enumerate(tokens, len(first))}
    vocab = {token.content: token_id for token_id, token in enumerate(first)}
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    for content in vocab:
        # such a spelling in a user's text would become the special token
        if content in ranks or len(vocab) != len(first) or len(splitter.pre_tokenize_str(content)) < 2:
            raise MoedgeError(
                f"{path} spells its special token {content!r} like another or like a word: add a tokenizer.json to the "
                "checkpoint."
            )
    # ignore_merges: tiktoken takes a piece that is a token whole, also where joins would not lead there.
    tokenizer = Tokenizer(models.BPE(vocab=vocab | ranks, merges=rebuild_merges(ranks), ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(first))
    return tokenizer


def _class_name(config: Mapping[str, Any]) -> str | None:
    """The module and class that `auto_map` names for the tokenizer, without the repository it may lie in."""
    auto_map = config.get("auto_map")
    named = auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else None
    if isinstance(named, list):  # the slow and the fast one
        named = named[0] if named else None
    return named.rpartition("--")[2] if isinstance(named, str) else None


def _read_tokens(path: Path) -> list[bytes]:
    """The tokens by rank: a line is a token in base64, a blank, and its rank."""
    found: dict[int, bytes] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            found[int(rank)] = base64.b64decode(token, validate=True)
        except (ValueError, binascii.Error):
            raise MoedgeError(f"line {number} of {path} is not a token and its rank: download it again.") from None
    tokens = [found[rank] for rank in sorted(found)]
    if sorted(found) != list(range(len(found))) or len(set(tokens)) != len(tokens) or b"" in tokens:
        raise MoedgeError(f"{path} does not hold every rank and token once: download it again.")
    if not {bytes([byte]) for byte in range(256)} <= set(tokens):
        raise MoedgeError(f"{path} lacks tokens for some of the 256 bytes: download it again.")
    return tokens


def _special_tokens(path: Path, first: int, named: Mapping[int, AddedToken]) -> list[AddedToken]:
    """The 256 special tokens in the order of their ids, which begin at `first`."""
    ids = range(first, first + _SPECIAL_TOKENS)
    outside = [token_id for token_id in named if token_id not in ids]
    if outside:
        raise MoedgeError(
            f"tokenizer_config.json names the id {outside[0]}, but the special tokens of {path} are "
            f"{ids[0]} to {ids[-1]}: they do not belong together."
        )
    reserved = {i: AddedToken(f"<|reserved_token_{i}|>", special=True) for i in ids}
    # tiktoken looks for a spelling and nothing around it.
    return [AddedToken(t.content, special=t.special, normalized=False) for t in (reserved | dict(named)).values()]


def _byte_spellings() -> list[str]:
    """How byte-level vocabularies spell each byte: printable Latin-1 as is, the rest from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
