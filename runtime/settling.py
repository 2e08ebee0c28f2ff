"""Before a model is loaded: whether this CPU is the one that its description says, and which cores threads stay on."""

from moedge.devices.affinity import stay_on
from moedge.devices.detect import Machine, detect
from moedge.devices.errors import MoedgeError
from moedge.devices.instructions import SYSTEM, real_isa, refuse_misnamed, refuse_missing, survives
from moedge.devices.profile import Profile
from moedge.runtime.kernels.library import open_library
from moedge.runtime.manifest import ExpertPlan


def settle(profile: Profile, plan: ExpertPlan, machine: Machine | None = None) -> None:
    """Return if a model of that plan can be loaded on the machine (default: this one), as the profile describes it.

    MoedgeError if the profile, or the system's own description, states instructions that the CPU does not have. Where
    they differ in anything, moedge's kernels are tried in a child process first; onnxruntime's cannot be, before the
    model is loaded, so of those the CPU's name must be right too.
    """
    machine = machine or detect()
    if profile.architecture != machine.architecture:
        raise MoedgeError(
            f"device profile {profile.name} is for {profile.architecture} and this machine is {machine.architecture}: "
            "take `--device auto`."
        )
    real = real_isa(machine.architecture)
    refuse_missing(SYSTEM, machine.isa, real)
    refuse_missing(f"device profile {profile.name}", profile.isa, machine.isa if real is None else real)
    if plan != "native":
        refuse_misnamed((cluster.core for cluster in machine.clusters), real)
    elif real is not None and set(real) != set(machine.isa) and (ended := survives(_try_kernels)):
        raise MoedgeError(
            f"moedge's kernels do not run on this CPU ({ended}), whose instructions are described in two ways: "
            "set MOEDGE_ISA to an older instruction set, as neon."
        )
    if profile.affinity == "fast" and len(machine.fast_cpus) < sum(each.count for each in machine.clusters):
        stay_on(machine.fast_cpus)


def _try_kernels() -> None:
    open_library()
