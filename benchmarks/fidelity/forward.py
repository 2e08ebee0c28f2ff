"""The fp32 forward pass in numpy: the reference that every engine is compared with, and what calibration looks at.

Layers are separate functions, so that whoever makes a mixture can run a prefix of it. No cache: whole windows at once.
"""

from collections.abc import Callable, Iterator

import numpy as np

from fidelity.model import Array, Model, Shape

# Told of every matrix's input: the tensor's name, the expert (0 outside experts), rows [n, inputs].
Watch = Callable[[str, int, Array], None]


def unwatched(name: str, expert: int, rows: Array) -> None:
    """Look at nothing."""


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    return x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(eps)) * weight


def silu(x: Array) -> Array:
    """x * sigmoid(x); large negative x give 0 without overflow."""
    return x / (1 + np.exp(np.minimum(-x, np.float32(80))))


def embed(model: Model, ids: np.ndarray) -> Array:
    """Rows of the table, [windows, tokens, hidden]."""
    return model.tensors["token_embd.weight"][ids]


def attend(model: Model, layer: int, x: Array, watch: Watch = unwatched) -> Array:
    """x [windows, tokens, hidden] with a layer's causal attention added."""
    shape, (windows, tokens, _) = model.shape, x.shape
    dim, groups = shape.head_dim, shape.heads // shape.kv_heads
    h = rms_norm(x, model.layer(layer, "attn_norm"), shape.eps)

    def heads(part: str, count: int) -> Array:
        watch(f"blk.{layer}.{part}.weight", 0, h.reshape(-1, shape.hidden))
        return (h @ model.layer(layer, part).T).reshape(windows, tokens, count, dim).transpose(0, 2, 1, 3)

    cos, sin = rotary(shape, tokens)
    query = rotated(heads("attn_q", shape.heads), cos, sin)
    key = rotated(heads("attn_k", shape.kv_heads), cos, sin).repeat(groups, axis=1)
    value = heads("attn_v", shape.kv_heads).repeat(groups, axis=1)
    scores = query @ key.transpose(0, 1, 3, 2) * np.float32(dim**-0.5)  # [windows, heads, tokens, tokens]
    scores[..., np.triu(np.ones((tokens, tokens), bool), 1)] = -np.inf
    mixed = (softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(windows, tokens, shape.heads * dim)
    watch(f"blk.{layer}.attn_output.weight", 0, mixed.reshape(-1, shape.heads * dim))
    return x + mixed @ model.layer(layer, "attn_output").T


def rotary(shape: Shape, tokens: int) -> tuple[Array, Array]:
    """Cosine and sine [tokens, head_dim], both halves alike."""
    half = shape.theta ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angle = np.tile(np.arange(tokens)[:, None] * half, 2)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotated(x: Array, cos: Array, sin: Array) -> Array:
    """Query or key heads turned by their positions."""
    half = x.shape[-1] // 2
    return x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin


def softmax(x: Array) -> Array:
    """Over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def ffn_input(model: Model, layer: int, x: Array) -> Array:
    """What a layer's feed-forward reads, one row a token: [windows * tokens, hidden]."""
    return rms_norm(x, model.layer(layer, "ffn_norm"), model.shape.eps).reshape(-1, model.shape.hidden)


def feed_forward(model: Model, layer: int, h: Array, watch: Watch = unwatched) -> Array:
    """A layer's feed-forward or mixture of rows h [n, hidden]."""
    name = f"blk.{layer}.ffn"
    if not model.shape.experts:
        watch(f"{name}_gate.weight", 0, h)
        watch(f"{name}_up.weight", 0, h)
        inner = silu(h @ model.layer(layer, "ffn_gate").T) * (h @ model.layer(layer, "ffn_up").T)
        watch(f"{name}_down.weight", 0, inner)
        return inner @ model.layer(layer, "ffn_down").T
    weights = route(h @ model.layer(layer, "ffn_gate_inp").T, model.shape.chosen)
    out = np.zeros_like(h)
    for expert in range(model.shape.experts):
        [rows] = np.nonzero(weights[:, expert])
        part = h[rows]
        watch(f"{name}_gate_exps.weight", expert, part)
        watch(f"{name}_up_exps.weight", expert, part)
        gate, up = (part @ model.layer(layer, f"ffn_{p}_exps")[expert].T for p in ("gate", "up"))
        inner = silu(gate) * up
        watch(f"{name}_down_exps.weight", expert, inner)
        out[rows] += weights[rows, expert, None] * (inner @ model.layer(layer, "ffn_down_exps")[expert].T)
    return out


def route(logits: Array, chosen: int) -> Array:
    """Weights [n, experts] of the `chosen` highest logits of each row, softmax over these; 0 elsewhere."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :chosen]
    weights = np.zeros_like(logits)
    np.put_along_axis(weights, order, softmax(np.take_along_axis(logits, order, 1)), 1)
    return weights


def hidden_states(model: Model, ids: np.ndarray, watch: Watch = unwatched) -> Array:
    """Normed states before the head, [windows, tokens, hidden], of ids [windows, tokens]."""
    x = embed(model, ids)
    for layer in range(model.shape.layers):
        x = attend(model, layer, x, watch)
        x = x + feed_forward(model, layer, ffn_input(model, layer, x), watch).reshape(x.shape)
    return rms_norm(x, model.tensors["output_norm.weight"], model.shape.eps)


def logits_of(model: Model, ids: np.ndarray, batch: int = 4) -> Iterator[Array]:
    """Logits [tokens, vocab] window by window."""
    for start in range(0, len(ids), batch):
        for state in hidden_states(model, ids[start : start + batch]):
            yield state @ model.tensors["token_embd.weight"].T
