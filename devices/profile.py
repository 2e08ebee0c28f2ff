"""Profiles: what moedge assumes about a device and how it runs there, complete.

Files and what is refused in them are profile_file.py's, detection detect.py's, the choice of `auto` nearest.py's.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from moedge.devices.cores import Cluster
from moedge.devices.detect import Machine, detect
from moedge.devices.errors import MoedgeError
from moedge.devices.nearest import nearest
from moedge.devices.profile_file import (
    Affinity,
    CacheType,
    DevicePlan,
    Fact,
    ProfileSpec,
    profile_names,
    read_spec,
    user_folder,
)
from moedge.devices.rates import NARROW, Rates, estimate_rates

CORE_BYTES_PER_S = 14e9  # that one core reads at most: of a server's memory a machine of few cores has a part
RESERVED_BYTES = 300_000_000  # of memory that is not limited to this program, for the system


@dataclass(frozen=True)
class Profile:
    """A complete profile: what the runtime and the planner are told about the device."""

    name: str
    description: str
    architecture: str  # "x86_64" or "aarch64"
    clusters: tuple[Cluster, ...]  # the fastest first
    isa: tuple[str, ...]  # flags in the kernel's spelling
    cores: int  # physical, usable
    memory_bytes: int  # built in, or the container's limit
    memory_bytes_per_s: float  # that all cores read together
    storage_bytes_per_s: float
    prefill_threads: int
    decode_threads: int
    affinity: Affinity
    awake_us: int  # that an idle thread of the kernels waits in a loop for the next operator, before it sleeps
    scheme: str  # that `moedge export --device` takes
    accuracy_level: int  # of ONNX Runtime's MatMulNBits, likewise
    prefill_chunk: int  # tokens of a prompt that are run at once, at most
    prefill_chunk_ms: int  # and how long others may have to wait for them
    context: int  # tokens, likewise
    cache_type: CacheType  # of keys and values in the native plan
    memory_budget_bytes: int  # that moedge may take
    expert_plan: DevicePlan  # likewise
    rates: Rates
    sources: dict[str, str]  # field to where its value comes from

    @property
    def threads(self) -> int:
        """The most that work at once."""
        return max(self.prefill_threads, self.decode_threads)

    def with_threads(self, threads: int, source: str) -> "Profile":
        """The same for another number of threads."""
        said = self.sources | {"prefill_threads": source, "decode_threads": source}
        return replace(self, prefill_threads=threads, decode_threads=threads, sources=said)


def load_profile(name_or_path: str, machine: Machine | None = None) -> Profile:
    """The profile "auto", one by name, or one from a path to a .toml; completed from `machine` (default: this one).

    `auto` is the nearest one, held to what the machine has. Raises MoedgeError for an unknown name, a file that does
    not fit, or facts left out on another architecture.
    """
    machine = machine or detect()
    if name_or_path != "auto":
        return resolve(*read_spec(name_or_path), machine)
    own = frozenset(path.stem for path in user_folder().glob("*.toml"))
    chosen = nearest(machine, {name: read_spec(name)[1] for name in profile_names()}, own)
    if chosen is None:
        raise MoedgeError(
            f"moedge has no device profile for {machine.architecture or 'this machine'}: "
            "write one (CONTRIBUTING.md) and pass its path with --device."
        )
    name, spec = read_spec(chosen)
    return resolve(name, hold_to(spec, machine, name in own), machine)


def resolve(name: str, spec: ProfileSpec, machine: Machine) -> Profile:
    """Fill in from `machine` what `spec` leaves out; raise MoedgeError if that machine is of another architecture."""
    facts = ("clusters", "isa", "memory_bytes")
    left_out = [key for key in facts if key in spec.detected]
    if left_out and spec.architecture != machine.architecture:
        raise MoedgeError(
            f"Device profile {name} is for {spec.architecture} and leaves out {', '.join(left_out)}, which cannot be "
            f"read from this {machine.architecture} machine: choose another profile, or `auto`."
        )
    values, sources = dict[str, Any](), dict[str, str]()

    def settle(key: str, fact: Fact[Any] | None, otherwise: Any, source: str) -> Any:
        chosen = fact or Fact(otherwise, source)
        values[key], sources[key] = chosen.value, chosen.source
        return chosen.value

    hardware, settings = spec.hardware, spec.settings
    clusters = settle("clusters", hardware.clusters, machine.clusters, "detected")
    isa = settle("isa", hardware.isa, machine.isa, "detected")
    memory = settle("memory_bytes", hardware.memory_bytes, machine.usable_memory_bytes, "detected")
    stated = sum(cluster.count for cluster in clusters)
    cores = stated if hardware.clusters else machine.cores
    fast = _fast(clusters) if hardware.clusters else machine.fast_cores
    guess = "assumed: nothing tells before `moedge profile` has measured it"
    band = settle("memory_bytes_per_s", hardware.memory_bytes_per_s, min(cores, 2) * CORE_BYTES_PER_S / 2, guess)
    settle("storage_bytes_per_s", hardware.storage_bytes_per_s, 200e6, guess)
    kind = "one a fast core" if hardware.clusters else "one a fast core, detected"
    prefill = settle("prefill_threads", settings.prefill_threads, fast, kind)
    decode = settle("decode_threads", settings.decode_threads, fast, kind)
    settle("affinity", settings.affinity, "fast" if fast < cores else "all", "fast where cores differ")
    settle("memory_budget_bytes", settings.memory_budget_bytes, *_budget(memory, machine))
    for each in fields(settings):
        if each.name not in values:
            fact = getattr(settings, each.name)
            values[each.name], sources[each.name] = fact.value, fact.source
    estimated = estimate_rates(clusters, isa, band, prefill, decode)
    rates = {each.name: getattr(spec.rates, each.name) for each in fields(spec.rates)}
    for key, fact in rates.items():
        sources[key] = fact.source if fact else "estimated from the hardware, see docs/planning.md"
    measured = {key: fact.value for key, fact in rates.items() if fact}
    return Profile(
        name=name,
        description=spec.description,
        architecture=spec.architecture,
        cores=cores,
        rates=replace(estimated, **measured),
        sources=sources,
        **values,
    )


def hold_to(spec: ProfileSpec, machine: Machine, own: bool = False) -> ProfileSpec:
    """The nearest profile of a machine, with what the machine says of itself in the place of what is stated.

    What the user's `own` states of memory's bandwidth is believed.
    """
    hardware, settings = spec.hardware, spec.settings
    seen: dict[str, Any] = {"isa": Fact(machine.isa, "detected")}
    memory, limit = machine.usable_memory_bytes, machine.memory_limit_bytes
    seen["memory_bytes"] = Fact(memory, "detected" if limit is None else "detected, the container's limit")
    stated = hardware.clusters.value if hardware.clusters else ()
    told_clocks = any(cluster.mhz for cluster in machine.clusters)
    if machine.clusters and (told_clocks or sum(c.count for c in stated) != machine.cores):
        seen["clusters"] = Fact(_clocked(machine.clusters, stated), "detected")
    band = hardware.memory_bytes_per_s
    if band is not None and not own and machine.cores * CORE_BYTES_PER_S < band.value:
        what = f"{machine.cores} cores, {CORE_BYTES_PER_S / 1e9:g} GB/s each at most"
        seen["memory_bytes_per_s"] = Fact(machine.cores * CORE_BYTES_PER_S, what)
    told = dict[str, Fact[Any] | None]()
    for key in ("prefill_threads", "decode_threads"):
        fact = getattr(settings, key)
        most = machine.fast_cores if settings.affinity is None or settings.affinity.value == "fast" else machine.cores
        if fact is not None and fact.value > most:
            told[key] = Fact(
                most, "one a fast core, detected" if most == machine.fast_cores else "one a core, detected"
            )
    budget = settings.memory_budget_bytes
    if budget is not None and (limit is not None or budget.value > memory):
        told["memory_budget_bytes"] = Fact(*_budget(memory, machine))
    return replace(spec, hardware=replace(hardware, **seen), settings=replace(settings, **told))


def _budget(memory: int, machine: Machine) -> tuple[int, str]:
    """How much of the memory moedge may take, and why: of a container's own limit all."""
    if machine.memory_limit_bytes is not None:
        return memory, "all that the container's limit leaves"
    return max(memory - RESERVED_BYTES, memory // 2), "memory_bytes without what the system needs"


def _clocked(found: tuple[Cluster, ...], stated: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
    """Cores as found, with the clock of the profile where the machine does not tell one."""
    usual = stated[0].mhz if stated else 0
    clocks = {cluster.core: cluster.mhz for cluster in stated}
    return tuple(replace(each, mhz=each.mhz or clocks.get(each.core, usual)) for each in found)


def _fast(clusters: tuple[Cluster, ...]) -> int:
    """Cores that are not much slower than those of the first cluster."""
    wide = [c for c in clusters if 2 * c.mhz >= clusters[0].mhz and c.core not in NARROW]
    return sum(c.count for c in wide or clusters[:1])
