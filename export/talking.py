"""What a bundle needs to talk: tokenizer, chat template, generation defaults, taken from the checkpoint and checked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.chat_formats import detect
from moedge.export.checkpoint import Checkpoint
from moedge.export.tokenizer import TOKENIZER_NAME, read_tokenizer
from moedge.runtime.manifest import ChatFormat

TEMPLATE_NAME = "chat_template.jinja"
GENERATION_NAME = "generation_config.json"


@dataclass(frozen=True)
class Talking:
    """The small files of a bundle, as text, and what the manifest says of them."""

    tokenizer: str
    chat_template: str | None
    generation_config: dict[str, Any]
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    chat_format: ChatFormat

    def write(self, folder: Path) -> None:
        """Put the files into a bundle's folder."""
        (folder / TOKENIZER_NAME).write_text(self.tokenizer, encoding="utf-8")
        if self.chat_template is not None:
            (folder / TEMPLATE_NAME).write_text(self.chat_template, encoding="utf-8")
        text = json.dumps(self.generation_config, indent=1, ensure_ascii=False)
        (folder / GENERATION_NAME).write_text(text + "\n", encoding="utf-8")


def read_talking(checkpoint: Checkpoint) -> Talking:
    """Read and check what the checkpoint brings; MoedgeError if the tokenizer or the end of text is missing."""
    config = _optional_json(checkpoint, "tokenizer_config.json")
    tokenizer, text = read_tokenizer(checkpoint.folder, config, _optional_json(checkpoint, "added_tokens.json"))
    generation = _optional_json(checkpoint, GENERATION_NAME)
    eos = _token_ids("eos", generation, checkpoint, config, tokenizer)
    if not eos:
        raise MoedgeError(
            f"{checkpoint.folder} names no eos_token_id, so no answer would end: add it to {GENERATION_NAME}."
        )
    bos = _token_ids("bos", generation, checkpoint, config, tokenizer)
    template = _template(checkpoint, config)
    return Talking(
        tokenizer=text,
        chat_template=template,
        generation_config=generation,
        eos_token_ids=eos,
        bos_token_id=bos[0] if bos else None,
        chat_format=detect(tokenizer, template),
    )


def _token_ids(
    name: str, generation: dict[str, Any], checkpoint: Checkpoint, config: dict[str, Any], tokenizer: Tokenizer
) -> tuple[int, ...]:
    """Ids of the end (eos) or beginning (bos) of text: of the first file that states any, else of the token's text."""
    text = checkpoint.config.get("text_config") or {}
    for stated in (generation, checkpoint.config, text if isinstance(text, dict) else {}):
        value = stated.get(f"{name}_token_id")
        ids = tuple(value) if isinstance(value, list) else (value,)
        if value is not None and ids and all(type(i) is int for i in ids):
            return ids
    token = config.get(f"{name}_token")
    found = tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token) if token else None
    return () if found is None else (found,)


def _optional_json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    return checkpoint.read_json(name) if (checkpoint.folder / name).exists() else {}


def _template(checkpoint: Checkpoint, config: dict[str, Any]) -> str | None:
    """The template file, or the `chat_template` key of tokenizer_config.json where older checkpoints keep it."""
    path = checkpoint.folder / TEMPLATE_NAME
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((t.get("template") for t in template if t.get("name") == "default"), None)
    return template if isinstance(template, str) else None
