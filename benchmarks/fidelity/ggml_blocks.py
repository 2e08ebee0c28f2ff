"""GGML's own quantizers on single matrices, and which format llama.cpp gives which matrix where rows fit.

Rows that are no multiple of 256 cannot be K-quants in llama.cpp. Here rows of one matrix are laid end to end, so that a
super-block of 256 may cross a row's end while blocks of 16 and 32 never do: what the format would be on a wider matrix
of the same weights. Weights only: the figures have no rounding of activations, about a hundredth of KL at four bits.
"""

import ctypes
import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from fidelity.model import Array, Model, matrices

MIXTURES = ("Q4_0", "Q4_K_S", "Q4_K_M", "IQ4_XS")


class Ggml:
    """libggml-base, which llama-cpp-python brings along."""

    def __init__(self, library: Path) -> None:
        self._quantize = ctypes.CDLL(str(library)).ggml_quantize_chunk
        self._quantize.restype = ctypes.c_size_t
        integers = [ctypes.c_int64] * 3
        self._quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *integers, ctypes.c_void_p]

    def rounded(self, weights: Array, form: str, importance: Array | None = None) -> Array:
        """The matrix as the format holds it; `importance` [columns] weighs errors. ValueError if blocks do not fit."""
        kind = GGMLQuantizationType[form]
        block, size = GGML_QUANT_SIZES[kind]
        rows, columns = weights.shape
        joined = block // math.gcd(block, columns)
        if rows % joined:
            raise ValueError(f"{rows} rows of {columns} do not make blocks of {block}")
        weights = np.ascontiguousarray(weights, np.float32)
        coded = np.empty((rows // joined, columns * joined // block * size), np.uint8)
        weighed = None if importance is None else np.tile(np.ascontiguousarray(importance, np.float32), joined)
        written = self._quantize(
            int(kind),
            weights.ctypes.data,
            coded.ctypes.data,
            0,
            rows // joined,
            columns * joined,
            None if weighed is None else weighed.ctypes.data,
        )
        if written != coded.nbytes:
            raise RuntimeError(f"ggml wrote {written} bytes of {form} where {coded.nbytes} were due")
        return np.asarray(dequantize(coded, kind), np.float32).reshape(weights.shape)


def library() -> Path:
    """libggml-base of the llama-cpp-python that is installed; RuntimeError if none is."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise RuntimeError("llama-cpp-python is not installed: use make bench-fidelity")
    return Path(spec.origin).parent / "lib" / "libggml-base.so"


def bits(form: str) -> float:
    """Bits a weight of a format."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[form]]
    return size * 8 / block


def more_bits(layer: int, layers: int) -> bool:
    """Whether llama.cpp's _M mixtures give a layer's value and down matrices six bits."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def form_of(mixture: str, name: str, layers: int, weighed: bool) -> str:
    """The format that llama.cpp's mixture gives a tensor of a model whose head is the table, rows fitting.

    As of llama-cpp-python 0.3.36, for models of fewer than four query heads a key head and of any number of experts but
    8: these are exceptions there.
    """
    if name == "token_embd.weight":
        return "Q6_K"
    _, number, part, _ = name.split(".")
    layer, part = int(number), part.removesuffix("_exps")
    first = layer < layers // 8
    match mixture, part:
        case "Q4_K_M", "attn_v" | "ffn_down":
            return "Q6_K" if more_bits(layer, layers) else "Q4_K"
        case "Q4_K_S", "attn_v":
            return "Q5_K" if layer < 4 else "Q4_K"
        case "Q4_K_S", "ffn_down":
            return "Q5_K" if first else "Q4_K"
        case (("Q4_K_M" | "Q4_K_S"), _):
            return "Q4_K"
        case "IQ4_XS", "ffn_down":
            return "Q5_K" if first and not weighed else "IQ4_XS"
        case "Q4_0", "ffn_down":
            return "Q4_1" if first and weighed else "Q4_0"
        case (("IQ4_XS" | "Q4_0"), _):
            return mixture
    raise ValueError(f"no mixture {mixture}: there are {', '.join(MIXTURES)}")


def rounded_matrices(
    ggml: Ggml, model: Model, mixture: str, moments: dict[str, Array] | None
) -> Iterator[tuple[str, Array, float]]:
    """Every matrix of the model by name as a mixture holds it, and its bits a weight; an expert at a time."""
    for name in matrices(model):
        weights, form = model.tensors[name], form_of(mixture, name, model.shape.layers, moments is not None)
        importance = None if moments is None else moments.get(name)  # none for the table, as llama-imatrix has none
        stack = weights if weights.ndim == 3 else weights[None]
        made = [
            ggml.rounded(one, form, None if importance is None else importance[expert])
            for expert, one in enumerate(stack)
        ]
        yield name, np.stack(made).reshape(weights.shape), bits(form)
