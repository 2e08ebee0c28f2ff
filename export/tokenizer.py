"""A checkpoint's tokenizer as the text of a `tokenizer.json`, in whatever form it was published.

`tokenizer.json` is taken as it is; `tiktoken.model` and SentencePiece's `tokenizer.model` are converted, exactly.
Special tokens that only tokenizer_config.json or added_tokens.json name are added. No code of a checkpoint is run.
"""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.sentencepiece_model import SENTENCEPIECE_NAME, read_sentencepiece
from moedge.export.tiktoken_model import TIKTOKEN_NAME, read_tiktoken

TOKENIZER_NAME = "tokenizer.json"


def read_tokenizer(folder: Path, config: dict[str, Any], added: dict[str, Any]) -> tuple[Tokenizer, str]:
    """The tokenizer of a checkpoint folder and its JSON text, which is the file's own where nothing had to be added.

    `config` is tokenizer_config.json, `added` added_tokens.json, each empty where there is none.
    """
    if (folder / TOKENIZER_NAME).exists():
        tokenizer, text = _read_json(folder / TOKENIZER_NAME)
        return tokenizer, tokenizer.to_str() if _add(tokenizer, folder, config, added) else text
    if (folder / TIKTOKEN_NAME).exists():
        tokenizer = read_tiktoken(folder / TIKTOKEN_NAME, config)
    elif (folder / SENTENCEPIECE_NAME).exists():
        tokenizer = read_sentencepiece(folder / SENTENCEPIECE_NAME, config)
    else:
        raise MoedgeError(
            f"{folder} has no {TOKENIZER_NAME}, {TIKTOKEN_NAME} or {SENTENCEPIECE_NAME}: "
            "add the model's tokenizer to the checkpoint."
        )
    _add(tokenizer, folder, config, added)
    return tokenizer, tokenizer.to_str()


def _read_json(path: Path) -> tuple[Tokenizer, str]:
    try:
        text = path.read_text(encoding="utf-8")
        return Tokenizer.from_str(text), text
    except Exception as error:  # the library raises plain Exception
        raise MoedgeError(f"{path} is not a tokenizer that can be read ({error}): download it again.") from None


def _add(tokenizer: Tokenizer, folder: Path, config: dict[str, Any], added: dict[str, Any]) -> bool:
    """Add tokens that the tokenizer itself does not know, at the ids that the configuration says; whether any was."""
    wanted: dict[int, AddedToken] = {}
    try:
        for content, number in added.items():
            wanted[int(number)] = AddedToken(content, normalized=False, special=False)
        for number, token in (config.get("added_tokens_decoder") or {}).items():
            flags = {name: bool(token.get(name, False)) for name in ("lstrip", "rstrip", "normalized", "special")}
            wanted[int(number)] = AddedToken(token["content"], **flags)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise MoedgeError(
            f"the added tokens of {folder} are not a table of ids and tokens: download it again."
        ) from None
    changed = False
    for number, token in sorted(wanted.items(), key=lambda entry: entry[0]):
        if tokenizer.token_to_id(token.content) is None:
            tokenizer.add_tokens([token])
            changed = True
        found = tokenizer.token_to_id(token.content)
        if found != number:
            raise MoedgeError(
                f"{folder} says that {token.content!r} is token {number}, its tokenizer says {found}: they do not "
                "belong together."
            )
    return changed
