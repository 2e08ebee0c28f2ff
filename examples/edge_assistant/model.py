"""Owns the training model: DeepSeek-V3's architecture (MLA, sigmoid router, shared expert) and fake quantization.

Experts are stacks `[experts, out, in]`; `store` splits them into the tensors that a checkpoint names. It does not own
serving: moedge and transformers read the checkpoint.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The sizes of the model, spelt as in `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    first_k_dense_replace: int
    intermediate_size: int
    moe_intermediate_size: int
    n_routed_experts: int
    num_experts_per_tok: int
    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    routed_scaling_factor: float
    rope_theta: float


def fake_int4_symmetric(w: Tensor) -> Tensor:
    """Kimi's grid: groups of 32 along the input, s = bf16(absmax / 7), q = clamp(round(w / s), -7, 7).

    The gradient passes as if nothing were rounded; so below.
    """
    groups = w.detach().float().unflatten(-1, (-1, 32))
    scale = (groups.abs().amax(-1, keepdim=True) / 7).clamp_min(1e-8).bfloat16().float()
    quantized = ((groups / scale).round().clamp(-7, 7) * scale).flatten(-2)
    return w + (quantized.to(w.dtype) - w.detach())


def fake_int4_signed(w: Tensor) -> Tensor:
    """moedge's dense grid: blocks of 64, s = (signed value of largest magnitude) / -8, clamped to -8..7."""
    blocks = w.detach().float().unflatten(-1, (-1, 64))
    peak = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = peak / -8
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    quantized = ((blocks / scale).round().clamp(-8, 7) * scale).flatten(-2)
    return w + (quantized.to(w.dtype) - w.detach())


class Linear(nn.Module):
    """A matrix [out, in] without bias; `quantize` turns the dense grid on."""

    def __init__(self, inputs: int, outputs: int, quantizable: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5 * 0.6)
        self.quantizable = quantizable
        self.quantize = False

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        return F.linear(x, fake_int4_signed(self.weight) if self.quantize else self.weight)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + 1e-6) · weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension, in fp32."""
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, 1e-6)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Interleaved RoPE: pairs (0,1), (2,3), … of the last dimension; they come out as halves, for q and k alike."""
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.cat((even * cos - odd * sin, odd * cos + even * sin), -1)


