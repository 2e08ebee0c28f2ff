"""The file of --config: TOML whose keys are the options of `moedge serve`, and a [[models]] table a bundle.

What is wrong in it is said by file, line and key before anything is served. How a flag, the environment, the file and
a default rank is click's: the file's values are its `default_map`.
"""

import difflib
import json
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from moedge.devices.errors import MoedgeError
from moedge.edge_server.configuration.option_kinds import OptionKind, read_kinds
from moedge.edge_server.models.model_settings import SAMPLING_DEFAULTS

LONGEST_FILE = 1 << 20  # bytes
NOT_IN_A_FILE = ("bundles", "config", "print_config", "help")
PER_MODEL = (
    *("device", "max_running", "max_queued"),
    *("reasoning_effort", "chat_template_kwargs", "prompt_lookup_num_tokens"),
)


@dataclass(frozen=True)
class ModelTable:
    """One [[models]] table: a bundle, its names, and what holds for it instead of what holds for all.

    `options` are those of `moedge serve` named in PER_MODEL, `sampling` numbers by the names of requests.
    """

    path: str
    name: str | None = None
    aliases: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """A file that was read: values of options by their names, and tables of models, `folder` what paths start from."""

    options: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[ModelTable, ...] = ()
    folder: Path = Path()


def configure(context: typer.Context, path: Path | None, hints: Mapping[str, Any]) -> Path | None:
    """For the callback of --config: what the file says takes the place of defaults. MoedgeError if it does not fit.

    `hints` are the annotations of the verb's function, by the names of its options.
    """
    if path is not None:
        found = read_configuration(path, read_kinds(hints))
        context.default_map = {**(context.default_map or {}), **found.options}
        context.meta[__name__] = found
    return path


def configuration_of(context: typer.Context) -> Configuration:
    """What `configure` has read; empty without a file."""
    found: Configuration = context.meta.get(__name__, Configuration())
    return found


def read_configuration(path: Path, kinds: Mapping[str, OptionKind]) -> Configuration:
    """The file, held against these options; MoedgeError names what does not fit."""
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f"{path} is not TOML: {error}.") from None
    place = _Place(path, text)
    tables = data.pop("models", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise place.bad("models", "is written as [[models]], once a model")
    options = {name: kind for name, kind in kinds.items() if name not in NOT_IN_A_FILE}
    values = dict[str, Any]()
    for key, value in data.items():
        if key not in options:
            raise place.unknown(key, value, (*options, "models"))
        values[key] = _value(place, key, value, options[key])
    if values.get("api_key") and path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise MoedgeError(
            f"{path} holds an API key and everybody on this machine can read it: `chmod o= {path}`, "
            "or keep the key elsewhere (--api-key-file)."
        )
    models = tuple(_model(place, number, table, options) for number, table in enumerate(tables, 1))
    return Configuration(values, models, path.parent)


@dataclass(frozen=True)
class _Place:
    """Where in the file something is wrong."""

    path: Path
    text: str

    def bad(self, key: str, reason: str, after: int = 0) -> MoedgeError:
        """The sentence for a key, looked for from that character on."""
        found = re.compile(rf"""^\s*\[*\s*["']?{re.escape(key)}["']?\s*[].=]""", re.MULTILINE).search(self.text, after)
        line = "" if found is None else f" line {self.text.count(chr(10), 0, found.end()) + 1}"
        return MoedgeError(f"{self.path}{line}: {key} {reason}.")

    def unknown(self, key: str, value: object, names: Iterable[str], after: int = 0) -> MoedgeError:
        """That for a key that is none."""
        names = sorted(names)
        close = difflib.get_close_matches(key.replace("-", "_"), names, n=1)
        hint = f"did you mean {close[0]}" if close else f"there are {', '.join(names)}"
        return self.bad(key, f"is no {'section' if isinstance(value, dict) else 'option'} of it: {hint}", after)

    def table(self, number: int) -> int:
        """Where the [[models]] table of that number begins."""
        found = list(re.finditer(r"^\s*\[\[\s*models\s*\]\]", self.text, re.MULTILINE))
        return found[number - 1].start() if number <= len(found) else 0


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise MoedgeError(f"the configuration {path} cannot be read ({error.strerror}): see --config.") from None
    if len(data) > LONGEST_FILE:
        raise MoedgeError(f"the configuration {path} has more than {LONGEST_FILE} bytes: is it the right file?")
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise MoedgeError(f"{path} is not TOML: it is not UTF-8.") from None


def _value(place: _Place, key: str, value: Any, kind: OptionKind, begins: int = 0) -> Any:
    """A value as the option takes it; paths start where the file lies."""
    if key == "chat_template_kwargs" and isinstance(value, dict):
        value = _as_json(place, key, value, begins)
    if problem := kind.problem(value):
        raise place.bad(key, f"is {value!r}: write {problem}", begins)
    return str(place.path.parent / Path(value).expanduser()) if kind.of is Path else value


def _model(place: _Place, number: int, data: Mapping[str, Any], options: Mapping[str, OptionKind]) -> ModelTable:
    begins = place.table(number)
    names = ("path", "name", "aliases", *PER_MODEL, *SAMPLING_DEFAULTS)
    for key, value in data.items():
        if key not in names:
            raise place.unknown(key, value, names, begins)
    if not data.get("path"):
        raise place.bad("models", f"number {number} has no path: say where its bundle lies", begins)
    for key in ("path", "name"):
        if not isinstance(data.get(key, ""), str):
            raise place.bad(key, f"is {data[key]!r}: write a text in quotes", begins)
    aliases = data.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise place.bad("aliases", f"is {aliases!r}: write a list, [...], each a text in quotes", begins)
    said = {key: _value(place, key, data[key], options[key], begins) for key in PER_MODEL if key in data}
    sampling = {key: _number(place, key, data[key], begins) for key in SAMPLING_DEFAULTS if key in data}
    return ModelTable(data["path"], data.get("name"), tuple(aliases), said, sampling)


def _number(place: _Place, key: str, value: Any, begins: int) -> float:
    from moedge.edge_server.sampling_fields import BOUNDS  # it brings numpy, and most files have no such key

    bounds = BOUNDS[key]
    if not bounds.holds(value):
        raise place.bad(key, f"is {value!r}: it must be {bounds}", begins)
    number: float = value
    return number


def _as_json(place: _Place, key: str, value: Mapping[str, Any], begins: int) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        raise place.bad(key, "holds a date or a time, which JSON has not: write it as a text", begins) from None


def near_names(wanted: str, names: Sequence[str]) -> list[str]:
    """Which of the names may have been meant, if one is very like it."""
    return difflib.get_close_matches(wanted, names, n=1, cutoff=0.8)
