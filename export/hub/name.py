"""How a model on the hub is written: `hf://org/name[@revision]`. It reads the name and asks nobody about it."""

import re
from dataclasses import dataclass
from pathlib import Path

from moedge.devices.errors import MoedgeError

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_]|[.-](?=[A-Za-z0-9_]))*"
_NAME = re.compile(rf"hf://(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9_][A-Za-z0-9_./-]*))?")


@dataclass(frozen=True)
class HubName:
    """A model on the hub; `revision` is a branch, a tag or a commit, None the main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def parse_name(text: str) -> HubName | None:
    """The model on the hub that is meant, or None for what is on this disk; MoedgeError for what is neither."""
    if Path(text).exists():
        return None
    match = _NAME.fullmatch(text)
    if match and ".." not in (match["revision"] or ""):
        return HubName(match["repo"], match["revision"])
    if re.match(r"hf:|https?://", text, re.IGNORECASE):
        raise MoedgeError(f"{text!r} names no model: write hf://org/name, or hf://org/name@revision.")
    if re.fullmatch(rf"{_PART}/{_PART}(?:@.*)?", text):
        raise MoedgeError(f"there is no folder {text}: for the model of that name on the hub, write hf://{text}.")
    return None
