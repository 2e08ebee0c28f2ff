"""Which text a calibration runs: the mix that comes with moedge, or a file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.export.tokenizer.template_choice import render_conversation

_MIX = ("prose.txt", "code.txt")
_CHATS = "chat.jsonl"
_BETWEEN = "\n---\n"


@dataclass(frozen=True)
class CalibrationText:
    """Passages, and conversations that are written in the model's own template; `name` tells one text from another."""

    name: str
    passages: tuple[str, ...]
    conversations: tuple[dict[str, Any], ...] = ()

    @property
    def rounding(self) -> str:
        """What reports and a resumed export call a rounding by this text."""
        return f"gptq, calibrated by {self.name}"

    def render(self, chat_template: str | None) -> list[str]:
        """All of it as texts of their own, conversations as the template writes them."""
        return [*self.passages, *(_render(chat, chat_template) for chat in self.conversations)]


def _render(chat: Mapping[str, Any], template: str | None) -> str:
    """A conversation in a template; without one, or where it refuses this one, what was said line by line."""
    if template is not None and (text := render_conversation(template, chat)) is not None:
        return text
    return "\n\n".join(message["content"] for message in chat["messages"] if message.get("content"))


def read_text(path: Path) -> CalibrationText:
    """The text of a file; MoedgeError if it is no UTF-8."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise MoedgeError(f"{path} cannot be read ({error.strerror}): give a text file to calibrate by.") from None
    except UnicodeDecodeError as error:
        raise MoedgeError(f"{path} is not text in UTF-8 ({error}): convert it.") from None
    return CalibrationText(f"{path.name} {hashlib.sha256(data).hexdigest()[:12]}", (text,))


@cache
def built_in_mix() -> CalibrationText:
    """Prose in many languages, code, and conversations, of our own writing."""
    folder = files("moedge.export.calibration") / "mix"
    passages = [(folder / name).read_text(encoding="utf-8").split(_BETWEEN) for name in _MIX]
    lines = (folder / _CHATS).read_text(encoding="utf-8").splitlines()
    return CalibrationText(
        "mix", tuple(p for some in passages for p in some), tuple(json.loads(line) for line in lines)
    )
