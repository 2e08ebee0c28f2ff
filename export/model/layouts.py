"""How a checkpoint spells and lays out a decoder, told by the names and shapes of the tensors that are there.

The same model is published under several prefixes and module names, its experts as a matrix each or all in one tensor.
A family (families/*.py) states how its makers write it; this file alone knows how others do. Number formats are
checkpoint/modules.py's.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.folder import Checkpoint, find_unmatched
from moedge.export.checkpoint.modules import is_stored
from moedge.export.model.config import ModelConfig
from moedge.export.model.recurrent import DeltaNet
from moedge.export.model.tensor_names import JOINT, LINEAR, NUMBERED, SPLIT, UNGATED, Projections, TensorNames

_GATED = (SPLIT, NUMBERED, JOINT, LINEAR)
# Within the module of the experts. transformers 5 holds experts./JOINT in memory and writes it with
# save_original_format=False; switch_mlp. and experts./SPLIT are MLX's, gate_up_projs is unsloth's gpt-oss.
_EXPERTS = (
    *(parts.within("experts.{expert}.") for parts in _GATED),
    Projections(("experts.gate_up_projs.{expert}",), "experts.down_projs.{expert}"),
    *(parts.within(place) for place in ("experts.", "switch_mlp.") for parts in (SPLIT, JOINT)),
    LINEAR,
)
_UNGATED = (UNGATED.within("experts.{expert}."), UNGATED.within("experts."))
_FIRST_LAYERS = ("layers.0.", "blocks.0.")  # "blocks": transformers 5 writes Kimi K2.5 so, by a slip of its renaming
_MODULE = re.compile(r"(model\.layers\.\d+)\.(?:mlp|block_sparse_moe|feed_forward)\.(.*)")
# "router.linear" is unsloth's gpt-oss, "gate.proj" MLX's Laguna
_ROUTER = re.compile(r"(?:gate|gate\.proj|router|router\.layer|router\.linear)\.([^.]+)")
_CORRECTION = re.compile(r"(?:gate\.|router\.)?(?:moe_statics\.)?(?:e_score_correction_bias|expert_bias)")
# "forget_gate": transformers 5 holds what Kimi's and Ling's delta nets decay by so
_ATTENTION = re.compile(
    r"(model\.layers\.\d+)\.(?:self_attn|attention)\.(?:forget_gate\.)?((?:o_proj|dense)(?=\.))?(.*)"
)
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


@dataclass(frozen=True)
class Spelling:
    """Brings the names of a checkpoint's tensors to those of its family."""

    names: TensorNames
    prefix: str  # of the decoder, as "model." is in most

    def __call__(self, name: str) -> str:
        """The family's name for a tensor; itself if it is nothing that others spell otherwise."""
        name = self._without_prefix(name)
        if (attention := _ATTENTION.fullmatch(name)) and self._attention in ("self_attn", "attention"):
            layer, output, rest = attention.groups()
            return f"{layer}.{self._attention}.{self.names.output if output else ''}{rest}"
        match = _MODULE.fullmatch(name)
        if match is None or self.names.moe == "model.layers.{layer}":  # experts have no module of their own
            return name
        layer, inner = match.groups()
        moe, router, correction, shared = self._inner_names
        if not inner.startswith("experts."):
            if correction and _CORRECTION.fullmatch(inner):
                inner = correction
            elif inner.startswith(f"{shared}s."):  # as transformers calls what makers call shared_expert
                inner = f"{shared}.{inner.removeprefix(f'{shared}s.')}"
            elif (part := _ROUTER.fullmatch(inner)) and not _CORRECTION.fullmatch(inner):
                inner = f"{router}.{part[1]}"
        return f"{layer}.{moe}.{inner}"

    def _without_prefix(self, name: str) -> str:
        outer, middle, rest = name.rpartition("lm_head.")
        if middle and outer in self._outer:
            return f"{self.names.lm_head}.{rest}"
        if not name.startswith(self.prefix):
            return name
        rest = name.removeprefix(self.prefix)
        if rest.startswith("blocks."):
            rest = f"layers.{rest.removeprefix('blocks.')}"
        if rest.startswith("embed_tokens."):
            rest = rest.replace("embed_tokens", self.names.embedding.removeprefix("model."), 1)
        return f"model.{rest}" if self.prefix or f"model.{rest}".startswith(self._top) else name

    @cached_property
    def _attention(self) -> str:
        """The module of a layer's attention."""
        return self.names.attention.rpartition(".")[2]

    @cached_property
    def _outer(self) -> set[str]:
        """The modules around the decoder's layers, from the whole checkpoint to the decoder itself."""
        parts = self.prefix.split(".")[:-1]
        return {"".join(f"{part}." for part in parts[:count]) for count in range(len(parts) + 1)}

    @cached_property
    def _top(self) -> tuple[str, ...]:
        """How names begin that are the decoder's for sure."""
        return (f"{self.names.embedding}.", f"{self.names.final_norm}.", "model.layers.")

    @cached_property
    def _inner_names(self) -> tuple[str, str, str, str]:
        """The module of a layer's experts; router, correction bias and shared experts in it, empty if elsewhere."""
        moe, names = f"{self.names.moe}.", self.names
        correction, shared = (
            name.removeprefix(moe) if name.startswith(moe) else ""
            for name in (names.correction_bias, names.shared_expert)
        )
        return names.moe.rpartition(".")[2], names.router.removeprefix(moe), correction, shared


