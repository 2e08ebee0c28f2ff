"""Mistral's `tekken.json` as a tokenizer.json that gives the same ids.

The file holds bytes of tokens in the order of their ranks, and how text is split. Special tokens have the first ids,
ordinary ones their rank behind them. A split that is not the known one is refused: regular expressions of two engines
need not mean the same.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.tiktoken import build_byte_pairs

# Words at changes of case, digits one by one, signs with slashes and line ends behind them, blanks.
_LETTER = r"\p{Lm}\p{Lo}\p{M}"
TEKKEN_PATTERN = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTER}]*[\p{{Ll}}{_LETTER}]+",
        rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTER}]+[\p{{Ll}}{_LETTER}]*",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
# The first special tokens of files that do not list theirs, which are those up to version 7.
_UNLISTED = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
_UNLISTED_VERSIONS = ("v1", "v2", "v3", "v7")
_MOST = 1 << 22  # tokens


def convert_tekken(path: Path) -> Tokenizer:
    """The tokenizer of a tekken.json; MoedgeError if it is broken or splits text in a way that is not known."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        config = data["config"]
        size, reserved = config["default_vocab_size"], config["default_num_special_tokens"]
        if not type(size) is type(reserved) is int or not 0 <= reserved <= size <= _MOST:
            raise ValueError("its sizes are none")
        tokens = [base64.b64decode(entry["token_bytes"], validate=True) for entry in data["vocab"][: size - reserved]]
        special = _special_tokens(data.get("special_tokens"), config.get("version"), reserved)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise MoedgeError(f"{path} is not a tekken tokenizer ({error!r:.100}): download it again.") from None
    if config.get("pattern") != TEKKEN_PATTERN:
        raise MoedgeError(
            f"{path} splits text in a way that moedge does not know: add a tokenizer.json to the checkpoint."
        )
    if len(tokens) != size - reserved or len(set(tokens)) != len(tokens) or b"" in tokens:
        raise MoedgeError(f"{path} does not hold every token once: download it again.")
    if set(tokens[:256]) != {bytes([byte]) for byte in range(256)}:
        raise MoedgeError(f"{path} does not begin with the 256 bytes: download it again.")
    return build_byte_pairs(path, tokens, TEKKEN_PATTERN, special)


def _special_tokens(listed: Any, version: Any, count: int) -> list[AddedToken]:
    """The special tokens by id; those that no list names are fillers."""
    if listed is None:
        if version not in _UNLISTED_VERSIONS:
            raise ValueError(f"version {version} lists its special tokens")
        listed = [{"rank": i, "token_str": spelled, "is_control": True} for i, spelled in enumerate(_UNLISTED)]
    if [entry["rank"] for entry in listed] != list(range(len(listed))) or len(listed) > count:
        raise ValueError("its special tokens are not numbered from 0 on")
    named = [AddedToken(e["token_str"], special=bool(e["is_control"]), normalized=False) for e in listed]
    return named + [AddedToken(f"<SPECIAL_{i}>", special=True, normalized=False) for i in range(len(named), count)]
