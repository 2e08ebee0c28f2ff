"""How a checkpoint spells and lays out a decoder, told by the names and shapes of the tensors that are there.

The same model is published under several prefixes and module names, its experts as a matrix each or all in one tensor.
A family (families/*.py) states how its makers write it; this file alone knows how others do. Number formats are
checkpoint/modules.py's.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import is_stored
from moedge.export.model.config import JOINT, LINEAR, NUMBERED, SPLIT, Projections, TensorNames

_GATED = (SPLIT, NUMBERED, JOINT, LINEAR)
# Within the module of the experts. transformers 5 holds experts./JOINT in memory and writes it with
# save_original_format=False; switch_mlp. and experts./SPLIT are MLX's, gate_up_projs is unsloth's gpt-oss.
_EXPERTS = (
    *(parts.within("experts.{expert}.") for parts in _GATED),
    Projections(("experts.gate_up_projs.{expert}",), "experts.down_projs.{expert}"),
    *(parts.within(place) for place in ("experts.", "switch_mlp.") for parts in (SPLIT, JOINT)),
    LINEAR,
)
_EMBEDDING = re.compile(r"((?:.*\.)?)embed_tokens\.(?:weight|weight_packed|qweight)")
_FIRST_LAYER = re.compile(r"(?:layers|blocks)\.0\.")  # "blocks": as transformers 5 writes Kimi K2.5
_MODULES = "mlp|block_sparse_moe|feed_forward"
_ROUTERS = r"gate|router|router\.layer|router\.linear"  # "router.linear" is unsloth's gpt-oss
_CORRECTION = r"(?:gate\.|router\.)?(?:moe_statics\.)?(?:e_score_correction_bias|expert_bias)"
_PACKED = (".weight_packed", ".qweight")


@dataclass(frozen=True)
class ExpertLayout:
    """Where the routed experts of a layer are: modules by expert, `{expert}` in their names, or tensors [E, ., .]."""

    projections: Projections
    stacked: bool
    in_turn: bool  # a joint matrix has gate and up rows in turn, and not in halves
    turned: bool  # the tensors are stored the other way round, [E, columns, rows]

    def bias(self, projection: str) -> str:
        """The name of a projection's bias."""
        if self.stacked and not projection.endswith(".weight"):
            return f"{projection}_bias"
        return f"{projection.removesuffix('.weight')}.bias"


def list_renames(checkpoint: Checkpoint, names: TensorNames) -> tuple[tuple[str, str], ...]:
    """Pattern and replacement, to be applied in this order, that bring a checkpoint's names to those of its family.

    What decides is where the embedding of tokens is. MoedgeError if there are two of them, each with layers beside it.
    """
    moe = names.moe.rpartition(".")[2]
    layer = rf"^(model\.layers\.\d+)\.(?:{_MODULES})\."
    inside = rf"^(model\.layers\.\d+\.{moe})\."
    router = names.router.removeprefix(f"{names.moe}.")
    rules = [
        *_list_prefix_renames(checkpoint, names),
        *names.renamed,
        (layer, rf"\1.{moe}."),
        (rf"{inside}(?:{_ROUTERS})\.((?!e_score_)[^.]+)$", rf"\1.{router}.\2"),
    ]
    if names.correction_bias.startswith(f"{names.moe}."):
        rules.append((rf"{inside}{_CORRECTION}$", rf"\1.{names.correction_bias.removeprefix(f'{names.moe}.')}"))
    return tuple(rules)


def _list_prefix_renames(checkpoint: Checkpoint, names: TensorNames) -> tuple[tuple[str, str], ...]:
    """`model.language_model.`, `language_model.model.`, `backbone.`, or nothing: all become `model.`."""
    tensors = checkpoint.dtypes()
    found = {match[1] for match in map(_EMBEDDING.fullmatch, tensors) if match}
    prefixes = sorted(p for p in found if any(n.startswith(p) and _FIRST_LAYER.match(n, len(p)) for n in tensors))
    if len(prefixes) > 1:
        raise MoedgeError(
            f"{checkpoint.folder} holds two decoders, {prefixes[0]}layers and {prefixes[1]}layers: keep the one that "
            "its config describes."
        )
    if not prefixes:  # of what is missing, the first that is looked for will tell
        return ()
    [prefix] = prefixes
    outer = prefix.split(".")[:-1]
    heads = "|".join(re.escape("".join(f"{part}." for part in outer[:count])) for count in range(1, len(outer) + 1))
    head = (rf"^(?:{heads})lm_head\.", f"{names.lm_head}.")
    if prefix:
        return head, (f"^{re.escape(prefix)}", "model.")
    norm = re.escape(names.final_norm.removeprefix("model."))
    return ((rf"^(embed_tokens|layers|blocks|{norm})\.", r"model.\1."),)


