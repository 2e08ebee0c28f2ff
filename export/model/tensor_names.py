"""Where a model's tensors stand in a checkpoint, as its makers name them; other spellings are layouts.py's."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Projections:
    """The projections of a gated MLP by name: gate and up, or both as one matrix; and down."""

    gate_up: tuple[str, ...]
    down: str

    def within(self, place: str) -> "Projections":
        """The same names with something before each."""
        return Projections(tuple(f"{place}{part}" for part in self.gate_up), f"{place}{self.down}")


SPLIT = Projections(("gate_proj", "up_proj"), "down_proj")
UNGATED = Projections(("up_proj",), "down_proj")
NUMBERED = Projections(("w1", "w3"), "w2")
JOINT = Projections(("gate_up_proj",), "down_proj")
LINEAR = Projections(("input_linear",), "output_linear")  # Granite's joint ones
SPLIT_EXPERTS = SPLIT.within("experts.{expert}.")

# How gate and up rows stand in a joint matrix of an expert, [2I, H] or [E, 2I, H]:
# halves:  gate rows before up rows
# in_turn: gate0, up0, gate1, …; a plain 3-D tensor of them is stored the other way round, [E, H, 2I] and down [E, I, H]
RowOrder = Literal["halves", "in_turn"]


@dataclass(frozen=True)
class TensorNames:
    """Modules by name, as the family's makers publish them; `{layer}` and `{expert}` are filled in.

    Weights end in `.weight`. Names with a dot in their default are whole ones; the others are parts of the module they
    belong to. Other spellings and layouts of the same are recognized by layouts.py.
    """

    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    lm_head: str = "lm_head"
    input_norm: str = "model.layers.{layer}.input_layernorm"
    post_attention_norm: str = "model.layers.{layer}.post_attention_layernorm"
    attention: str = "model.layers.{layer}.self_attn"
    q_norm: str = "q_norm"
    k_norm: str = "k_norm"
    output: str = "o_proj"
    convolution: str = "model.layers.{layer}.conv"
    recurrent: str = "model.layers.{layer}.linear_attn"
    after_mixer: str = ""  # a norm of what a mixer gives; empty: there is none
    after_mlp: str = ""  # the same of an MLP
    experts_norm: str = ""  # where experts stand beside a dense MLP: what they read, what their router reads,
    router_norm: str = ""
    after_dense: str = ""  # and norms of what the MLP and the experts give
    after_experts: str = ""
    layer_scalar: str = ""  # a number that a layer's result is times
    mlp: str = "model.layers.{layer}.mlp"
    router: str = "model.layers.{layer}.mlp.gate"
    expert_scale: str = "model.layers.{layer}.router.per_expert_scale"
    correction_bias: str = "model.layers.{layer}.mlp.gate.e_score_correction_bias"
    moe: str = "model.layers.{layer}.mlp"  # where a layer's router and routed experts are
    experts: Projections = SPLIT_EXPERTS  # within it; without `{expert}` they are one tensor each, [E, ., .]
    joint_rows: RowOrder = "halves"
    shared_expert: str = "model.layers.{layer}.mlp.shared_experts"
    shared_gate: str = "model.layers.{layer}.mlp.shared_expert_gate"
    latent_projections: tuple[str, str] = ("fc1_latent_proj", "fc2_latent_proj")  # within `moe`: down, and up again
    parts: Projections = SPLIT  # of a dense layer's MLP and of the shared experts
    ignored: tuple[str, ...] = (r".*\.rotary_emb\.inv_freq",)  # patterns of tensors that are rightly left out

    def ignoring(self, *patterns: str) -> "TensorNames":
        """The same names with further tensors to leave out."""
        return replace(self, ignored=(*self.ignored, *patterns))
