"""What a run of `moedge profile` is asked and knows while it goes on, and how long each thing may take."""

from dataclasses import dataclass, field
from pathlib import Path

from moedge.devices.detect import Machine
from moedge.devices.memory import detect_memory
from moedge.devices.profile import Profile
from moedge.runtime.bench.bandwidth import last_cache_bytes
from moedge.runtime.bench.bench_rounds import OnStep
from moedge.runtime.kernels.library import Library
from moedge.runtime.profiling.drawn_weights import Drawing
from moedge.runtime.profiling.heat import HeatWatch
from moedge.runtime.profiling.timing import TimeBudget

QUICK_SECONDS, SECONDS = 30.0, 180.0
MODEL_SHARE = 0.35  # of the time, that is kept for a bundle
RESERVE = 0.08  # of the time, for what takes longer than it should
STAGES = 12  # and as many more with a bundle as MODEL_STAGES
MODEL_STAGES = 4
NATIVE_STAGES = 6  # of STAGES


@dataclass(frozen=True)
class Request:
    """What is to be measured, and where files may lie meanwhile."""

    bundle: Path | None
    folder: Path
    quick: bool

    @property
    def seconds(self) -> float:
        """That all of it may take."""
        return QUICK_SECONDS if self.quick else SECONDS

    @property
    def stages(self) -> int:
        """How often `on_step` is called."""
        return STAGES + (MODEL_STAGES if self.bundle else 0)


@dataclass(eq=False)
class Course:
    """What a run knows while it goes on."""

    request: Request
    usual: Profile
    machine: Machine
    budget: TimeBudget
    on_step: OnStep
    library: Library | None
    drawing: Drawing
    heat: HeatWatch
    left_out: list[str] = field(default_factory=list)

    def seconds(self, quick: float, full: float) -> float:
        """For one thing, by how the run was asked for; less where time is short."""
        return self.budget.share(quick if self.request.quick else full, RESERVE * self.budget.seconds)


def weights_memory() -> int:
    """Bytes that weights may take: a quarter of what is free, and no more than four times large caches."""
    return min(detect_memory().available_bytes // 4, max(1 << 30, 4 * last_cache_bytes()))
