"""A dense model as a mixture with real top-k routing: experts that see different tokens, and unequally many.

Layer by layer, on states of the mixture made so far: neurons that are active together become an expert (clustering.py);
the router is a ridge regression of the logarithm of each expert's output energy on the layer's input; down matrices are
refitted by ridge regression, so that the chosen experts give what all of them gave, as far as they can. Nothing is
trained by gradients; the mixture is worse than its source and serves as its own reference.
"""

from dataclasses import dataclass, replace

import numpy as np

from fidelity.clustering import balanced_clusters
from fidelity.forward import attend, embed, feed_forward, ffn_input, route, silu
from fidelity.mixture import cut, without_feed_forward
from fidelity.model import Array, Model, Shape

SKETCH = 512  # features of a neuron's activity: random sums over at most SKETCHED tokens
SKETCHED = 4096
SPREAD = 0.25  # standard deviation of a router's logits: weights of chosen experts differ, but none dwarfs the others


@dataclass(frozen=True)
class LayerFit:
    """How a layer came out: the mean square of its output's error over that of the output, and how tokens spread."""

    error: float
    least_load: float  # the least used expert's share of tokens
    most_load: float


def split_routed(
    model: Model, ids: np.ndarray, experts: int, chosen: int, seed: int = 0
) -> tuple[Model, list[LayerFit]]:
    """A mixture of `experts`, `chosen` a token, fitted on windows `ids` [windows, tokens]; how each layer came out."""
    rng, fits = np.random.default_rng(seed), []
    shape = replace(model.shape, width=model.shape.width // experts, experts=experts, chosen=chosen)
    mixture = Model(shape, without_feed_forward(model))
    x = embed(model, ids)
    for layer in range(shape.layers):
        x = attend(mixture, layer, x)
        h = ffn_input(mixture, layer, x)
        inner = silu(h @ model.layer(layer, "ffn_gate").T) * (h @ model.layer(layer, "ffn_up").T)
        parts = fit_layer(model, layer, h, inner, shape, rng)
        mixture.tensors.update({f"blk.{layer}.{part}.weight": tensor for part, tensor in parts.items()})
        wanted, given = inner @ model.layer(layer, "ffn_down").T, feed_forward(mixture, layer, h)
        loads = (route(h @ parts["ffn_gate_inp"].T, chosen) > 0).mean(0)
        error = np.square(given - wanted).sum() / np.square(wanted).sum()
        fits.append(LayerFit(float(error), float(loads.min()), float(loads.max())))
        x = x + given.reshape(x.shape)
    return mixture, fits


def fit_layer(
    model: Model, layer: int, h: Array, inner: Array, shape: Shape, rng: np.random.Generator
) -> dict[str, Array]:
    """A layer's router and experts by part, from its inputs h [n, hidden] and what down reads, inner [n, neurons]."""
    down = model.layer(layer, "ffn_down")
    strength = (np.abs(inner) * np.linalg.norm(down, axis=0))[:: -(-len(inner) // SKETCHED)]  # [tokens, neurons]
    sketch = rng.standard_normal((SKETCH, len(strength)), dtype=np.float32)
    members = balanced_clusters((sketch @ strength).T, shape.experts, rng)
    energy = np.stack([np.square(inner[:, own] @ down[:, own].T).sum(1) for own in members], 1)
    gate_inp = router(h, energy)
    weights = route(h @ gate_inp.T, shape.chosen)
    seen = np.concatenate([weights[:, e, None] * inner[:, own] for e, own in enumerate(members)], 1)
    parts, wanted = cut(model, layer, members), inner @ down.T
    first = np.concatenate(list(parts["ffn_down_exps"]), 1) * np.float32(shape.chosen)
    # Tokens of large outputs (attention sinks) would be all that counts; one that is right for all is wanted.
    even = 1 / np.sqrt(np.linalg.norm(wanted, axis=1, keepdims=True))
    fitted = first + ridge(even * seen, even * (wanted - seen @ first.T), 0.03)
    parts["ffn_down_exps"] = np.stack(np.split(fitted, shape.experts, axis=1))
    return parts | {"ffn_gate_inp": gate_inp}


def router(h: Array, energy: Array) -> Array:
    """A linear router [experts, hidden] whose order is that of the energies [n, experts], as well as one can be."""
    wanted = np.log(energy + energy.mean() * 1e-6)
    weights = ridge(h, wanted - wanted.mean(1, keepdims=True), 1e-3)
    return weights * np.float32(SPREAD / (h @ weights.T).std())


def ridge(x: Array, y: Array, share: float) -> Array:
    """W [outputs, inputs] of least |x W' - y|^2 with a penalty of `share` of the inputs' mean square."""
    gram = (x.T @ x).astype(np.float64)
    gram[np.diag_indices_from(gram)] += share * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, (x.T @ y).astype(np.float64)).T.astype(np.float32)
