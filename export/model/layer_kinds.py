"""What configurations say layer by layer: what kind each is, and what the kinds have of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config

FULL, SLIDING, LINEAR_ATTENTION = "full_attention", "sliding_attention", "linear_attention"
# as makers spell kinds that transformers 5 has one word for
SPELLINGS = {"attention": FULL, "mamba": LINEAR_ATTENTION, "mamba2": LINEAR_ATTENTION}


def read_kinds(config: Config, key: str, layers: int, otherwise: Sequence[str], *allowed: str) -> tuple[str, ...]:
    """The kind of each layer; `otherwise` where the config has no such list."""
    kinds = [SPELLINGS.get(kind, kind) for kind in config.texts(key)] or [*otherwise]
    if len(kinds) != layers:
        raise config.refuse(key, f"it must name each of the {layers} layers")
    for kind in kinds:
        if kind not in allowed:
            raise config.refuse(key, f"moedge knows {', '.join(allowed)} and not {kind!r}")
    return tuple(kinds)


def sparse_layers(config: Config, layers: int, otherwise: Sequence[str]) -> tuple[int, ...]:
    """The layers that `mlp_layer_types` calls sparse."""
    kinds = read_kinds(config, "mlp_layer_types", layers, otherwise, "dense", "sparse")
    return tuple(i for i, kind in enumerate(kinds) if kind == "sparse")


def dense_first(dense: int, layers: int) -> list[str]:
    """As `mlp_layer_types` would say it, of so many dense layers before all others."""
    return ["dense"] * min(dense, layers) + ["sparse"] * max(0, layers - dense)


def every(kind: str, interval: int, other: str, layers: int) -> list[str]:
    """Each `interval`-th layer of one kind, the others of the other."""
    return [other if (i + 1) % interval else kind for i in range(layers)]


def with_rope_of(config: Config, kind: str, defaults: Mapping[str, Any]) -> Config:
    """The configuration as layers of a kind see it, whose rotary parameters it may keep apart.

    Where it keeps none at all, they are the defaults of that kind.
    """
    parameters = config.section("rope_parameters")
    if not config.says_anything("rope_parameters"):
        return config.otherwise("rope_parameters", dict(defaults))
    if not parameters.has(FULL) and not parameters.has(SLIDING):
        return config
    if not parameters.has(kind):
        raise MoedgeError(f"{config.source} has no rope_parameters for its layers of {kind}: correct it.")
    return config.narrowed("rope_parameters", kind)
