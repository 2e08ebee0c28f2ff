"""Which text a calibration runs: the mix that comes with moedge, or a file; and the text that none of them sees."""

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


def built_in_mix() -> CalibrationText:
    """Prose in many languages, code, and conversations, of our own writing."""
    return _read_own("mix", "prose.txt", "code.txt")


def held_back() -> CalibrationText:
    """A few thousand tokens of the same kinds that no calibration has: what an export's outcome is judged by."""
    return _read_own("held", "passages.txt")


@cache
def _read_own(name: str, *passages: str) -> CalibrationText:
    folder = files("moedge.export.calibration") / name
    found = [(folder / each).read_text(encoding="utf-8").split(_BETWEEN) for each in passages]
    lines = (folder / _CHATS).read_text(encoding="utf-8").splitlines()
    return CalibrationText(name, tuple(p for some in found for p in some), tuple(json.loads(line) for line in lines))
