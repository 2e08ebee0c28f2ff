"""onnxruntime's operators for four-bit floats and for mixers with a state: a model of one node each, its inputs, and
what the formulas of its documentation give for them in numpy.
"""

from pathlib import Path

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto, helper, save

EXPERTS, CHOSEN, WIDTH = 4, 2, 64  # of hidden states, and of an expert
TOKENS = 5
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(ml_dtypes.float8_e4m3fn): TensorProto.FLOAT8E4M3FN,
    np.dtype(ml_dtypes.float8_e8m0fnu): TensorProto.FLOAT8E8M0,
}


def write_models(folder: Path) -> None:
    """NAME.onnx, its inputs as NAME.in.npz, and what must come out as NAME.out.npz."""
    rng = np.random.default_rng(5)
    made = {
        "MXFP4 experts": four_bit_experts(rng, "fp4"),
        "NVFP4 experts": four_bit_experts(rng, "nvfp4"),
        "LinearAttention": linear_attention(rng),
        "CausalConvWithState": causal_convolution(rng),
    }
    for name, (model, inputs, outputs) in made.items():
        save(model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.in.npz", **inputs)
        np.savez(folder / f"{name}.out.npz", **outputs)


Numbers = dict[str, np.ndarray]
Case = tuple[ModelProto, Numbers, Numbers]


def four_bit_experts(rng: np.random.Generator, kind: str) -> Case:
    """QMoE of interleaved SwiGLU experts, as docs/qmoe.md has it."""
    first, codes_1, scales_1 = four_bit_weights(rng, kind, 2 * WIDTH)
    second, codes_2, scales_2 = four_bit_weights(rng, kind, WIDTH)
    x, scores = normal(rng, TOKENS, WIDTH), normal(rng, TOKENS, EXPERTS)
    shares = np.abs(normal(rng, TOKENS, EXPERTS))
    constants = {"codes_1": codes_1, "scales_1": scales_1, "codes_2": codes_2, "scales_2": scales_2}
    factors = np.full(EXPERTS, 0.25, np.float32)  # a power of two, or the kernel rounds the product with a scale
    constants |= {"factors_1": factors, "factors_2": factors}
    names = ["x", "scores", "codes_1", "scales_1", "", "codes_2", "scales_2", *[""] * 7, "shares"]
    how = {"activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.0, "activation_beta": 0.0}
    how |= {"k": CHOSEN, "expert_weight_bits": 4, "block_size": 32 if kind == "fp4" else 16, "quant_type": kind}
    how |= {"normalize_routing_weights": 0, "weights_prepacked": 1}
    y = np.zeros_like(x)
    for token, row in enumerate(x):
        for expert in np.argsort(-scores[token])[:CHOSEN]:
            gate, up = (0.25 * first[expert] @ row).reshape(-1, 2).T
            y[token] += shares[token, expert] * (0.25 * second[expert] @ (gate * sigmoid(gate) * up))
    inputs = {"x": x, "scores": scores, "shares": shares}
    model = one_node("QMoE", [*names, "factors_1", "factors_2"], ["y"], how, inputs, constants)
    return model, inputs, {"y": y}


def four_bit_weights(rng: np.random.Generator, kind: str, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [EXPERTS, rows, WIDTH], their codes [EXPERTS, rows, WIDTH/2], low nibble first, and scales of blocks."""
    block = 32 if kind == "fp4" else 16
    codes = rng.integers(0, 16, (EXPERTS, rows, WIDTH), dtype=np.uint8)
    shape = EXPERTS, rows, WIDTH // block
    if kind == "fp4":
        scales = rng.integers(122, 126, shape, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu)
    else:
        scales = rng.uniform(0.05, 0.4, shape).astype(ml_dtypes.float8_e4m3fn)
    weights = E2M1[codes] * np.repeat(scales.astype(np.float32), block, -1)
    return weights, codes[..., 0::2] | codes[..., 1::2] << 4, scales


def linear_attention(rng: np.random.Generator) -> Case:
    """The gated delta rule: S ← e^g S, S ← S + b k (v - Sᵀk)ᵀ, y = Sᵀq / √d; S [heads, d, d]."""
    heads, size = 4, 64
    q, v = normal(rng, TOKENS, heads, size), normal(rng, TOKENS, heads, size)
    k = normal(rng, TOKENS, heads, size)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    decay, beta = -np.abs(normal(rng, TOKENS, heads)) * 0.3, sigmoid(normal(rng, TOKENS, heads))
    past = normal(rng, heads, size, size) * 0.1
    state, y = past.astype(np.float64), np.zeros_like(v)
    for token in range(TOKENS):
        state *= np.exp(decay[token])[:, None, None]
        miss = v[token] - np.einsum("hkv,hk->hv", state, k[token])
        state += np.einsum("h,hk,hv->hkv", beta[token], k[token], miss)
        y[token] = np.einsum("hkv,hk->hv", state, q[token]) / np.sqrt(size)
    flat = {"q": q, "k": k, "v": v, "past": past, "decay": decay, "beta": beta}
    inputs = {n: a[None] if n == "past" else a.reshape(1, TOKENS, -1) for n, a in flat.items()}
    how = {"q_num_heads": heads, "kv_num_heads": heads, "update_rule": "gated_delta"}
    model = one_node("LinearAttention", [*inputs], ["y", "present"], how, inputs, {})
    return model, inputs, {"y": y.reshape(1, TOKENS, -1), "present": state[None].astype(np.float32)}


def causal_convolution(rng: np.random.Generator) -> Case:
    """Each channel by itself: y = silu(bias + Σ taps · the last inputs), of which the state keeps all but one."""
    channels, taps = 32, 4
    x, past = normal(rng, 1, channels, TOKENS), normal(rng, 1, channels, taps - 1)
    weight, bias = normal(rng, channels, 1, taps), normal(rng, channels)
    rows = np.concatenate([past, x], -1)
    windows = np.lib.stride_tricks.sliding_window_view(rows, taps, -1)  # [1, channels, TOKENS, taps]
    y = np.einsum("bctk,ck->bct", windows, weight[:, 0]) + bias[:, None]
    inputs = {"x": x, "weight": weight, "bias": bias, "past": past}
    model = one_node("CausalConvWithState", [*inputs], ["y", "present"], {"activation": "silu"}, inputs, {})
    return model, inputs, {"y": y * sigmoid(y), "present": rows[..., 1 - taps :]}


def one_node(
    operator: str, inputs: list[str], outputs: list[str], how: dict[str, object], given: Numbers, constants: Numbers
) -> ModelProto:
    """A model of com.microsoft's operator, whose constants are in it."""
    node = helper.make_node(operator, inputs, outputs, domain="com.microsoft", **how)
    told = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * a.ndim) for n, a in given.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    held = [helper.make_tensor(n, TYPES[a.dtype], a.shape, a.tobytes(), raw=True) for n, a in constants.items()]
    opsets = [helper.make_opsetid("", 25), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], operator, told, made, held)
    return helper.make_model(graph, opset_imports=opsets, ir_version=12)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
