"""What a bundle needs to talk: tokenizer, chat template, generation defaults, taken from the checkpoint and checked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.foreign import refuse_stand_in
from moedge.export.tokenizer.chat_signs import detect
from moedge.export.tokenizer.reading import TOKENIZER_CONFIG_NAME, find_named_token, read_tokenizer
from moedge.export.tokenizer.template_choice import ChosenTemplate, choose_template, refuse_broken, suggest_template
from moedge.runtime.manifest import GENERATION_NAME, SAMPLING, TEMPLATE_NAME, TOKENIZER_NAME, ChatFormat


@dataclass(frozen=True)
class Talking:
    """The small files of a bundle, as text, and what the manifest says of them."""

    tokenizer: str
    chat_template: str | None
    generation_config: dict[str, Any]
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    chat_format: ChatFormat
    chosen_template: str | None  # None: the checkpoint's own; otherwise see `ChosenTemplate.name`
    notes: tuple[str, ...]  # for whoever exports

    def write(self, folder: Path) -> None:
        """Put the files into a bundle's folder."""
        (folder / TOKENIZER_NAME).write_text(self.tokenizer, encoding="utf-8")
        if self.chat_template is not None:
            (folder / TEMPLATE_NAME).write_text(self.chat_template, encoding="utf-8")
        text = json.dumps(self.generation_config, indent=1, ensure_ascii=False)
        (folder / GENERATION_NAME).write_text(text + "\n", encoding="utf-8")


def read_talking(checkpoint: Checkpoint, chat_template: str | None = None) -> Talking:
    """Read and check what the checkpoint brings; MoedgeError if the tokenizer or the end of text is missing.

    `chat_template` is the choice of another template than the checkpoint's, see `choose_template`.
    """
    text = read_tokenizer(checkpoint.folder)
    tokenizer = Tokenizer.from_str(text)
    generation = mend_sampling(_optional_json(checkpoint, GENERATION_NAME))
    eos = _role(checkpoint, generation, tokenizer, "eos_token")
    eos_ids = tuple(eos) if isinstance(eos, list) else (eos,)
    if not eos_ids or not all(type(i) is int for i in eos_ids):
        raise MoedgeError(
            f"{checkpoint.folder} names no eos_token_id, so no answer would end: add it to {GENERATION_NAME}."
        )
    bos = _role(checkpoint, generation, tokenizer, "bos_token")
    own = _template(checkpoint)
    chosen = None if chat_template is None else choose_template(chat_template, tokenizer)
    template = own if chosen is None else chosen.source
    return Talking(
        tokenizer=text,
        chat_template=template,
        generation_config=generation,
        eos_token_ids=eos_ids,
        bos_token_id=bos if isinstance(bos, int) else None,
        chat_format=detect(tokenizer, template),
        chosen_template=None if chosen is None else chosen.name,
        notes=_notes(own, chosen, tokenizer),
    )


def mend_sampling(generation_config: dict[str, Any]) -> dict[str, Any]:
    """The config with sampling values as the runtime takes them; MoedgeError for one that it would refuse.

    Only what has the same meaning in another spelling is mended: top_k -1 is vLLM's 0, off, and 50.0 is 50. To leave
    out the rest would sample otherwise than the makers meant, and nobody would notice.
    """
    mended = dict(generation_config)
    for name, bounds in SAMPLING.items():
        value = mended.get(name)
        if value is None:
            continue
        if bounds.whole and isinstance(value, float) and value.is_integer():
            value = int(value)
        mended[name] = value = 0 if name == "top_k" and value == -1 else value
        if not bounds.holds(value):
            raise MoedgeError(
                f"{name} of {GENERATION_NAME} is {value!r:.40}, which is no number to sample by (it must be {bounds}): "
                "correct it."
            )
    return mended


def _role(checkpoint: Checkpoint, generation: dict[str, Any], tokenizer: Tokenizer, role: str) -> Any:
    """The id, or ids, of a token by its role, from the first that names it: generation, config, tokenizer_config."""
    nested = checkpoint.config.get("text_config")
    for source in (generation, checkpoint.config, nested if isinstance(nested, dict) else {}):
        found = source.get(f"{role}_id")
        if found is not None:
            return found
    spelled = find_named_token(checkpoint.folder, role)
    return None if spelled is None else tokenizer.token_to_id(spelled)


def _optional_json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    return checkpoint.read_json(name) if (checkpoint.folder / name).exists() else {}


def _template(checkpoint: Checkpoint) -> str | None:
    """The template file, or the `chat_template` key of tokenizer_config.json where older checkpoints keep it."""
    path = checkpoint.folder / TEMPLATE_NAME
    template: Any = None
    if path.exists():
        refuse_stand_in(path)
        try:
            template = path.read_text(encoding="utf-8-sig")
        except ValueError as error:
            raise MoedgeError(f"{path} is not text in UTF-8 ({error}): download it again.") from None
    else:
        path = checkpoint.folder / TOKENIZER_CONFIG_NAME
        template = _optional_json(checkpoint, TOKENIZER_CONFIG_NAME).get("chat_template")
        if isinstance(template, list):  # several, by name
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
            if "default" not in named:
                raise MoedgeError(
                    f"{path} has no chat template called default: write the one to use into {TEMPLATE_NAME} beside it."
                )
            template = named["default"]
    if not isinstance(template, str):
        return None
    refuse_broken(template, path)
    return template


def _notes(own: str | None, chosen: ChosenTemplate | None, tokenizer: Tokenizer) -> tuple[str, ...]:
    name = suggest_template(own, tokenizer) if own is not None and chosen is None else None
    if name is None:
        return ()
    return (f"the checkpoint's chat template shows the model no tools, --chat-template {name} does.",)
