"""Granite with windows: sinks in all layers, positions a layer or none, Granite's multipliers.

Source: modeling_granitemoe_swa.py of transformers 5.24.
"""

from dataclasses import replace

from moedge.export.checkpoint.config_json import Config
from moedge.export.families.granitemoe import read as read_granite
from moedge.export.model.config import GroupedQuery, ModelConfig
from moedge.export.model.layer_kinds import FULL, SLIDING, read_kinds

MODEL_TYPES = {"granitemoe_swa": "Granite Swash 3B-A600M"}
ATTENTION = "grouped-query"
LEFT_OUT = ""


def read(config: Config) -> ModelConfig:
    """The model that a granitemoe_swa config.json describes."""
    model = read_granite(config)
    layers, window = model.num_hidden_layers, config.integer("sliding_window", 128)
    usual = [SLIDING if i % 4 else FULL for i in range(layers)]
    kinds = read_kinds(config, "layer_types", layers, usual, FULL, SLIDING)
    thetas = config.numbers("layer_rope_theta") if config.has("layer_rope_theta") else (None,) * layers
    if len(thetas) != layers:
        raise config.refuse("layer_rope_theta", f"it must name each of the {layers} layers")
    mixers = []
    for kind, theta, mixer in zip(kinds, thetas, model.mixers, strict=True):
        if not isinstance(mixer, GroupedQuery) or mixer.rope is None:
            raise AssertionError("Granite has this kind of attention alone")
        rope = mixer.rope if theta is None else replace(mixer.rope, theta=theta) if theta else None
        mixers.append(replace(mixer, sinks=True, window=window if kind == SLIDING else 0, rope=rope))
    return replace(model, mixers=tuple(mixers))
