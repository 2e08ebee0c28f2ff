"""Figures of a bundle of a few layers, added up to as many layers of each kind as the whole model has.

Bytes of weights are read from the bundle's graph, tensor by tensor; caches are those that `moedge inspect` lists.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx_ir as ir
from shapes_2026 import Published

from moedge.devices.structure import structure
from moedge.export.checkpoint.config_json import Config
from moedge.export.families import read_model_config
from moedge.export.model.config import Mixer, ModelConfig
from moedge.quant.plan import is_raised
from moedge.runtime.bundle_report import CACHE_TYPE
from moedge.runtime.cache.buffer import FLOAT_BYTES
from moedge.runtime.cache.cache import cache_nbytes
from moedge.runtime.manifest import MODEL_NAME, CacheTensor

_LAYER = re.compile(r"\.layers\.(\d+)\.")
_ROTARY = re.compile(r"(cos|sin)(_\d+)?")
_CONSTANT = re.compile(r"constant_\d+")


@dataclass(frozen=True)
class Scaled:
    """Of the whole model, in bytes; a number for each of the lengths that were asked for."""

    parameters: int  # bytes of all weights, tables that are computed left out
    weights: Sequence[int]
    caches: Sequence[int]
    memory: Sequence[int]
    states: int  # of one length


@dataclass(frozen=True)
class Kinds:
    """What decides, layer by layer, what it takes."""

    model: ModelConfig

    def rest(self, layer: int) -> tuple[Mixer | None, bool, bool]:
        """Of all but routed experts."""
        return self.model.mixers[layer], layer in self.model.moe_layers, layer in self.model.bare_layers

    def cache(self, layer: int) -> tuple[Mixer | None, bool]:
        """The mixer, and whether it stands before the first router and so keeps exact numbers."""
        return self.model.mixers[layer], layer <= min(self.model.moe_layers)

    def layers(self) -> range:
        """Their numbers."""
        return range(self.model.num_hidden_layers)


def scale(bundle: Path, inspected: dict[str, Any], published: Published, lengths: Sequence[int]) -> Scaled:
    """Of a bundle made for the longest of the lengths; it ends where no layer is of a kind that the model has."""
    short, whole = (Kinds(read_model_config(Config(c, "config"))) for c in (published.short(), published.config))
    rest, experts, outside, rotary = _weights(bundle, inspected)
    rest_of = {short.rest(layer): rest[layer] for layer in short.layers()}
    experts_of = {is_raised(layer): experts[layer] for layer in short.model.moe_layers}
    fixed = outside + sum(_look_up(rest_of, whole.rest(layer)) for layer in whole.layers())
    fixed += sum(_look_up(experts_of, is_raised(layer), *experts_of.values()) for layer in whole.model.moe_layers)
    weights = [fixed + rotary * length // max(lengths) for length in lengths]
    tensors = _caches(inspected, short, whole)
    caches = [cache_nbytes(tensors, length, CACHE_TYPE) for length in lengths]
    # activations and the program are the same however many layers there are
    beside = inspected["estimated_need_bytes"] - inspected["estimated_memory_bytes"] - inspected["full_cache_bytes"]
    return Scaled(
        parameters=fixed,
        weights=weights,
        caches=caches,
        memory=[sum(pair) + beside for pair in zip(weights, caches, strict=True)],
        states=sum(prod(tensor.shape) * FLOAT_BYTES for tensor in tensors if tensor.is_state),
    )


def _look_up(found: dict[Any, int], kind: Any, *otherwise: int) -> int:
    """Where the scheme has the same for all layers, as for published codes, any of them tells."""
    if kind not in found and len(set(otherwise)) != 1:
        raise SystemExit(f"no layer of the cut is like {kind}")
    return found[kind] if kind in found else otherwise[0]


def _weights(bundle: Path, inspected: dict[str, Any]) -> tuple[dict[int, int], dict[int, int], int, int]:
    """Bytes by layer of all but routed experts and of these, of all outside of layers, and of rotary tables."""
    rest, experts = defaultdict[int, int](int), defaultdict[int, int](int)
    outside = rotary = 0
    for name, value in ir.load(bundle / MODEL_NAME).graph.initializers.items():
        if value.const_value is None or _CONSTANT.fullmatch(name):
            continue
        size = value.const_value.nbytes
        if _ROTARY.fullmatch(name):
            rotary += size
        elif (found := _LAYER.search(name)) is None:
            outside += size
        else:
            counted = experts if ".experts." in name else rest
            counted[int(found[1])] += size
    told = sum(group["bytes"] for group in inspected["tensors"])
    seen = outside + rotary + sum(rest.values()) + sum(experts.values())
    if abs(seen / told - 1) > 0.001:
        raise SystemExit(f"{bundle} has {seen} bytes of weights in its graph, and its manifest tells of {told}")
    return rest, experts, outside, rotary


def _caches(inspected: dict[str, Any], short: Kinds, whole: Kinds) -> list[CacheTensor]:
    """Those of all layers."""
    by_layer = defaultdict[int, list[CacheTensor]](list)
    for listed in inspected["cache"]:
        tensor = structure(listed, CacheTensor, "cache")
        by_layer[int(tensor.past.split(".")[1])].append(tensor)
    of_kind = {short.cache(layer): by_layer[layer] for layer in short.layers() if short.model.mixers[layer]}
    return [t for layer in whole.layers() if whole.model.mixers[layer] for t in of_kind[whole.cache(layer)]]