def find_mlp(checkpoint: Checkpoint, module: str, own: Projections) -> Projections:
    """The projections of a dense layer's MLP or of shared experts, as modules; `own` where there are none at all."""
    known = [parts.within(f"{module}.") for parts in _GATED]
    return _choose(checkpoint, known, own.within(f"{module}."), lambda name: is_stored(checkpoint, name))


def find_experts(checkpoint: Checkpoint, names: TensorNames, layer: int) -> ExpertLayout:
    """Where a layer's routed experts are; where the family's makers put them if there are none at all.

    MoedgeError if they are there twice, or quantized in one tensor in a way that is not read.
    """
    place = f"{names.moe.format(layer=layer)}."

    def is_there(name: str) -> bool:
        if "{expert}" in name:
            return is_stored(checkpoint, name.format(expert=0))
        endings = ("", ".weight", "_blocks", *_PACKED)
        return any(f"{name}{ending}" in checkpoint for ending in endings)

    known = [parts.within(place) for parts in _EXPERTS]
    found = _choose(checkpoint, known, names.experts.within(place), is_there)
    joint, in_turn = len(found.gate_up) == 1, names.joint_rows == "in_turn"
    if "{expert}" in found.down:
        return ExpertLayout(found, False, joint and in_turn, False)
    gate_up = tuple(_name_stacked(checkpoint, part) for part in found.gate_up)
    tensors = Projections(gate_up, _name_stacked(checkpoint, found.down))
    turned = joint and in_turn and f"{found.gate_up[0]}_blocks" not in checkpoint
    return ExpertLayout(tensors, True, joint and in_turn, turned)


def expect_stacked(checkpoint: Checkpoint, layout: ExpertLayout, name: str, shape: tuple[int, int, int]) -> None:
    """Raise MoedgeError unless a tensor of all experts is [E, rows, columns], or what the layout makes of that.

    Where rows and columns are equal in number one tensor cannot tell which way round it is, and is taken as the layout
    says; gate and up in one, [E, 2I, H], and down [E, H, I] cannot both be like that.
    """
    experts, rows, columns = shape
    if f"{name}_blocks" in checkpoint:
        checkpoint.expect(f"{name}_blocks", experts, rows, columns // 32, 16)
        return
    wanted = (experts, columns, rows) if layout.turned else shape
    found = checkpoint.shape(name)
    if found != wanted and found == (wanted[0], wanted[2], wanted[1]):
        order = "gate and up in turn" if layout.in_turn else "gate before up"
        raise MoedgeError(
            f"{name} has the shape {found}, the other way round: moedge reads {wanted} there, {order}. Store it so."
        )
    checkpoint.expect(name, *wanted)


def find_absorbed(checkpoint: Checkpoint, attention: str) -> tuple[str, str] | None:
    """Where latent attention's up-projections are apart, as MLX keeps them: tensors of the keys' and the values'.

    They are [heads, rank, nope] and [heads, v, rank]; None where they are one matrix, kv_b_proj.
    """
    keys, values, joint = (f"{attention}.{part}.weight" for part in ("embed_q", "unembed_out", "kv_b_proj"))
    if keys not in checkpoint:
        return None
    if joint in checkpoint:
        raise MoedgeError(f"{checkpoint.folder} holds {joint} and {keys}, the same weights in two layouts: keep one.")
    return keys, values


def find_taps(checkpoint: Checkpoint, name: str, channels: int, kernel: int) -> tuple[int, int, int]:
    """The shape that a depthwise convolution's weight must have: torch's, or MLX's if it is that."""
    theirs = (channels, kernel, 1)
    return theirs if checkpoint.shape(name) == theirs else (channels, 1, kernel)


def _choose(
    checkpoint: Checkpoint, known: Iterable[Projections], own: Projections, is_there: Callable[[str], bool]
) -> Projections:
    """The one of the known spellings that the checkpoint has."""
    there = [parts for parts in known if any(map(is_there, parts.gate_up))]
    if len(there) > 1:
        one, other = (parts.gate_up[0].replace("{expert}", "0") for parts in there[:2])
        raise MoedgeError(f"{checkpoint.folder} holds {one} and {other}, the same weights in two layouts: keep one.")
    return there[0] if there else own


def _name_stacked(checkpoint: Checkpoint, name: str) -> str:
    """The tensor of all experts' projection: a parameter by itself, as in transformers, or a module's weight."""
    for ending in _PACKED:
        if f"{name}{ending}" in checkpoint:
            raise MoedgeError(
                f"{name}{ending} holds all experts quantized in one tensor, which moedge reads only as MXFP4 or in "
                "plain numbers: take a checkpoint with a matrix an expert, or one in bf16."
            )
    if name in checkpoint or f"{name}_blocks" in checkpoint:
        return name
    bare = ".experts." in name and f"{name}.weight" not in checkpoint
    return name if bare else f"{name}.weight"
