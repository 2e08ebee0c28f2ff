"""A checkpoint of random weights for any config.json: the tensors that its family asks for, in the shapes it wants.

Weights are independent normal numbers at a trained model's scale, routers' at one over the root of the hidden size, so
that routing spreads; norms are near 1. For sizes, memory and timing, never for quality.
"""

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from random_checkpoint import byte_tokenizer

from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import INDEX_NAME
from moedge.export.families import read_model_config
from moedge.export.planning.imagined import Imagined
from moedge.export.planning.unwritten_bundle import outline_manifest
from moedge.export.schemes import parse_plan

SHARD_BYTES = 4 << 30
CHUNK = 1 << 24  # numbers
SCALE = 0.02
_WIDTH = {"BF16": 2, "U8": 1}
_NEAR_ONE = ("layer_scalar", ".scale", "per_expert_scale")
_ROUTERS = ("mlp.gate.weight", "mixer.gate.weight", "feed_forward.gate.weight")


class Drawing:
    """Random numbers, many a second: each is one of 65,536 that stand for equal shares of a normal distribution."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self._normal = np.sort(np.random.default_rng(0).standard_normal(1 << 16)).astype(np.float32)

    def normal(self, count: int, scale: float, mean: float = 0.0) -> Iterator[NDArray[np.uint8]]:
        """The bytes of bf16 numbers, a chunk at a time."""
        table = (mean + scale * self._normal).astype(ml_dtypes.bfloat16).view(np.uint16)
        for start in range(0, count, CHUNK):
            yield table[self._words(min(CHUNK, count - start))].view(np.uint8)

    def codes(self, count: int, low: int, high: int) -> Iterator[NDArray[np.uint8]]:
        """Bytes from `low` to `high`."""
        for start in range(0, count, CHUNK):
            yield self._rng.integers(low, high, min(CHUNK, count - start), dtype=np.uint8, endpoint=True)

    def _words(self, count: int) -> NDArray[np.uint16]:
        raw = self._rng.integers(0, 1 << 64, -(-count // 4), dtype=np.uint64)
        return raw.view(np.uint16)[:count]


def wanted_tensors(config: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name to dtype and shape of each tensor of a model's checkpoint, in the order of the model."""
    model = read_model_config(Config(config, "config.json"))
    source = Imagined(config, Path(), model.names)
    outline_manifest("", source, model, 64, parse_plan("balanced"), "native")
    return {name: (source.dtype(name), shape) for name, shape in source.wanted.items()}


def write_imagined_checkpoint(folder: Path, config: dict[str, Any], seed: int = 0) -> None:
    """Write it, in shards, with a byte tokenizer; a chunk of a tensor is in memory at a time."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    byte_tokenizer(folder / "tokenizer.json")
    tensors, drawing, index = wanted_tensors(config), Drawing(seed), dict[str, str]()
    shards: list[list[str]] = [[]]
    size = 0
    for name, (dtype, shape) in tensors.items():
        if size > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += prod(shape) * _WIDTH[dtype]
    for number, names in enumerate(shards, 1):
        shard = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / shard, {name: tensors[name] for name in names}, drawing)
        index |= dict.fromkeys(names, shard)
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _write_shard(path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], drawing: Drawing) -> None:
    """A safetensors file: length of the header, header, the tensors' bytes, those of wider numbers first."""
    ordered = sorted(tensors, key=lambda name: (-_WIDTH[tensors[name][0]], name))
    header, end = dict[str, Any](), 0
    for name in ordered:
        dtype, shape = tensors[name]
        offsets = [end, end := end + prod(shape) * _WIDTH[dtype]]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            for chunk in _data(name, *tensors[name], drawing):
                file.write(chunk)


def _data(name: str, dtype: str, shape: tuple[int, ...], drawing: Drawing) -> Iterator[NDArray[np.uint8]]:
    count = prod(shape)
    if dtype == "U8":  # MXFP4: codes, and a power of two a block
        yield from drawing.codes(count, *((119, 121) if name.endswith("_scales") else (0, 255)))
    elif name.endswith(_NEAR_ONE) or (len(shape) == 1 and name.endswith("weight")):
        yield from drawing.normal(count, SCALE, 1.0)  # norms, and what else multiplies
    elif "router" in name or name.endswith(_ROUTERS):
        yield from drawing.normal(count, shape[-1] ** -0.5)
    else:
        yield from drawing.normal(count, SCALE)