def find_spelling(checkpoint: Checkpoint, names: TensorNames) -> Spelling:
    """How a checkpoint names its tensors: where the embedding of tokens is, with layers beside it, the decoder is.

    MoedgeError if there are two of them.
    """
    tensors = find_unmatched(checkpoint.dtypes(), names.ignored)
    own = names.embedding.rpartition(".")[2]
    embedding = re.compile(rf"((?:.*\.)?)(?:embed_tokens|{own})\.(?:weight|weight_packed|qweight)")
    found = {match[1] for match in map(embedding.fullmatch, tensors) if match}
    starts = {prefix: tuple(f"{prefix}{first}" for first in _FIRST_LAYERS) for prefix in found}
    prefixes = sorted(prefix for prefix in found if any(name.startswith(starts[prefix]) for name in tensors))
    if len(prefixes) > 1:
        raise MoedgeError(
            f"{checkpoint.folder} holds two decoders, {prefixes[0]}layers and {prefixes[1]}layers: keep the one that "
            "its config describes."
        )
    return Spelling(names, *(prefixes or ["model."]))  # of what is missing, the first that is looked for will tell


def find_mlp(checkpoint: Checkpoint, module: str, own: Projections) -> Projections:
    """The projections of a dense layer's MLP or of shared experts, as modules; `own` where there are none at all."""
    known = [parts.within(f"{module}.") for parts in (_GATED if own != UNGATED else ())]
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

    known = [parts.within(place) for parts in (_UNGATED if names.parts == UNGATED else _EXPERTS)]
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


def with_norms_as_stored(checkpoint: Checkpoint, model: ModelConfig) -> ModelConfig:
    """The same model with what is to be added to weights of norms in this checkpoint.

    MLX adds what a family adds when it converts a checkpoint, which nothing tells but that it turns convolutions too.
    """
    for layer, mixer in enumerate(model.mixers):
        name = f"{model.names.recurrent.format(layer=layer)}.conv1d.weight"
        if model.norm_offset and isinstance(mixer, DeltaNet) and name in checkpoint:
            turned = checkpoint.shape(name) == (mixer.convolved, mixer.kernel, 1)
            return replace(model, norm_offset=0.0) if turned else model
    return model


def find_taps(checkpoint: Checkpoint, name: str, channels: int, kernel: int) -> tuple[int, int, int]:
    """The shape that a depthwise convolution's weight must have: torch's, or MLX's if it is that."""
    theirs = (channels, kernel, 1)
    return theirs if name in checkpoint and checkpoint.shape(name) == theirs else (channels, 1, kernel)


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
