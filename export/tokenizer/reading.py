"""The tokenizer.json of a bundle, from whichever tokenizer files a checkpoint has. No code of the checkpoint is run.

Here are the order of the files and the added tokens that lie beside them; each foreign format is read next door.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.foreign import refuse_stand_in
from moedge.export.checkpoint.side_config import read_object
from moedge.export.tokenizer.byte_level import END_OF_TEXT, MERGES_NAME, VOCAB_NAME, convert_byte_level
from moedge.runtime.manifest import TOKENIZER_NAME

TIKTOKEN_NAME = "tiktoken.model"
SENTENCEPIECE_NAME = "tokenizer.model"
TEKKEN_NAME = "tekken.json"
# in the order in which they are looked for
_FILES = (TOKENIZER_NAME, TIKTOKEN_NAME, SENTENCEPIECE_NAME, TEKKEN_NAME, VOCAB_NAME)
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
_ADDED_NAME = "added_tokens.json"
_SPECIAL_NAME = "special_tokens_map.json"


def read_tokenizer(folder: Path) -> str:
    """The text of a tokenizer.json: the checkpoint's own, or converted from the files of another format.

    Tokens that only tokenizer_config.json or added_tokens.json names are added. MoedgeError if there is no tokenizer,
    if it is broken or cannot be converted exactly, and if these files contradict each other.
    """
    config = _read_object(folder / TOKENIZER_CONFIG_NAME)
    named = _named_tokens(folder, config)
    for file in _FILES:
        if (folder / file).exists():
            refuse_stand_in(folder / file)
            break
    if (folder / TOKENIZER_NAME).exists():
        return _own(folder / TOKENIZER_NAME, named)
    # Imported here: the formats' libraries are only needed where a checkpoint has no tokenizer.json.
    if (folder / TIKTOKEN_NAME).exists():
        from moedge.export.tokenizer.tiktoken import convert_tiktoken

        tokenizer = convert_tiktoken(folder / TIKTOKEN_NAME, config, named)
    elif (folder / SENTENCEPIECE_NAME).exists():
        tokenizer = _sentencepiece(folder, config, named)
    elif (folder / TEKKEN_NAME).exists():
        from moedge.export.tokenizer.tekken import convert_tekken

        tokenizer = convert_tekken(folder / TEKKEN_NAME)
        tokenizer = _finish(tokenizer, folder, config, named, _Ends("<s>", "</s>", begins=True))
    elif (folder / VOCAB_NAME).exists():
        tokenizer = _byte_level(folder, config, named)
    else:
        raise MoedgeError(
            f"{folder} has no {TOKENIZER_NAME}, {TIKTOKEN_NAME}, {SENTENCEPIECE_NAME}, {TEKKEN_NAME} or "
            f"{VOCAB_NAME} with {MERGES_NAME}: add the model's tokenizer to the checkpoint."
        )
    return str(tokenizer.to_str())


def find_named_token(folder: Path, name: str) -> str | None:
    """The spelling of a token by its role (`eos_token`), from tokenizer_config.json or special_tokens_map.json."""
    for file in (TOKENIZER_CONFIG_NAME, _SPECIAL_NAME):
        spelled = _content(_read_object(folder / file).get(name))
        if spelled is not None:
            return spelled
    return None


def _own(path: Path, named: Mapping[int, AddedToken]) -> str:
    """The checkpoint's tokenizer.json, as it is unless a token is missing."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise MoedgeError(f"{path} is not a tokenizer that can be read ({error}): download it again.") from None
    there = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = [token for _, token in sorted(named.items()) if token.content not in there]
    if missing:
        tokenizer.add_tokens(missing)
        text = str(tokenizer.to_str())
    _check_ids(tokenizer, named, path.parent)
    return text


@dataclass(frozen=True)
class _Ends:
    """How a class spells both ends of a text where the config does not, and whether it begins one unasked."""

    bos: str
    eos: str
    begins: bool


def _sentencepiece(folder: Path, config: Mapping[str, Any], named: Mapping[int, AddedToken]) -> Tokenizer:
    """A converted tokenizer.model."""
    from moedge.export.tokenizer.sentencepiece import convert_sentencepiece

    tokenizer = convert_sentencepiece(folder / SENTENCEPIECE_NAME, config, named)
    # Llama's class, which its relatives name too, begins a text unless told otherwise
    begins = str(config.get("tokenizer_class")).startswith("LlamaTokenizer")
    return _finish(tokenizer, folder, config, named, _Ends("<s>", "</s>", begins))


