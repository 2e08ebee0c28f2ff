"""ONNX Runtime's own weight quantizers on single matrices, as MatMulNBitsQuantizer runs them: four bits, table eight.

Weights only, since no exporter of theirs makes the model: onnxruntime-genai's builder (0.18) knows no Mixtral, and none
of the mixtures that it knows is the same function. Bits are those of an fp32 model: a block has an fp32 scale, and a
zero point as wide as its codes or, for hqq, a float.
"""

from collections.abc import Callable, Iterator

import numpy as np

from fidelity.model import Array, Model, matrices

# Rows [n, columns], bits, block -> the rows as they are stored.
Rounded = Callable[[Array, int, int], Array]


def nearest(weights: Array, bits: int, block: int) -> Array:
    """Round to nearest with zero points: the quantizer's default, and that of onnxruntime-genai's int4 models."""
    from onnxruntime.quantization import matmul_nbits_quantizer as ort

    config = ort.DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=False, bits=bits)
    packed, scales, zeros = ort.DefaultWeightOnlyQuantizer(config).qbits_block_quant(weights.T.copy())
    codes = unpacked(packed.reshape(len(weights), -1), bits).reshape(len(weights), -1, block)
    points = unpacked(zeros, bits)[:, : codes.shape[1], None]
    return ((codes - points) * scales[..., None]).reshape(len(weights), -1)[:, : weights.shape[1]]


def unpacked(codes: np.ndarray, bits: int) -> Array:
    """Bytes [rows, n] as numbers, the low nibble first."""
    if bits == 8:
        return codes.astype(np.float32)
    return np.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1).astype(np.float32)


def k_quant(weights: Array, bits: int, block: int) -> Array:
    """Scales and zero points by GGML's search, held as MatMulNBits holds them."""
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    codes, scales, zeros = quant_tensor_k_quant_cpu(weights, bits, block)
    return ((codes - zeros) * scales).astype(np.float32).reshape(weights.shape)


def hqq(weights: Array, bits: int, block: int) -> Array:
    """Half-quadratic quantization: zero points are floats."""
    import torch
    from onnxruntime.quantization import matmul_nbits_quantizer as ort

    quantizer = ort.HQQWeightOnlyQuantizer(ort.HQQWeightOnlyQuantConfig(block_size=block, bits=bits))
    codes, scales, zeros = quantizer.quantize_internal(torch.from_numpy(weights), bits=bits, group_size=block)
    blocks = codes.numpy().reshape(len(weights), -1, block)
    return ((blocks - zeros.numpy()[..., None]) * scales.numpy()[..., None]).astype(np.float32).reshape(weights.shape)


ALGORITHMS: dict[str, Rounded] = {"rtn": nearest, "k_quant": k_quant, "hqq": hqq}


def stored_bits(algorithm: str, bits: int, block: int) -> float:
    """Bits a weight on disk."""
    return bits + (32 + (32 if algorithm == "hqq" else bits)) / block


def rounded_matrices(model: Model, algorithm: str, block: int) -> Iterator[tuple[str, Array, float]]:
    """Every matrix of the model by name as the algorithm holds it, and its bits a weight."""
    for name in matrices(model):
        weights, bits = model.tensors[name], 8 if name == "token_embd.weight" else 4
        rows = np.ascontiguousarray(weights.reshape(-1, weights.shape[-1]))
        yield name, ALGORITHMS[algorithm](rows, bits, block).reshape(weights.shape), stored_bits(algorithm, bits, block)
