"""What a model is, as values: the axes on which Mixture-of-Experts decoders differ, each a frozen dataclass.

A family (export/families) reads a checkpoint's config.json into a `ModelConfig`; graph modules read nothing else.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Yarn:
    """YaRN scaling of rotary frequencies (Peng et al. 2023, arXiv:2309.00071), with DeepSeek's two mscales."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None
    truncate: bool = True

    def magnitude(self, mscale: float) -> float:
        """0.1 · mscale · ln(factor) + 1, by which YaRN sharpens attention."""
        return 1.0 if self.factor <= 1 else 0.1 * mscale * math.log(self.factor) + 1.0


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding over `dim` of each head; `interleaved` pairs neighbours instead of halves on disk."""

    theta: float
    dim: int
    interleaved: bool = False
    yarn: Yarn | None = None

    def tables(self, length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines [length, dim / 2] for positions 0 … length-1."""
        exponents = np.arange(0, self.dim, 2, dtype=np.float32) / np.float32(self.dim)
        inverse = (1.0 / np.float32(self.theta) ** exponents).astype(np.float32)
        magnitude = 1.0
        if self.yarn is not None:
            inverse, magnitude = self._yarn(self.yarn, inverse)
        angles = np.arange(length, dtype=np.float32)[:, None] * inverse
        return (np.cos(angles) * magnitude).astype(np.float32), (np.sin(angles) * magnitude).astype(np.float32)

    def _yarn(self, yarn: Yarn, inverse: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        def dimension_of(rotations: float) -> float:
            # the dimension whose wave turns that often over the original context
            turns = yarn.original_max_position_embeddings / (rotations * 2 * math.pi)
            return self.dim * math.log(turns) / (2 * math.log(self.theta))

        low, high = dimension_of(yarn.beta_fast), dimension_of(yarn.beta_slow)
        if yarn.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dim - 1)
        ramp = np.clip((np.arange(self.dim // 2) - low) / max(high - low, 1e-3), 0, 1)
        scaled = inverse / yarn.factor * ramp + inverse * (1 - ramp)
        if yarn.attention_factor is not None:
            magnitude = yarn.attention_factor
        elif yarn.mscale and yarn.mscale_all_dim:
            magnitude = yarn.magnitude(yarn.mscale) / yarn.magnitude(yarn.mscale_all_dim)
        else:
            magnitude = yarn.magnitude(1.0)
        return scaled.astype(np.float32), magnitude


@dataclass(frozen=True)
class GroupedQuery:
    """Grouped-query attention; `qk_norm` normalises each head of q and k before the rotation."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    qk_norm: bool = False
    bias: bool = False  # on q, k, v
    output_bias: bool = False


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
    latent_norm_eps: float
    bias: bool = False  # on the down-projections and the output

    @property
    def latent_width(self) -> int:
        """Numbers a token keeps in the cache."""
        return self.kv_lora_rank + self.qk_rope_head_dim


@dataclass(frozen=True)
class Router:
    """Which experts a token goes to and how much each counts.

    scores = scoring(x · W); experts = top k of scores + correction bias, within the best groups;
    weights = scores of those, divided by their sum if `normalize`, times `scale`.
    """

    scoring: Literal["softmax", "sigmoid"]
    normalize: bool
    correction_bias: bool = False
    n_group: int = 1
    topk_group: int = 1
    scale: float = 1.0


@dataclass(frozen=True)
class Experts:
    """The routed experts of a layer and the shared ones, which are one MLP of their joint width (0: none)."""

    num_experts: int
    num_experts_per_tok: int
    intermediate_size: int
    router: Router
    shared_intermediate_size: int = 0


@dataclass(frozen=True)
class TensorNames:
    """Where tensors stand in the checkpoint; `{layer}` and `{expert}` are filled in. Weights end in `.weight`."""

    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    lm_head: str = "lm_head"
    input_norm: str = "model.layers.{layer}.input_layernorm"
    post_attention_norm: str = "model.layers.{layer}.post_attention_layernorm"
    attention: str = "model.layers.{layer}.self_attn"
    mlp: str = "model.layers.{layer}.mlp"
    router: str = "model.layers.{layer}.mlp.gate"
    correction_bias: str = "model.layers.{layer}.mlp.gate.e_score_correction_bias"
    expert: str = "model.layers.{layer}.mlp.experts.{expert}"
    shared_expert: str = "model.layers.{layer}.mlp.shared_experts"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    ignored: tuple[str, ...] = ()  # patterns of tensors that are rightly left out


@dataclass(frozen=True)
class ModelConfig:
    """A whole decoder: pre-norm RMSNorm blocks of attention and SiLU-gated MLP, dense or Mixture-of-Experts."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int  # of dense layers
    rms_norm_eps: float
    tie_word_embeddings: bool
    max_position_embeddings: int
    attention: GroupedQuery | MultiHeadLatent
    rope: Rope
    experts: Experts
    moe_layers: tuple[int, ...]
    names: TensorNames = field(default_factory=TensorNames)
