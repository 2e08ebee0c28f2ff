"""The dry run of an export: its whole graph walked over names and shapes, before a byte of any weight is read.

The graph modules are the export's own; only the checkpoint (outline.py) and the lowering (dry.py) are stand-ins. So
what an export would miss, find misshapen or leave over is told here, all together and in one sentence.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.errors import MissingError, TensorError
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.formats import ACTIVATION_SCALES, may_be_zero_bias
from moedge.export.checkpoint.outline import Outline
from moedge.export.graph.builder import Builder
from moedge.export.graph.decoder import build_decoder
from moedge.export.graph.dry import DryLowering
from moedge.export.graph.plans import LOWERINGS
from moedge.export.graph.tied_head import has_own_head
from moedge.export.model.config import ModelConfig
from moedge.export.schemes import spell
from moedge.export.writing.unwritten import UnwrittenFile
from moedge.quant.plan import Place, SchemePlan
from moedge.quant.rounding import NEAREST
from moedge.quant.scheme import ScaleType
from moedge.runtime.manifest import LM_HEAD, ExpertPlan, TensorGroup

# Limits of plans whose weights ONNX Runtime unpacks; moedge's own kernels read what is stored.
# Scales that ONNX Runtime casts are memory of the process, where those in fp32 are pages of the file.
MOST_CAST_BYTES = 1 << 30
MOST_JOINING_BYTES = 7 << 30
_NAMED = 3  # of each kind of fault; the rest is counted


@dataclass(frozen=True)
class Rehearsal:
    """What an export would do: the tensors that it would read, and what each group of the bundle would cost.

    `schemes` are those that it is to be done with, scales and all; `notes` are what a user should hear of it that the
    export itself does not find.

    `extra_biases` have a place only if all of their values are zero.
    """

    schemes: SchemePlan
    consumed: frozenset[str]
    groups: tuple[TensorGroup, ...]
    extra_biases: tuple[str, ...]
    notes: tuple[str, ...] = ()
    # By place: weights that are rounded (others are exact, or so published), and bytes of all.
    rounded: Mapping[Place, int] = field(default_factory=dict)
    costs: Mapping[Place, int] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """All weights."""
        return sum(group.parameters for group in self.groups)


def rehearse(
    source: Checkpoint,
    model: ModelConfig,
    context: int,
    schemes: SchemePlan,
    plan: ExpertPlan,
    scale_dtype: ScaleType | None = None,
) -> Rehearsal:
    """Walk the export; MoedgeError if tensors are missing, misshapen or left over, or if a scheme does not fit.

    `scale_dtype` is what scales are kept in; None: each scheme's own, or float32 where casting them at load would take
    too much.
    """
    rehearsal = walk(source, model, context, replace(schemes, scales=scale_dtype), plan)
    if plan == "native":
        return rehearsal
    joining = sum(group.joining_bytes for group in rehearsal.groups)
    if joining > MOST_JOINING_BYTES:
        told = rehearse(source, model, context, schemes.whole(), plan, scale_dtype)
        note = (
            f"what {schemes.name} has in 5 or 6 bits is stored in 8, and no layer's experts have more than others: "
            f"to load such codes would take {joining / 1e9:.0f} GB of memory for a moment"
        )
        return replace(told, notes=(*told.notes, note))
    cast = sum(group.cast_bytes for group in rehearsal.groups)
    if scale_dtype is not None or cast <= MOST_CAST_BYTES:
        return rehearsal
    rehearsal = walk(source, model, context, replace(schemes, scales="float32"), plan)
    note = (
        f"scales are stored as float32: as float8 they would take {cast / 1e9:.1f} GB more of memory, which "
        "--scale-dtype float8 gives for a smaller bundle"
    )
    return replace(rehearsal, notes=(*rehearsal.notes, note))


def walk(source: Checkpoint, model: ModelConfig, context: int, schemes: SchemePlan, plan: ExpertPlan) -> Rehearsal:
    """The same with just these schemes and scales, whatever memory they take."""
    outline, low = Outline(source), DryLowering(schemes, plan)
    if has_own_head(source, model):  # values tell later whether it is the embedding once more
        model = replace(model, tie_word_embeddings=False)
    try:
        build_decoder(low, outline, model, context)
    except TensorError:  # so much is wrong that the walk was given up
        _refuse(source, model, [*outline.faults.values()], [])
        raise
    outline.consume(low.account.tensors)
    left = _find_leftover(outline, model)
    extra = tuple(name for name in left if may_be_zero_bias(source, name))
    _refuse(source, model, [*outline.faults.values()], sorted({*left} - {*extra}))
    if low.refusal is not None:
        raise low.refusal
    notes = tuple(_note_idle(schemes, low, model))
    consumed, groups = frozenset(outline.consumed()), low.account.groups()
    return Rehearsal(schemes, consumed, groups, extra, notes, low.rounded, low.costs)


def weigh(source: Checkpoint, model: ModelConfig, context: int, schemes: SchemePlan, plan: ExpertPlan) -> int:
    """Bytes that `weights.bin` will have, exactly; for what was rehearsed, with a model after `with_stored_head`."""
    file = UnwrittenFile()
    build_decoder(LOWERINGS[plan](Builder(file), schemes, NEAREST, []), Outline(source), model, context)
    return file.nbytes


def _note_idle(schemes: SchemePlan, low: DryLowering, model: ModelConfig) -> Iterator[str]:
    """A sentence for each group that a user asked for by name, and that the model does not have."""
    for group in sorted(schemes.asked - low.taken):
        tied = group == LM_HEAD and model.tie_word_embeddings
        why = "the head is the embedding, whose scheme it has" if tied else "this model has no such matrices"
        yield f"--group {spell(group)}: {why}, so that nothing was changed"


def _find_leftover(checkpoint: Checkpoint, model: ModelConfig) -> list[str]:
    """The tensors that were not consumed and have no place in the model."""
    unread = checkpoint.unconsumed((*model.names.ignored, *ACTIVATION_SCALES))
    return [name for name in unread if 0 not in checkpoint.shape(name)]  # shared experts of width 0


def refuse_extra_biases(source: Checkpoint, model: ModelConfig, names: Sequence[str]) -> None:
    """Read the biases that a rehearsal could not judge; MoedgeError if any is more than zeros."""
    _refuse(source, model, [], [name for name in names if source.read_float(name).any()])


def _refuse(source: Checkpoint, model: ModelConfig, faults: Sequence[TensorError], left: Sequence[str]) -> None:
    """Raise MoedgeError if anything is wrong; it names some of each kind, and counts them."""
    missing = [fault.name for fault in faults if isinstance(fault, MissingError)]
    misshapen = [f"{fault.name} {fault.fault}" for fault in faults if not isinstance(fault, MissingError)]
    found = []
    if missing:
        found.append(f"{_list(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if misshapen:
        found.append(_list(misshapen, " of another shape"))
    if left:
        found.append(f"{_list(left)} {'has' if len(left) == 1 else 'have'} no place in {model.model_type}")
    if found:
        mend = "take both from the same model" if faults else "correct config.json or leave these tensors out"
        raise MoedgeError(
            f"{source.folder}: {'; '.join(found)}: config.json and the tensors do not belong together, {mend}."
        )


def _list(items: Sequence[str], others: str = "") -> str:
    """The first of them, and how many more there are; `others` says what those are, where the items say it."""
    if len(items) <= _NAMED:
        *first, last = items
        return f"{', '.join(first)} and {last}" if first else last
    return f"{', '.join(items[:_NAMED])} and {len(items) - _NAMED} more{others}"
