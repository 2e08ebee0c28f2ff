"""What a model is, as values: the axes on which Mixture-of-Experts decoders differ, each a frozen dataclass.

A family (export/families) reads a checkpoint's config.json into a `ModelConfig`; graph modules read nothing else.
`TensorNames` says where its tensors stand in the checkpoint; rotary embedding is rope.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from moedge.export.model.rope import Rope


@dataclass(frozen=True)
class GroupedQuery:
    """Grouped-query attention: q, k and v are projected, normalized, clipped, rotated, in this order."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    rope: Rope
    qk_norm: Literal["none", "head", "whole"] = "none"  # RMSNorm of each head of q and k, or of all heads as one vector
    clip: float | None = None  # q, k and v are held within ± clip
    bias: bool = False  # on q, k, v
    output_bias: bool = False
    sinks: bool = False  # a learnt score a head that takes part in the softmax and weighs nothing
    window: int = 0  # a token looks at this many positions, its own included; 0: at all before it

    @property
    def heads_a_key(self) -> int:
        """Query heads that share a key head."""
        return self.num_heads // self.num_kv_heads


@dataclass(frozen=True)
class MultiHeadLatent:
    """DeepSeek's multi-head latent attention: keys and values of all heads from one latent row a token."""

    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    scale: float
    rope: Rope
    latent_norm_eps: float
    bias: bool = False  # on the down-projections and the output

    @property
    def latent_width(self) -> int:
        """Numbers a token keeps in the cache."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def heads_a_key(self) -> int:
        """Query heads that share a key: all of them the one latent row."""
        return self.num_heads

    @property
    def window(self) -> int:
        """It looks at all positions before it."""
        return 0


@dataclass(frozen=True)
class ShortConvolution:
    """A gated causal convolution of each channel by itself, in the place of attention (LFM2, arXiv:2511.23404).

    b, c, x = in_proj(h);  y_t = sum_j w_j (b x)_{t - kernel + 1 + j};  out = out_proj(c y).
    """

    kernel: int
    bias: bool = False


Attention = GroupedQuery | MultiHeadLatent
Mixer = Attention | ShortConvolution  # what lets a layer's tokens see one another


def attention_of(mixers: Sequence[Mixer]) -> list[Attention]:
    """The different kinds of attention among the layers', in their order."""
    return [mixer for mixer in dict.fromkeys(mixers) if isinstance(mixer, Attention)]


@dataclass(frozen=True)
class Router:
    """Which experts a token goes to and how much each counts.

    logits = x · W (+ bias); scores = scoring(logits); experts = top k of scores + correction bias, within the best
    groups; weights = scores of those, divided by max(their sum + norm_eps, norm_min) if `normalize`, times `scale`.
    `sparsemixer` (Liu et al. 2024, arXiv:2409.12136) gives the n-th expert its softmax among those left whose logit is
    within 2 · jitter_eps of it, relatively.
    """

    scoring: Literal["softmax", "sigmoid", "sparsemixer"]
    normalize: bool
    bias: bool = False
    correction_bias: bool = False
    n_group: int = 1
    topk_group: int = 1
    group_score: Literal["top2", "max"] = "top2"  # a group's score: the sum of its two best, or its best
    norm_eps: float = 1e-20
    norm_min: float = 0.0
    scale: float = 1.0
    jitter_eps: float = 0.0

    @property
    def weighs_by_logits(self) -> bool:
        """Whether softmax over the logits of the chosen, which equals renormalizing, is what these count."""
        plain = not self.correction_bias and self.n_group == 1
        return self.scoring == "softmax" and self.normalize and plain


@dataclass(frozen=True)
class Gate:
    """g · sigmoid(alpha g) · (u + beta) of a gate g and an up-projection u; with `limit`, g ≤ limit and |u| ≤ limit."""

    alpha: float = 1.0
    beta: float = 0.0
    limit: float | None = None

    @property
    def scales_up(self) -> bool:
        """Whether an up-projection n times as large makes the product n times as large."""
        return self.beta == 0 and self.limit is None


SILU = Gate()


@dataclass(frozen=True)
class Experts:
    """The routed experts of a layer and the shared ones, which are one MLP of their joint width (0: none)."""

    num_experts: int
    num_experts_per_tok: int
    intermediate_size: int
    router: Router
    gate: Gate = SILU
    bias: bool = False  # on the routed experts' projections
    shared_intermediate_size: int = 0
    shared_gate: bool = False  # the shared experts' output is weighed by sigmoid(x · w)


@dataclass(frozen=True)
class Multipliers:
    """Granite's constants: of the embedding, of what each block adds, and the divisor of the logits."""

    embedding: float = 1.0
    residual: float = 1.0
    logits_divisor: float = 1.0


@dataclass(frozen=True)
class Projections:
    """The projections of a gated MLP by name: gate and up, or both as one matrix; and down."""

    gate_up: tuple[str, ...]
    down: str

    def within(self, place: str) -> "Projections":
        """The same names with something before each."""
        return Projections(tuple(f"{place}{part}" for part in self.gate_up), f"{place}{self.down}")


SPLIT = Projections(("gate_proj", "up_proj"), "down_proj")
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
    mlp: str = "model.layers.{layer}.mlp"
    router: str = "model.layers.{layer}.mlp.gate"
    correction_bias: str = "model.layers.{layer}.mlp.gate.e_score_correction_bias"
    moe: str = "model.layers.{layer}.mlp"  # where a layer's router and routed experts are
    experts: Projections = SPLIT_EXPERTS  # within it; without `{expert}` they are one tensor each, [E, ., .]
    joint_rows: RowOrder = "halves"
    shared_expert: str = "model.layers.{layer}.mlp.shared_experts"
    shared_gate: str = "model.layers.{layer}.mlp.shared_expert_gate"
    parts: Projections = SPLIT  # of a dense layer's MLP and of the shared experts
    ignored: tuple[str, ...] = (r".*\.rotary_emb\.inv_freq",)  # patterns of tensors that are rightly left out

    def ignoring(self, *patterns: str) -> "TensorNames":
        """The same names with further tensors to leave out."""
        return replace(self, ignored=(*self.ignored, *patterns))


@dataclass(frozen=True)
class ModelConfig:
    """A whole decoder: pre-norm blocks of a mixer and a gated MLP, dense or Mixture-of-Experts."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int  # of dense layers
    norm_eps: float
    tie_word_embeddings: bool
    max_position_embeddings: int
    mixers: tuple[Mixer, ...]  # one a layer
    experts: Experts
    moe_layers: tuple[int, ...]
    norm: Literal["rms", "layer"] = "rms"  # "layer": LayerNorm with a bias
    mlp_bias: bool = False  # on dense and shared MLPs
    lm_head_bias: bool = False
    multipliers: Multipliers = Multipliers()
    names: TensorNames = field(default_factory=TensorNames)

    @property
    def num_hidden_layers(self) -> int:
        """Layers, the head not counted."""
        return len(self.mixers)
