"""What a model is, as values: the axes on which Mixture-of-Experts decoders differ, each a frozen dataclass.

A family (export/families) reads a checkpoint's config.json into a `ModelConfig`; graph modules read nothing else.
Where its tensors stand in the checkpoint is tensor_names.py's; rotary embedding is rope.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from moedge.export.model.recurrent import Recurrent
from moedge.export.model.rope import Rope
from moedge.export.model.tensor_names import TensorNames


@dataclass(frozen=True)
class OutputGate:
    """A gate of what attention gives, projected from what it reads: one number a head, or one a channel.

    Its projection has a module of its own, or where that is "q_proj" the rows behind each head's of the queries.
    """

    module: str
    activation: Literal["sigmoid", "softplus"]
    per_head: bool = False


@dataclass(frozen=True)
class GroupedQuery:
    """Grouped-query attention: q, k and v are projected, normalized, clipped, rotated, in this order."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    rope: Rope | None  # None: nothing is rotated
    qk_norm: Literal["none", "head", "whole"] = "none"  # RMSNorm of each head of q and k, or of all heads as one vector
    value_norm: bool = False  # RMSNorm of each head of v, without a weight
    value_is_key: bool = False  # v is what k is before its norm; there is no projection for it
    gate: OutputGate | None = None
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
    gate: OutputGate | None = None  # one number a head

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
Mixer = Attention | ShortConvolution | Recurrent  # what lets a layer's tokens see one another


def attention_of(mixers: Sequence[Mixer | None]) -> list[Attention]:
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
    softcap: float = 0.0  # logits are held within it: softcap · tanh(logits / softcap); 0: they are not
    expert_scale: bool = False  # the chosen experts' weights are times a learnt number an expert, once normalized

    @property
    def weighs_by_logits(self) -> bool:
        """Whether softmax over the logits of the chosen, which equals renormalizing, is what these count."""
        plain = not self.correction_bias and self.n_group == 1 and not self.expert_scale
        return self.scoring == "softmax" and self.normalize and plain


@dataclass(frozen=True)
class Gate:
    """What an MLP makes of a gate g and an up-projection u.

    swiglu: g · sigmoid(alpha g) · (u + beta); with `limit`, g ≤ limit and |u| ≤ limit.
    geglu_tanh: gelu(g) · u, with tanh's approximation of gelu. relu2: max(u, 0)²; there is no gate.
    """

    kind: Literal["swiglu", "geglu_tanh", "relu2"] = "swiglu"
    alpha: float = 1.0
    beta: float = 0.0
    limit: float | None = None

    @property
    def matrices(self) -> int:
        """That an input is multiplied with: gate and up, or up alone."""
        return 1 if self.kind == "relu2" else 2

    @property
    def scales_up(self) -> bool:
        """Whether an up-projection n times as large makes the product n times as large."""
        return self.kind != "relu2" and self.beta == 0 and self.limit is None


SILU = Gate()
GEGLU = Gate("geglu_tanh")
RELU2 = Gate("relu2")
ACTIVATIONS = {"silu": SILU, "gelu_pytorch_tanh": GEGLU, "relu2": RELU2}  # by what config.json calls them


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
    mean: bool = False  # routed and shared experts count half each
    latent_size: int = 0  # the routed experts work between a projection down to it and one up again; 0: they do not


@dataclass(frozen=True)
class Multipliers:
    """Granite's constants: of the embedding, of what each block adds, and the divisor of the logits."""

    embedding: float = 1.0
    residual: float = 1.0
    logits_divisor: float = 1.0


# sequential: x += mixer(norm(x)), then x += mlp(norm(x))
# parallel: x += mixer(n) + mlp(n), n = norm(x)
# both: as sequential, but with a dense MLP and, beside it, experts, each between norms of its own
BlockKind = Literal["sequential", "parallel", "both"]


@dataclass(frozen=True)
class ModelConfig:
    """A whole decoder: pre-norm blocks of a mixer and an MLP, dense or Mixture-of-Experts."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int  # of dense layers
    norm_eps: float
    tie_word_embeddings: bool
    max_position_embeddings: int
    mixers: tuple[Mixer | None, ...]  # one a layer; None: it is an MLP alone
    experts: Experts
    moe_layers: tuple[int, ...]
    bare_layers: tuple[int, ...] = ()  # without an MLP: a mixer alone
    block: BlockKind = "sequential"
    norm: Literal["rms", "layer"] = "rms"  # "layer": LayerNorm
    norm_bias: bool = True  # of LayerNorms
    norm_offset: float = 0.0  # that is added to weights of norms: 1 where a model learns how far they are from 1
    mlp_bias: bool = False  # on dense and shared MLPs
    mlp_gate: Gate = SILU  # of dense and shared MLPs
    lm_head_bias: bool = False
    logits_softcap: float = 0.0  # logits are held within it; 0: they are not
    multipliers: Multipliers = Multipliers()
    names: TensorNames = field(default_factory=TensorNames)

    @property
    def num_hidden_layers(self) -> int:
        """Layers, the head not counted."""
        return len(self.mixers)

    @property
    def has_state(self) -> bool:
        """Whether any layer keeps a state that cannot be rolled back."""
        return any(isinstance(mixer, Recurrent) for mixer in self.mixers)
