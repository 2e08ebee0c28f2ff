"""A dense model as a mixture of experts: its feed-forwards split by neuron.

`split_evenly` chooses every expert for every token, so that the mixture is the dense model but for the order of sums:
nothing is routed. Mixtures with real routing are made in routing.py, out of the same cut.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fidelity.model import Array, Model

PARTS = ("ffn_gate", "ffn_up", "ffn_down")


def cut(model: Model, layer: int, members: Sequence[np.ndarray]) -> dict[str, Array]:
    """A layer's experts by part, each of the neurons in one entry of `members`, all of one size; weights unchanged."""
    gate, up, down = (model.layer(layer, part) for part in PARTS)
    return {
        "ffn_gate_exps": np.stack([gate[neurons] for neurons in members]),
        "ffn_up_exps": np.stack([up[neurons] for neurons in members]),
        "ffn_down_exps": np.stack([down[:, neurons] for neurons in members]),
    }


def split_evenly(model: Model, experts: int) -> Model:
    """Neurons in order, a zero router, all experts chosen: each counts 1 / experts, which the down matrices make up."""
    width, rest = divmod(model.shape.width, experts)
    if rest:
        raise ValueError(f"{model.shape.width} neurons do not make {experts} experts of one size")
    members = np.arange(model.shape.width).reshape(experts, width)
    tensors = without_feed_forward(model)
    for layer in range(model.shape.layers):
        parts = cut(model, layer, list(members))
        parts["ffn_down_exps"] = parts["ffn_down_exps"] * np.float32(experts)
        parts["ffn_gate_inp"] = np.zeros((experts, model.shape.hidden), np.float32)
        tensors |= {f"blk.{layer}.{part}.weight": tensor for part, tensor in parts.items()}
    return Model(replace(model.shape, width=width, experts=experts, chosen=experts), tensors)


def without_feed_forward(model: Model) -> dict[str, Array]:
    """All tensors that a mixture keeps as they are."""
    dense = tuple(f".{part}.weight" for part in PARTS)
    return {name: tensor for name, tensor in model.tensors.items() if not name.endswith(dense)}
