"""Whether a checkpoint's output head is its embedding table, when its config says so and yet both are stored."""

from dataclasses import replace

import numpy as np

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.matrix import row_chunks
from moedge.export.checkpoint.modules import is_stored, open_matrix
from moedge.export.model.config import ModelConfig


def has_own_head(checkpoint: Checkpoint, model: ModelConfig) -> bool:
    """Whether a head is stored beside the embedding that the config ties it to."""
    return model.tie_word_embeddings and is_stored(checkpoint, model.names.lm_head)


def with_stored_head(checkpoint: Checkpoint, model: ModelConfig, notes: list[str]) -> ModelConfig:
    """The model untied if its stored head differs from its embedding, as transformers 5 reads it; noted then."""
    if not has_own_head(checkpoint, model):
        return model
    names = model.names
    shape = model.vocab_size, model.hidden_size
    head, table = (open_matrix(checkpoint, name, shape) for name in (names.lm_head, names.embedding))
    if all(np.array_equal(head.read(*rows), table.read(*rows)) for rows in row_chunks(head)):
        return model
    notes.append(f"{names.lm_head} differs from {names.embedding}, which the config ties it to: it was kept as stored")
    return replace(model, tie_word_embeddings=False)
