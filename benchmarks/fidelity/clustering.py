"""Neurons in groups of one size: those that are active for the same tokens together."""

import numpy as np

from fidelity.model import Array

ROUNDS = 12


def balanced_clusters(patterns: Array, groups: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of `groups` equally large clusters of the rows of `patterns` [n, features], each ascending.

    k-means by cosine with a limit: in every round rows choose in the order of what they would lose by their second
    choice. ValueError if n is no multiple of `groups`.
    """
    size, rest = divmod(len(patterns), groups)
    if rest:
        raise ValueError(f"{len(patterns)} rows do not make {groups} groups of one size")
    rows = patterns / np.maximum(np.linalg.norm(patterns, axis=1, keepdims=True), 1e-20)
    centers = rows[rng.choice(len(rows), groups, replace=False)]
    labels = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        before, labels = labels, assign(rows @ centers.T, size)
        if np.array_equal(before, labels):
            break
        centers = np.stack([rows[labels == group].mean(0) for group in range(groups)])
        centers /= np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-20)
    return [np.flatnonzero(labels == group) for group in range(groups)]


def assign(likeness: Array, size: int) -> np.ndarray:
    """A group for each row of `likeness` [n, groups], no group more than `size` times."""
    if likeness.shape[1] == 1:
        return np.zeros(len(likeness), np.int64)
    best = np.sort(likeness, axis=1)
    labels, room = np.full(len(likeness), -1), np.full(likeness.shape[1], size)
    for row in np.argsort(best[:, -2] - best[:, -1], kind="stable"):
        open_groups = np.where(room > 0, likeness[row], -np.inf)
        labels[row] = int(open_groups.argmax())
        room[labels[row]] -= 1
    return labels
