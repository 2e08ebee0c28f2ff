"""Whether the bundle that is about to be made fits the device it is meant for; asked before any weight is read."""

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.outline import Outline
from moedge.export.model.config import ModelConfig
from moedge.export.planning.unwritten_bundle import outline_manifest
from moedge.quant.plan import SchemePlan
from moedge.runtime.device_plan import make_plan
from moedge.runtime.manifest import ExpertPlan


def refuse_unfit(
    name: str,
    source: Checkpoint,
    model: ModelConfig,
    context: int,
    schemes: SchemePlan,
    plan: ExpertPlan,
    device: Profile,
) -> None:
    """MoedgeError, with the numbers of `moedge plan`, if the device's memory does not hold the bundle."""
    made = make_plan(outline_manifest(name, Outline(source), model, context, schemes, plan), device)
    if made is None or made.fits:
        return
    shorter = f"--context {made.largest_context}" if made.largest_context else "a leaner --scheme"
    raise MoedgeError(
        f"{name} with scheme {schemes.name} and a context of {context} needs about {_size(made.need.total)} and "
        f"{device.name} has {_size(made.budget_bytes)}: take {shorter}, ask `moedge plan` for others, or leave out "
        "--device."
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
