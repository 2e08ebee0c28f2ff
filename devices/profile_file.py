"""Profiles as files: TOML with a source beside every value, one that extends another, and what is refused in them.

A key is stated, or named in `detected` and read from the machine at hand; neither is an error. What a profile becomes
on a machine is profile.py's, which of them a machine takes nearest.py's.
"""

import difflib
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import typer

from moedge.devices.cores import Cluster
from moedge.devices.errors import MoedgeError
from moedge.devices.structure import structure

FOLDER = Path(__file__).parent / "profiles"
TABLES = ("match", "hardware", "settings", "rates")  # of which one that extends another states some keys anew
MOST_AWAKE_US = 10_000  # what waits longer than a step would be awake between requests
MOST_EXTENDED = 8  # one after the other

V = TypeVar("V")
CacheType = Literal["float32", "float16", "int8"]  # what numbers caches hold, where the runtime has the choice
DevicePlan = Literal["native", "fused", "if"]  # whose kernels run experts; what each is: docs/graph.md
Affinity = Literal["all", "fast"]  # any core, or only those of the fastest kind


@dataclass(frozen=True)
class Fact(Generic[V]):
    """A value and where it comes from: a data sheet, a measurement on that device, a choice with its reason."""

    value: V
    source: str


@dataclass(frozen=True)
class Match:
    """How `auto` knows the device: what of these is stated must be so, see nearest.py."""

    board: tuple[str, ...] = ()  # any of them is part of what firmware calls the board, to people or to drivers
    cores: tuple[str, ...] = ()  # any of them is what the CPU's name says, or of several kinds "one + another"
    isa: tuple[str, ...] = ()  # all of them
    system: str = ""  # "Darwin"


@dataclass(frozen=True)
class HardwareSpec:
    """What the device is; None is read from the machine at hand."""

    clusters: Fact[tuple[Cluster, ...]] | None = None
    isa: Fact[tuple[str, ...]] | None = None
    memory_bytes: Fact[int] | None = None
    memory_bytes_per_s: Fact[float] | None = None  # that cores read, all of them together
    storage_bytes_per_s: Fact[float] | None = None  # that is read in pieces of an expert


@dataclass(frozen=True)
class SettingsSpec:
    """How moedge runs there; None is chosen from the hardware."""

    prefill_threads: Fact[int] | None = None
    decode_threads: Fact[int] | None = None
    affinity: Fact[Affinity] | None = None
    awake_us: Fact[int] | None = None
    scheme: Fact[str] | None = None
    accuracy_level: Fact[int] | None = None
    prefill_chunk: Fact[int] | None = None
    prefill_chunk_ms: Fact[int] | None = None
    context: Fact[int] | None = None
    cache_type: Fact[CacheType] | None = None
    memory_budget_bytes: Fact[int] | None = None
    expert_plan: Fact[DevicePlan] | None = None


@dataclass(frozen=True)
class RatesSpec:
    """How fast moedge computes there, as `moedge profile` measures it; None is estimated from the hardware."""

    weights_bytes_per_s: Fact[float] | None = None
    prompt_macs_per_s: Fact[float] | None = None
    cache_bytes_per_s: Fact[float] | None = None
    attention_macs_per_s: Fact[float] | None = None
    prompt_attention_macs_per_s: Fact[float] | None = None
    layer_s: Fact[float] | None = None
    step_s: Fact[float] | None = None
    fused_weights_bytes_per_s: Fact[float] | None = None
    fused_prompt_macs_per_s: Fact[float] | None = None


@dataclass(frozen=True)
class ProfileSpec:
    """A profile as its file states it, with what it extends put in."""

    description: str
    architecture: str  # "x86_64" or "aarch64"
    hardware: HardwareSpec = field(default_factory=HardwareSpec)
    settings: SettingsSpec = field(default_factory=SettingsSpec)
    rates: RatesSpec = field(default_factory=RatesSpec)
    match: Match = field(default_factory=Match)
    detected: tuple[str, ...] = ()  # those of DETECTABLE that are read from the machine at hand


KEYS = tuple(f.name for table in (HardwareSpec, SettingsSpec) for f in fields(table))
# Of them those that a machine tells; the others are choices.
DETECTABLE = (
    *(each.name for each in fields(HardwareSpec)),
    *("prefill_threads", "decode_threads", "affinity", "memory_budget_bytes"),
)


def user_folder() -> Path:
    """Where a user's own profiles lie, one a file."""
    return Path(typer.get_app_dir("moedge")) / "profiles"


def profile_names() -> tuple[str, ...]:
    """The profiles that moedge brings along and the user's own; `auto` is not among them."""
    return tuple(sorted({path.stem for folder in (FOLDER, user_folder()) for path in folder.glob("*.toml")}))


