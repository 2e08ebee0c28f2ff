"""Second moments of what every matrix reads, on calibration windows: what an importance matrix holds.

As llama.cpp gathers them: the mean square of each input channel over tokens, for an expert over those that were routed
to it; ones for an expert that saw none. Every token counts the same, and the head gets none.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fidelity.forward import hidden_states
from fidelity.model import Array, Model, matrices


def second_moments(model: Model, ids: np.ndarray, batch: int = 4) -> dict[str, Array]:
    """Mean squares by tensor, [experts, inputs], one row for what is no expert, of windows `ids` [windows, tokens]."""
    named = {name: model.tensors[name] for name in matrices(model) if name != "token_embd.weight"}
    sums = {name: np.zeros((len(t) if t.ndim == 3 else 1, t.shape[-1])) for name, t in named.items()}
    counts = {name: np.zeros((len(total), 1)) for name, total in sums.items()}

    def watch(name: str, expert: int, rows: Array) -> None:
        sums[name][expert] += np.einsum("ni,ni->i", rows, rows)
        counts[name][expert] += len(rows)

    for start in range(0, len(ids), batch):
        hidden_states(model, ids[start : start + batch], watch)
    return {
        name: np.where(counts[name] > 0, total / np.maximum(counts[name], 1), 1).astype(np.float32)
        for name, total in sums.items()
    }


def save_moments(moments: dict[str, Array], path: Path) -> None:
    """Write them as safetensors."""
    save_file(moments, path)


def load_moments(path: Path) -> dict[str, Array]:
    """What `save_moments` wrote."""
    return load_file(path)