def _byte_level(folder: Path, config: Mapping[str, Any], named: Mapping[int, AddedToken]) -> Tokenizer:
    """Converted vocab.json and merges.txt."""
    tokenizer = convert_byte_level(folder, config, named)
    return _finish(tokenizer, folder, config, named, _Ends(END_OF_TEXT, END_OF_TEXT, False))


def _finish(
    tokenizer: Tokenizer, folder: Path, config: Mapping[str, Any], named: Mapping[int, AddedToken], ends: _Ends
) -> Tokenizer:
    """The same tokenizer with every role's token special, and with the ends of text that the config asks for."""
    _check_ids(tokenizer, named, folder)
    done = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    # A role may be given to a spelling that has no id, which the model then never sees: that one is left out.
    more = [t for t in sorted(_special_spellings(folder, config) - done) if tokenizer.token_to_id(t) is not None]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in more])
    begins = config.get("add_bos_token")
    single, around = ["$A"], []
    for wanted, role, default in (
        (ends.begins if begins is None else begins, "bos_token", ends.bos),
        (config.get("add_eos_token"), "eos_token", ends.eos),
    ):
        if not wanted:
            continue
        spelled = find_named_token(folder, role) or default
        token_id = tokenizer.token_to_id(spelled)
        if token_id is None:
            raise MoedgeError(
                f"{TOKENIZER_CONFIG_NAME} adds the {role} {spelled!r}, which the tokenizer lacks: correct it."
            )
        around.append((spelled, token_id))
        single = [spelled, *single] if role == "bos_token" else [*single, spelled]
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=around)
    return tokenizer


def _named_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Added tokens by id: added_tokens.json of older checkpoints, and the config's `added_tokens_decoder` over it."""
    special = _special_spellings(folder, config)
    found: dict[int, AddedToken] = {}
    for content, token_id in _read_object(folder / _ADDED_NAME).items():
        if type(token_id) is not int:
            raise MoedgeError(f"{folder / _ADDED_NAME} gives {content!r} no whole number as id: download it again.")
        found[token_id] = AddedToken(content, special=content in special, normalized=False)
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise MoedgeError(f"added_tokens_decoder of {folder / TOKENIZER_CONFIG_NAME} is no object: correct it.")
    for key, entry in decoder.items():
        if not key.isdecimal() or len(key) > 9 or not isinstance(entry, dict) or _content(entry) is None:
            raise MoedgeError(
                f"added_tokens_decoder of {folder / TOKENIZER_CONFIG_NAME} has a broken entry {key[:20]}: correct it."
            )
        flags = {
            flag: bool(entry.get(flag, False)) for flag in ("lstrip", "rstrip", "single_word", "normalized", "special")
        }
        found[int(key)] = AddedToken(entry["content"], **flags)
    return found


def _special_spellings(folder: Path, config: Mapping[str, Any]) -> set[str]:
    """Every spelling to which the config or special_tokens_map.json gives a role."""
    found = set()
    for source in (config, _read_object(folder / _SPECIAL_NAME)):
        for key, value in source.items():
            if key.endswith("_token"):
                found.add(_content(value))
        more = source.get("additional_special_tokens")
        found.update(map(_content, more if isinstance(more, list) else []))
    return {spelled for spelled in found if spelled}


def _check_ids(tokenizer: Tokenizer, named: Mapping[int, AddedToken], folder: Path) -> None:
    """Raise MoedgeError unless every named token has its id; the library numbers new ones by itself."""
    for token_id, token in named.items():
        found = tokenizer.token_to_id(token.content)
        if found != token_id:
            raise MoedgeError(
                f"{folder / TOKENIZER_CONFIG_NAME} or {_ADDED_NAME} gives {token.content!r} the id {token_id}, the "
                f"tokenizer gives it {found}: they do not belong together."
            )


def _content(value: Any) -> str | None:
    """A token's spelling: plain, or the `content` of an object."""
    spelled = value.get("content") if isinstance(value, dict) else value
    if not isinstance(spelled, str) or not spelled:
        return None
    try:
        spelled.encode()
    except UnicodeEncodeError:
        raise MoedgeError(f"the token {spelled!r} is half of a surrogate pair: download the tokenizer again.") from None
    return spelled


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing."""
    return read_object(path.parent, path.name) if path.exists() else {}