class Attention(nn.Module):
    """Multi-head latent attention without a query latent."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        self.q_proj = Linear(s.hidden_size, s.num_attention_heads * (s.qk_nope_head_dim + s.qk_rope_head_dim))
        self.kv_a_proj_with_mqa = Linear(s.hidden_size, s.kv_lora_rank + s.qk_rope_head_dim)
        self.kv_a_layernorm = RMSNorm(s.kv_lora_rank)
        self.kv_b_proj = Linear(s.kv_lora_rank, s.num_attention_heads * (s.qk_nope_head_dim + s.v_head_dim), False)
        self.o_proj = Linear(s.num_attention_heads * s.v_head_dim, s.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: list[Tensor] | None, mask: Tensor | None) -> Tensor:
        """[batch, length, hidden] to the same; a `cache` is extended in place, a boolean `mask` replaces causality."""
        s, (batch, length, _) = self.s, x.shape
        q = self.q_proj(x).view(batch, length, s.num_attention_heads, -1).transpose(1, 2)
        q_nope, q_rope = q.split((s.qk_nope_head_dim, s.qk_rope_head_dim), -1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((s.kv_lora_rank, s.qk_rope_head_dim), -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).view(batch, length, s.num_attention_heads, -1).transpose(1, 2)
        k_nope, v = kv.split((s.qk_nope_head_dim, s.v_head_dim), -1)
        k_rope = rotate(k_rope.unsqueeze(1), cos, sin).expand(-1, s.num_attention_heads, -1, -1)
        q = torch.cat((q_nope, rotate(q_rope, cos, sin).to(q_nope.dtype)), -1)
        k = torch.cat((k_nope, k_rope.to(k_nope.dtype)), -1)
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
            cache[:] = [k, v]
        v = F.pad(v, (0, k.shape[-1] - s.v_head_dim))  # the fast kernel wants one head size
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)[..., : s.v_head_dim]
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class DenseMLP(nn.Module):
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = Linear(hidden, width), Linear(hidden, width)
        self.down_proj = Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] to [..., hidden]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MoE(nn.Module):
    """Sigmoid router with one group, routed experts, one shared expert. `load` counts each expert's tokens."""

    bias: Tensor
    load: Tensor

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s, self.quantize = s, False
        hidden, width, experts = s.hidden_size, s.moe_intermediate_size, s.n_routed_experts
        self.router = nn.Parameter(torch.randn(experts, hidden) * hidden**-0.5)
        self.gate_up = nn.Parameter(torch.randn(experts, 2 * width, hidden) * hidden**-0.5 * 0.6)
        self.down = nn.Parameter(torch.randn(experts, hidden, width) * width**-0.5 * 0.6)
        self.shared = DenseMLP(hidden, width)
        self.register_buffer("bias", torch.zeros(experts))
        self.register_buffer("load", torch.zeros(experts), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Route each token to its experts: tokens are sorted by expert, so that each runs one matmul a matrix."""
        s = self.s
        tokens = x.reshape(-1, s.hidden_size)  # [tokens, hidden]
        with torch.autocast("cpu", enabled=False):
            scores = F.linear(tokens.float(), self.router).sigmoid()  # [tokens, experts]
        chosen = (scores.detach() + self.bias).topk(s.num_experts_per_tok, -1).indices  # [tokens, top_k]
        weights = scores.gather(-1, chosen)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * s.routed_scaling_factor
        flat = chosen.flatten()
        order = flat.argsort()
        counts = torch.bincount(flat, minlength=s.n_routed_experts)
        self.load += counts
        gate_up = fake_int4_symmetric(self.gate_up) if self.quantize else self.gate_up
        down = fake_int4_symmetric(self.down) if self.quantize else self.down
        rows = order // s.num_experts_per_tok
        if torch.is_autocast_enabled("cpu"):
            tokens, gate_up, down = tokens.bfloat16(), gate_up.bfloat16(), down.bfloat16()
        outputs = []
        parts = tokens.index_select(0, rows).split(counts.tolist())
        for part, w_in, w_out in zip(parts, gate_up.unbind(), down.unbind(), strict=True):
            count = len(part)  # few distinct sizes: oneDNN compiles a kernel for each
            gate, up = F.linear(F.pad(part, (0, 0, 0, -count % 64)), w_in).chunk(2, -1)
            outputs.append(F.linear(F.silu(gate) * up, w_out)[:count])
        scaled = torch.cat(outputs).float() * weights.flatten()[order, None]
        routed = torch.zeros_like(tokens, dtype=torch.float32).index_add(0, rows, scaled)
        return (routed + self.shared(tokens)).view_as(x)

    @torch.no_grad()
    def balance(self, rate: float) -> None:
        """DeepSeek-V3's balance without auxiliary loss: raise the bias of experts below the mean load."""
        self.bias += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, s: Shape, index: int) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(s.hidden_size), RMSNorm(s.hidden_size)
        self.self_attn = Attention(s)
        dense = index < s.first_k_dense_replace
        self.mlp: DenseMLP | MoE = DenseMLP(s.hidden_size, s.intermediate_size) if dense else MoE(s)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: list[Tensor] | None, mask: Tensor | None) -> Tensor:
        """[batch, length, hidden] to the same."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Assistant(nn.Module):
    """The whole model: token ids [batch, length] to final hidden states; `logits` maps them to the vocabulary."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        self.embed_tokens = nn.Parameter(torch.randn(s.vocab_size, s.hidden_size) * 0.5)
        self.layers = nn.ModuleList(Layer(s, i) for i in range(s.num_hidden_layers))
        self.norm = RMSNorm(s.hidden_size)
        self.lm_head = Linear(s.hidden_size, s.vocab_size)
        self.quantize = False

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        caches: list[list[Tensor]] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states [batch, length, hidden]."""
        s = self.s
        if positions is None:
            positions = torch.arange(ids.shape[1])[None]
        half = torch.arange(0, s.qk_rope_head_dim, 2) / s.qk_rope_head_dim
        angles = positions[:, None, :, None].float() * s.rope_theta**-half
        cos, sin = angles.cos(), angles.sin()
        x = F.embedding(ids, fake_int4_signed(self.embed_tokens) if self.quantize else self.embed_tokens)
        for i, layer in enumerate(self.layers):
            x = layer(x, cos, sin, None if caches is None else caches[i], mask)
        out: Tensor = self.norm(x)
        return out

    def set_quantize(self, on: bool) -> None:
        """Turn fake quantization of every matrix that the deployed model quantizes on or off."""
        self.quantize = on
        for module in self.modules():
            if isinstance(module, MoE) or (isinstance(module, Linear) and module.quantizable):
                module.quantize = on

    def moe_layers(self) -> list[MoE]:
        """The MoE blocks, first to last."""
        return [m for m in self.modules() if isinstance(m, MoE)]
