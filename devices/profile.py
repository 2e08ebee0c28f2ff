"""Profiles: what moedge assumes about a device and how it runs there, read from TOML and completed by detection.

A file states what is known whatever the machine, each value with its source; what it leaves out is a fact of the
machine at hand and is filled in from there. Detection itself is in detect.py.
"""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from moedge.devices.detect import Machine, detect
from moedge.devices.errors import MoedgeError
from moedge.devices.structure import structure

FOLDER = Path(__file__).parent / "profiles"
MOST_AWAKE_US = 10_000  # what waits longer than a step would be awake between requests
GENERIC = {"x86_64": "generic-x86-64", "aarch64": "generic-aarch64"}  # what `auto` takes on an architecture

V = TypeVar("V")
CacheType = Literal["float32", "float16", "int8"]  # what numbers caches hold, where the runtime has the choice


@dataclass(frozen=True)
class Fact(Generic[V]):
    """A value and where it comes from: a data sheet, a measurement on that device, a choice with its reason."""

    value: V
    source: str


@dataclass(frozen=True)
class ProfileSpec:
    """A profile as its file states it; None is filled in from the machine at hand."""

    description: str
    architecture: str
    prefill_chunk: Fact[int]
    awake_us: Fact[int]
    cache_type: Fact[CacheType]
    isa: Fact[tuple[str, ...]] | None = None
    cores: Fact[int] | None = None
    memory_bytes: Fact[int] | None = None
    intra_op_threads: Fact[int] | None = None


@dataclass(frozen=True)
class Profile:
    """A complete profile: what the runtime is told about the device."""

    name: str
    description: str
    architecture: str  # "x86_64" or "aarch64"
    isa: tuple[str, ...]  # flags in the kernel's spelling
    cores: int  # physical, usable
    memory_bytes: int  # usable: the smaller of built in and the container's limit
    intra_op_threads: int
    prefill_chunk: int  # tokens of a prompt that are run at once
    awake_us: int  # that an idle thread of the kernels waits in a loop for the next operator, before it sleeps
    cache_type: CacheType  # of keys and values in the native plan
    sources: dict[str, str]  # field to where its value comes from


def profile_names() -> tuple[str, ...]:
    """The profiles that moedge brings along; `auto` is not among them."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_profile(name_or_path: str, machine: Machine | None = None) -> Profile:
    """The profile "auto", one by name, or one from a path to a .toml; completed from `machine` (default: this one).

    Raises MoedgeError for an unknown name, a file that does not fit, or facts left out on another architecture.
    """
    machine = machine or detect()
    if name_or_path == "auto":
        return resolve(*read_spec(_generic(machine)), machine)
    return resolve(*read_spec(name_or_path), machine)


def read_spec(name_or_path: str) -> tuple[str, ProfileSpec]:
    """Name and content of a profile's file, not yet completed."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in profile_names():
            raise MoedgeError(_unknown(name_or_path))
        path = FOLDER / f"{name_or_path}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MoedgeError(f"Device profile {path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise MoedgeError(f"Device profile {path} is not TOML: {error}.") from None
    spec = structure(data, ProfileSpec, f"Device profile {path}")
    _check(spec, path)
    return path.stem, spec


def resolve(name: str, spec: ProfileSpec, machine: Machine) -> Profile:
    """Fill in from `machine` what `spec` leaves out; raise MoedgeError if that machine is of another architecture."""
    left_out = [field for field in ("isa", "cores", "memory_bytes") if getattr(spec, field) is None]
    if left_out and spec.architecture != machine.architecture:
        raise MoedgeError(
            f"Device profile {name} is for {spec.architecture} and leaves out {', '.join(left_out)}, which cannot be "
            f"read from this {machine.architecture} machine: choose another profile, or `auto`."
        )
    isa = spec.isa or Fact(machine.isa, "detected")
    cores = spec.cores or Fact(machine.cores, "detected")
    memory = spec.memory_bytes or Fact(machine.usable_memory_bytes, "detected")
    threads = spec.intra_op_threads or (
        Fact(cores.value, "one a core") if spec.cores else Fact(machine.fast_cores, "one a fast core, detected")
    )
    return Profile(
        name=name,
        description=spec.description,
        architecture=spec.architecture,
        isa=isa.value,
        cores=cores.value,
        memory_bytes=memory.value,
        intra_op_threads=threads.value,
        prefill_chunk=spec.prefill_chunk.value,
        awake_us=spec.awake_us.value,
        cache_type=spec.cache_type.value,
        sources={
            "isa": isa.source,
            "cores": cores.source,
            "memory_bytes": memory.source,
            "intra_op_threads": threads.source,
            "prefill_chunk": spec.prefill_chunk.source,
            "awake_us": spec.awake_us.source,
            "cache_type": spec.cache_type.source,
        },
    )


def _generic(machine: Machine) -> str:
    if machine.architecture not in GENERIC:
        raise MoedgeError(
            f"moedge has no device profile for {machine.architecture or 'this machine'}: "
            "write one (CONTRIBUTING.md) and pass its path with --profile."
        )
    return GENERIC[machine.architecture]


def _unknown(name: str) -> str:
    names = ("auto", *profile_names())
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(names)}, or a path to a .toml."
    return f"There is no device profile {name!r}: {hint}"


def _check(spec: ProfileSpec, path: Path) -> None:
    counts = ("cores", "memory_bytes", "intra_op_threads", "prefill_chunk")
    for name in (*counts, "awake_us", "cache_type", "isa"):
        fact = getattr(spec, name)
        if fact is not None and not fact.source.strip():
            raise MoedgeError(f"Device profile {path}: {name} has no source: say where the value comes from.")
        if fact is not None and name in counts and fact.value < 1:
            raise MoedgeError(f"Device profile {path}: {name} is {fact.value}: it must be 1 or more.")
    if not 0 <= spec.awake_us.value <= MOST_AWAKE_US:
        wrong = spec.awake_us.value
        raise MoedgeError(f"Device profile {path}: awake_us is {wrong}: it must be from 0 to {MOST_AWAKE_US}.")
