"""What an embedding's rounding asks of the layers that come after it, read before any of them is exported."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.model.config import ModelConfig
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.quant.blocks import F32


@dataclass(frozen=True)
class ReadAhead:
    """The exact model over windows [windows, tokens], with temporary files in `folder`."""

    checkpoint: Checkpoint
    model: ModelConfig
    windows: NDArray[np.int64]
    folder: Path | None

    def read_head(self) -> F32:
        """What a tied head multiplies [windows, tokens, hidden_size]."""
        with StreamedModel(self.checkpoint, self.model, self.windows, self.folder) as stream:
            for _ in range(self.model.num_hidden_layers):
                stream.run_layer()
            return stream.read_head()

    def read_readers(self) -> F32:
        """Rows of the first layer's matrices that read hidden states, times its norms' weights [n, hidden_size].

        Its mixer's, and its router's: where these err, a token goes to other experts. All rows of a matrix together
        have the energy 1.
        """
        names, found = self.model.names, []
        routed_by = names.router_norm or names.post_attention_norm
        mixed, routed = (norm.format(layer=0) for norm in (names.input_norm, routed_by))
        with StreamedModel(self.checkpoint, self.model, self.windows[:1], self.folder) as stream:
            stream.run_layer()
            readers = stream.channels.readers
        source, router = self.checkpoint.aside(), names.router.format(layer=0)
        chosen = [(mixed, reader.matrix) for reader in readers.get(mixed, ())]
        chosen += [(routed, reader.matrix) for reader in readers.get(routed, ()) if reader.matrix.name == router]
        for norm, matrix in chosen:
            weight = norm if norm in source else f"{norm}.weight"
            rows = matrix.read(0, matrix.shape[0]) * (source.read_float(weight) + np.float32(self.model.norm_offset))
            energy = np.linalg.norm(rows)
            if energy > 0:
                found.append(rows / energy)
        return np.concatenate([*found, np.zeros((0, self.model.hidden_size), np.float32)])
