"""The weights of a shape: independent normal numbers of mean zero, the same for every engine, made anew where needed.

A number depends on the seed, its tensor's name and its place, so that nothing of many gigabytes has to lie on a disk
for all engines to have the same model. Names and sizes are those of transformers' module; checkpoint.py and
gguf_file.py give them their published names.
"""

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from peers.shapes import PeerShape

Bf16 = NDArray[Any]  # of ml_dtypes.bfloat16
RULE = 1  # counts how numbers are drawn: another rule, another number, so that no old file is taken for a new one
CHUNK = 1 << 22  # numbers that one thread makes at a time
LOGITS = 2.5  # their standard deviation: what is likely stands out as in a trained model
BIAS = 0.02


@dataclass(frozen=True)
class Weight:
    """A tensor of transformers' module: its name there, its sizes, and how its numbers spread (0: all are one)."""

    name: str
    shape: tuple[int, ...]
    std: float


def weights(shape: PeerShape) -> list[Weight]:
    """Every tensor of the model, in the order of its modules; a tied head is the embedding and not listed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**shape.config)
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(config)
    tied = bool(shape.config["tie_word_embeddings"])
    sizes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    return [
        Weight(name, size, _std(shape, name, size))
        for name, size in sizes.items()
        if not (tied and name == "lm_head.weight")
    ]


def numbers(weight: Weight, seed: int = 0) -> Bf16:
    """Its values in bf16."""
    if not weight.std:
        return np.ones(weight.shape, ml_dtypes.bfloat16)
    count = int(np.prod(weight.shape))
    out = np.empty(count, np.uint16)
    table = (_quantiles() * weight.std).astype(ml_dtypes.bfloat16).view(np.uint16)
    base = zlib.crc32(weight.name.encode())

    def fill(start: int) -> None:
        rng = np.random.Generator(np.random.SFC64([seed, base, start]))
        end = min(start + CHUNK, count)
        places = rng.integers(0, 1 << 64, -(-(end - start) // 4), dtype=np.uint64).view(np.uint16)
        out[start:end] = table[places[: end - start]]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, range(0, count, CHUNK)))
    return out.view(ml_dtypes.bfloat16).reshape(weight.shape)


def all_numbers(shape: PeerShape, seed: int = 0) -> Iterator[tuple[Weight, Bf16]]:
    """Every tensor with its values, one after the other."""
    return ((weight, numbers(weight, seed)) for weight in weights(shape))


@lru_cache
def _quantiles() -> NDArray[np.float32]:
    """65,536 numbers that spread as a normal distribution's do, fp32."""
    normal = NormalDist()
    upper = [normal.inv_cdf((i + 0.5) / 65536) for i in range(32768, 65536)]
    return np.array([*(-x for x in reversed(upper)), *upper], np.float32)


def _std(shape: PeerShape, name: str, size: tuple[int, ...]) -> float:
    """Matrices keep the scale of what they read; so the residual stream begins at 1, and branches add to it.

    A tied head would mostly say the last token again, as the stream holds its row: then the last norm's numbers are of
    both signs, which costs nothing and is found by no engine.
    """
    config = shape.config
    tied, hidden = bool(config["tie_word_embeddings"]), config["hidden_size"]
    embedding = 1 / config.get("embedding_multiplier", 1.0)
    if name == "model.embed_tokens.weight":
        return embedding
    if name == "lm_head.weight":
        return LOGITS / hidden**0.5
    if "norm" in name:
        last = name in ("model.norm.weight", "model.embedding_norm.weight")
        return LOGITS * config.get("logits_scaling", 1.0) / (embedding * hidden**0.5) if tied and last else 0.0
    if name.endswith("sinks"):
        return 1.0
    if "bias" in name:
        return BIAS
    if name.endswith("conv.weight"):
        return size[-1] ** -0.5
    reads = size[-2] if shape.config["model_type"] == "gpt_oss" and len(size) == 3 else size[-1]
    gain = shape.mixing if name.endswith(("self_attn.o_proj.weight", "self_attn.out_proj.weight")) else 1.0
    return gain * float(reads) ** -0.5
