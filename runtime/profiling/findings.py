"""All that one run of `moedge profile` found, as data: the same for the profile, for JSON and for the page."""

from dataclasses import dataclass
from typing import Any

from moedge.devices.detect import Machine
from moedge.devices.profile import Profile
from moedge.runtime.profiling.attention_rates import AttentionRates
from moedge.runtime.profiling.choosing_settings import NeighbourTime
from moedge.runtime.profiling.energy import Energy
from moedge.runtime.profiling.expert_usage import ExpertUsage
from moedge.runtime.profiling.heat import HeatMoment
from moedge.runtime.profiling.layer_rates import LayerRates
from moedge.runtime.profiling.model_rates import ModelRates
from moedge.runtime.profiling.operator_times import OperatorTimes
from moedge.runtime.profiling.setting_trials import SettingTrial
from moedge.runtime.profiling.stock_rates import StockRates
from moedge.runtime.profiling.storage_rates import StorageRates
from moedge.runtime.profiling.timing import Measured


@dataclass(frozen=True)
class ThreadBandwidth:
    """Bytes a second that so many threads read of memory."""

    threads: int
    bytes_per_s: Measured
    note: str  # if the machine's may be more or less


@dataclass(frozen=True)
class Findings:
    """What was not measured is None, and `left_out` says why."""

    date: str
    versions: dict[str, str]
    machine: Machine
    kernels: str  # the instruction set that moedge's run on; "" if they are missing
    usual: Profile  # what `auto` is here without what was measured
    settings: Profile  # the same with the settings that are kept
    bandwidth: tuple[ThreadBandwidth, ...]
    storage: StorageRates
    stock: StockRates
    layers: LayerRates | None
    attention: AttentionRates | None
    between_steps: Measured
    trials: tuple[SettingTrial, ...]
    neighbour: tuple[NeighbourTime, ...]
    heat: tuple[HeatMoment, ...]
    discarded: tuple[str, ...]
    energy: Energy | None
    model: ModelRates | None
    operators: OperatorTimes | None
    usage: ExpertUsage | None
    others: float  # cores that other programs kept busy
    seconds: float  # that all of it took
    left_out: tuple[str, ...]

    @property
    def best_bandwidth(self) -> Measured:
        """Of the number of threads that reads fastest."""
        return max((each.bytes_per_s for each in self.bandwidth), key=lambda each: each.median)


def provenance(findings: Findings) -> dict[str, Any]:
    """What a page says of where its figures come from."""
    machine, profile = findings.machine, findings.settings
    return {
        "CPU": machine.cpu or "unknown",
        "board": machine.board,
        "architecture": f"{machine.architecture}: {' '.join(machine.isa)}",
        "cores": f"{machine.cores}, of which fast: {machine.fast_cores}",
        "memory": f"{machine.usable_memory_bytes / 2**30:.1f} GiB",
        "system": machine.system,
        "kernels": findings.kernels or "none: onnxruntime's own",
        "profile": f"{findings.usual.name}: {profile.prefill_threads} threads for prompts, {profile.decode_threads} "
        f"to decode, affinity {profile.affinity}, awake for {profile.awake_us} µs",
        "software": ", ".join(f"{name} {version}" for name, version in findings.versions.items()),
    }