def read_spec(name_or_path: str) -> tuple[str, ProfileSpec]:
    """Name and content of a profile's file; MoedgeError for a name that is none, or a file that does not fit."""
    path = _find(name_or_path, FOLDER)
    spec = structure(_read(path, ()), ProfileSpec, f"Device profile {path}")
    _check(spec, f"Device profile {path}")
    return path.stem, spec


def _find(name_or_path: str, beside: Path) -> Path:
    """The file that is meant; a path in another profile starts `beside` it."""
    if name_or_path.endswith(".toml"):
        return beside / name_or_path if beside != FOLDER else Path(name_or_path)
    for folder in (user_folder(), FOLDER):
        if name_or_path in {path.stem for path in folder.glob("*.toml")}:
            return folder / f"{name_or_path}.toml"
    names = ("auto", *profile_names())
    close = difflib.get_close_matches(name_or_path, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(names)}, or a path to a .toml."
    raise MoedgeError(f"There is no device profile {name_or_path!r}: {hint}")


def _read(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    """The plain data, upon that of what it extends."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MoedgeError(f"Device profile {path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f"Device profile {path} is not TOML: {error}.") from None
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise MoedgeError(f"Device profile {path}: extends is {parent!r}: name one profile.")
    before = (*before, path)
    # one of the user's own may have the name of the one it extends
    wanted = FOLDER / f"{parent}.toml" if parent == path.stem else _find(parent, path.parent)
    if wanted in before or len(before) > MOST_EXTENDED:
        raise MoedgeError(f"Device profile {path}: extends {parent}, which leads back to it or too far: name another.")
    return _merge(_read(wanted, before), data)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """What is not of the kind that it must be stays as it is, to be refused by name."""
    merged = below | above
    tables = [name for name in TABLES if all(isinstance(data.get(name, {}), dict) for data in (below, above))]
    for table in tables:
        lower, upper = below.get(table, {}), above.get(table, {})
        # what identifies the one identifies not the other, in part
        merged[table] = upper if table == "match" and upper else lower | upper
    own = above.get("detected", [])
    if isinstance(own, list):
        facts = [name for name in ("hardware", "settings") if name in tables]
        stated = {key for name in facts for key in above.get(name, {})}
        merged["detected"] = own + [key for key in below.get("detected", []) if key not in stated and key not in own]
        for table in facts:  # what is below is no longer stated where it is to be detected
            merged[table] = {key: fact for key, fact in merged[table].items() if key not in own or key in stated}
    return merged


def _check(spec: ProfileSpec, which: str) -> None:
    stated = {}
    for key in spec.detected:
        if key not in DETECTABLE:
            why = "no machine tells" if key in KEYS else "is no key"
            raise MoedgeError(f"{which}: `detected` names {key}, which {why}: leave it out.")
    for name, table in (("hardware", spec.hardware), ("settings", spec.settings), ("rates", spec.rates)):
        for each in fields(table):
            fact = getattr(table, each.name)
            if fact is not None:
                stated[each.name] = fact.value
                if not fact.source.strip():
                    raise MoedgeError(f"{which}: {name}.{each.name} has no source: say where the value comes from.")
            elif name != "rates" and each.name not in spec.detected:
                instead = ", or name it in `detected`" if each.name in DETECTABLE else ", or extend another profile"
                raise MoedgeError(f"{which}: {name}.{each.name} is missing: state it{instead}.")
    for key in spec.detected:
        if key in stated:
            raise MoedgeError(f"{which}: {key} is stated and named in `detected`: drop one of the two.")
    _check_values(stated, which)


def _check_values(stated: dict[str, Any], which: str) -> None:
    def refuse(key: str, rule: str) -> None:
        raise MoedgeError(f"{which}: {key} is {stated[key]}: it must be {rule}.")

    for key, value in stated.items():
        whole = type(value) is int and key not in ("awake_us", "accuracy_level")
        if whole and value < 1:
            refuse(key, "1 or more")
        if type(value) is float and not 0 < value < 1e18:
            refuse(key, "above 0")
    for cluster in stated.get("clusters", ()):
        if cluster.count < 1 or cluster.mhz < 0:
            raise MoedgeError(f"{which}: clusters has {cluster.count} cores of {cluster.mhz} MHz: count what is there.")
    if "clusters" in stated and not stated["clusters"]:
        refuse("clusters", "one cluster or more")
    if not 0 <= stated.get("awake_us", 0) <= MOST_AWAKE_US:
        refuse("awake_us", f"from 0 to {MOST_AWAKE_US}")
    if stated.get("accuracy_level", 0) not in range(5):
        refuse("accuracy_level", "from 0 to 4")
    cores = sum(cluster.count for cluster in stated.get("clusters", ()))
    for key in ("prefill_threads", "decode_threads"):
        if cores and stated.get(key, 1) > cores:
            refuse(key, f"{cores} at most, the cores of its clusters")
    memory = stated.get("memory_bytes")
    if memory and stated.get("memory_budget_bytes", 1) > memory:
        refuse("memory_budget_bytes", f"{memory} at most, its memory_bytes")
