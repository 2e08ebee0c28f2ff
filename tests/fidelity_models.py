"""Tiny decoders of random weights for the tests of benchmarks/fidelity."""

import numpy as np
from fidelity.model import Model, Shape

SHAPE = Shape(layers=2, hidden=64, width=192, heads=4, kv_heads=2, vocab=258, theta=1e4, eps=1e-5)


def dense_model(seed=0):
    rng, shape = np.random.default_rng(seed), SHAPE
    sizes = {
        "attn_q": (shape.hidden, shape.hidden),
        "attn_k": (shape.kv_heads * shape.head_dim, shape.hidden),
        "attn_v": (shape.kv_heads * shape.head_dim, shape.hidden),
        "attn_output": (shape.hidden, shape.hidden),
        "ffn_gate": (shape.width, shape.hidden),
        "ffn_up": (shape.width, shape.hidden),
        "ffn_down": (shape.hidden, shape.width),
    }
    tensors = {"token_embd.weight": drawn(rng, (shape.vocab, shape.hidden), 0.2)}
    for layer in range(shape.layers):
        for part, size in sizes.items():
            tensors[f"blk.{layer}.{part}.weight"] = drawn(rng, size, 1.5 * size[1] ** -0.5)
        for part in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{layer}.{part}.weight"] = 1 + drawn(rng, (shape.hidden,), 0.1)
    tensors["output_norm.weight"] = 1 + drawn(rng, (shape.hidden,), 0.1)
    return Model(shape, tensors)


def drawn(rng, size, scale):
    return (rng.standard_normal(size) * scale).astype(np.float32)


def token_windows(count=3, length=40, seed=1):
    return np.random.default_rng(seed).integers(2, SHAPE.vocab, (count, length))
