"""The three files of a run: the profile, JSON with everything, and the page; each whole or not at all."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.devices.structure import unstructure
from moedge.runtime.profiling.findings import Findings
from moedge.runtime.profiling.measured_profile import profile_text
from moedge.runtime.profiling.report_page import report_html


@dataclass(frozen=True)
class Places:
    """Where the files go."""

    profile: Path
    json: Path
    page: Path


def places_of(path: Path) -> Places:
    """Beside the profile; its folder is made. MoedgeError if it is no .toml, or cannot be written to."""
    if path.suffix != ".toml":
        raise MoedgeError(f"-o {path}: a profile is TOML: give a name that ends in .toml.")
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{path.name}.new"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise MoedgeError(f"-o {path}: {error.strerror or error}: name a file where you may write.") from None
    return Places(path, path.with_suffix(".json"), path.with_suffix(".html"))


def write_results(findings: Findings, places: Places) -> None:
    """All three."""
    write_whole(places.profile, profile_text(findings))
    write_whole(places.json, to_json(findings) + "\n")
    write_whole(places.page, report_html(findings))


def to_json(findings: Findings) -> str:
    """Everything that was found; what is no number is null."""
    return json.dumps(_plain(unstructure(findings)), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, text: str) -> None:
    """A file whose old content stays until the new one is complete."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
