"""Where tensors stand in a checkpoint, as values: names of modules and how the experts' matrices are laid out."""

from dataclasses import dataclass, replace
from typing import Literal

# How the experts of a layer lie on disk:
# separate:    a matrix an expert and projection
# halves:      gate_up [E, 2I, H], gate rows before up rows, and down [E, H, I]
# interleaved: gate_up [E, H, 2I], to be multiplied from the right, columns gate0, up0, gate1, …, and down [E, I, H];
#              as MXFP4 both are stored the other way round, [E, 2I, H] and [E, H, I], rows alternating alike
ExpertLayout = Literal["separate", "halves", "interleaved"]


@dataclass(frozen=True)
class TensorNames:
    """Modules by name; `{layer}` and `{expert}` are filled in. Weights end in `.weight`.

    Names with a dot in their default are whole ones; the others are parts of the module they belong to.
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
    mlp: str = "model.layers.{layer}.mlp"
    router: str = "model.layers.{layer}.mlp.gate"
    correction_bias: str = "model.layers.{layer}.mlp.gate.e_score_correction_bias"
    expert: str = "model.layers.{layer}.mlp.experts.{expert}"
    layout: ExpertLayout = "separate"
    experts_gate_up: str = ""  # of the joint layouts
    experts_down: str = ""
    shared_expert: str = "model.layers.{layer}.mlp.shared_experts"
    shared_gate: str = "model.layers.{layer}.mlp.shared_expert_gate"
    shared_gate_up: str = ""  # set where the shared MLP's gate and up projections are one matrix, in halves
    shared_down: str = ""
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    ignored: tuple[str, ...] = (r".*\.rotary_emb\.inv_freq",)  # patterns of tensors that are rightly left out
    renamed: tuple[tuple[str, str], ...] = ()  # pattern and replacement: other spellings of the names above

    def ignoring(self, *patterns: str) -> "TensorNames":
        """The same names with further tensors to leave out."""
        return replace(self, ignored=(*self.ignored, *patterns))
