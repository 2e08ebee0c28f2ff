"""`vocab.json` and `merges.txt` of byte-level tokenizers as a tokenizer.json that gives the same ids.

Neither file says how text is normalized and split before; that belongs to the class that tokenizer_config.json names,
and is stated here for those that the supported families' models have. Other classes' files are refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.foreign import refuse_stand_in

VOCAB_NAME, MERGES_NAME = "vocab.json", "merges.txt"
END_OF_TEXT = "<|endoftext|>"  # what these classes take for every role that the config leaves open
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# Letters with one character before them, digits one by one, signs with the line ends behind them, blanks.
_QWEN_PATTERN = "|".join(
    [
        _CONTRACTIONS,
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


@dataclass(frozen=True)
class _Way:
    """What a class does before bytes are joined: Unicode's canonical composition, and how it splits text."""

    composes: bool
    pattern: str | None  # None: GPT-2's, which `tokenizers` has built in


_WAYS = {
    "Qwen2Tokenizer": _Way(True, _QWEN_PATTERN),
    "GPT2Tokenizer": _Way(False, None),
    "GPTNeoXTokenizer": _Way(True, None),
}


def convert_byte_level(folder: Path, config: Mapping[str, Any], named: Mapping[int, AddedToken]) -> Tokenizer:
    """The tokenizer of the two files; `config` is tokenizer_config.json, `named` are added tokens by id.

    MoedgeError if the config names no class whose way of splitting is known, or if the files are broken.
    """
    name = config.get("tokenizer_class")
    way = _WAYS.get(name.removesuffix("Fast")) if isinstance(name, str) else None
    if way is None:
        raise MoedgeError(
            f"{folder / VOCAB_NAME} is read by {name or 'no class that tokenizer_config.json names'}, whose way of "
            f"splitting text moedge does not know (it knows {', '.join(_WAYS)}): add a tokenizer.json to the "
            "checkpoint, or its tokenizer_config.json."
        )
    try:
        model = models.BPE(vocab=_read_vocab(folder / VOCAB_NAME), merges=_read_merges(folder / MERGES_NAME))
    except MoedgeError:
        raise
    except Exception as error:  # the library raises plain Exception: a merge of what is no token
        raise MoedgeError(
            f"{folder / MERGES_NAME} and {VOCAB_NAME} do not belong together ({error}): download them again."
        ) from None
    tokenizer = Tokenizer(model)
    prefix = bool(config.get("add_prefix_space"))
    if way.composes:
        tokenizer.normalizer = normalizers.NFC()
    if way.pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(way.pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([token for _, token in sorted(named.items())])
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False)])
    return tokenizer


def _read_vocab(path: Path) -> dict[str, int]:
    """Tokens and their ids; every byte has one, since `tokenizers` drops what has none without a word."""
    try:
        vocab = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f"{path} is not valid JSON ({error}): download it again.") from None
    if not isinstance(vocab, dict) or not all(type(i) is int and 0 <= i < 1 << 31 for i in vocab.values()):
        raise MoedgeError(f"{path} does not hold tokens and their ids: download it again.")
    if len(set(vocab.values())) != len(vocab):
        raise MoedgeError(f"{path} gives two tokens the same id: download it again.")
    missing = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - vocab.keys())
    if missing:
        raise MoedgeError(
            f"{path} lacks tokens for {len(missing)} of the 256 bytes, so it is no byte-level vocabulary: "
            "download it again, or add a tokenizer.json to the checkpoint."
        )
    return vocab


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """The merges in their order: a line is two tokens and a blank between them."""
    refuse_stand_in(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise MoedgeError(f"{path.parent} has {VOCAB_NAME} but no {MERGES_NAME}: it is incomplete.") from None
    except ValueError:
        raise MoedgeError(f"{path} is not text: download it again.") from None
    merges = []
    for number, line in enumerate(lines, 1):
        parts = line.rstrip("\r").split(" ")
        if line.strip() == "" or (number == 1 and line.startswith("#version")):
            continue
        if len(parts) != 2 or not all(parts):
            raise MoedgeError(f"line {number} of {path} is not a merge of two tokens: download it again.")
        merges.append((parts[0], parts[1]))
    return merges
