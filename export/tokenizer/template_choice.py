"""Chat templates that are chosen at export in place of a checkpoint's own: those that moedge brings, or a file.

It owns what every chosen one must show; what moedge brings is brought.py's. A template is never taken from a request,
and how a bundle's is rendered to a model is the runtime's matter.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.brought import brought_templates, read_brought
from moedge.export.tokenizer.chat_signs import detect

_GENERATION = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")  # a tag for training that the runtime knows too
_TOKEN = re.compile(r"<｜[^｜\s]+｜>")
_SAID = "moedge asks"
_TOOL = {
    "type": "function",
    "function": {"name": "moedge_tool", "description": "", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True)
class ChosenTemplate:
    """A template, and what the bundle says of where it is from: a name of moedge's own, or a file's."""

    name: str
    source: str


def choose_template(choice: str, tokenizer: Tokenizer) -> ChosenTemplate:
    """The template of that name, or in that file.

    MoedgeError if there is none, if it is not Jinja, if it does not show a plain conversation, or the tools that it
    reads, and for one of ours if the model has not the tokens that it writes.
    """
    if choice in brought_templates():
        chosen = ChosenTemplate(choice, read_brought(choice))
        if missing := _missing_tokens(chosen.source, tokenizer):
            raise MoedgeError(
                f"the chat template {choice} writes {missing[0]}, which is no token of this model: choose another."
            )
    else:
        path = Path(choice)
        if not path.is_file():
            names = ", ".join(brought_templates())
            raise MoedgeError(f"{choice} is no file, and none of the chat templates that moedge brings: {names}.")
        chosen = ChosenTemplate(path.name, _read(path))
    refuse_broken(chosen.source, choice)
    _refuse_mute(chosen.source, choice)
    return chosen


def suggest_template(own: str, tokenizer: Tokenizer) -> str | None:
    """The name of a template that moedge brings and that shows tools in the form of calls that `own` shows.

    None if `own`, the checkpoint's, shows tools itself, or if none fits.
    """
    if "tools" in meta.find_undeclared_variables(_parse(own)):
        return None
    for name in brought_templates():
        source = read_brought(name)
        alike = detect(tokenizer, source) == detect(tokenizer, own) and ("<think>" in source) == ("<think>" in own)
        if alike and not _missing_tokens(source, tokenizer):
            return name
    return None


def refuse_broken(source: str, place: str | Path) -> None:
    """Raise MoedgeError for a template that is not Jinja; found by the runtime it would cost the whole export."""
    try:
        _parse(source)
    except TemplateError as error:
        raise MoedgeError(f"the chat template of {place} is not valid Jinja ({error}): correct it.") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise MoedgeError(f"{path} cannot be read as text in UTF-8 ({error}): choose another chat template.") from None


def _missing_tokens(source: str, tokenizer: Tokenizer) -> list[str]:
    return [token for token in _TOKEN.findall(source) if tokenizer.token_to_id(token) is None]


def _refuse_mute(source: str, place: str) -> None:
    conversation = [
        {"role": "user", "content": _SAID},
        {"role": "assistant", "content": "moedge answers"},
        {"role": "user", "content": _SAID},
    ]
    given = {"messages": conversation, "add_generation_prompt": True, "bos_token": "", "eos_token": ""}
    for tools in (None, [_TOOL]) if "tools" in meta.find_undeclared_variables(_parse(source)) else (None,):
        try:
            text = _environment().from_string(_GENERATION.sub("", source)).render(given, tools=tools)
        except Exception as error:  # whatever it raises is its answer
            said = f"the chat template {place} cannot render a plain conversation"
            raise MoedgeError(f"{said} ({error}): correct it.") from None
        if _SAID not in text or (tools and "moedge_tool" not in text):
            lost = "the tools that it reads" if _SAID in text else "what a user says"
            raise MoedgeError(f"the chat template {place} does not show the model {lost}: correct it.")


def _parse(source: str) -> Any:
    return _environment().parse(_GENERATION.sub("", source))


def render_conversation(template: str, chat: Mapping[str, Any]) -> str | None:
    """A whole conversation {"messages", "tools"} in a template, always with one date; None if it is refused."""
    environment = _environment()
    environment.globals["strftime_now"] = datetime(2026, 1, 1).strftime
    try:
        return environment.from_string(template).render(
            messages=chat["messages"], tools=chat.get("tools"), add_generation_prompt=False
        )
    except (TemplateError, TypeError, ValueError, LookupError):  # what templates do with what they do not expect
        return None


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["raise_exception"] = _refuse
    return environment


def _refuse(message: str) -> None:
    raise TemplateError(message)
