"""A bundle's logits against those of the exact model, position by position, and what its weights cost in bits."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.quant.blocks import F32
from moedge.quant.fidelity import SKIPPED, Divergence, diverge, join
from moedge.runtime.engine import Engine
from moedge.runtime.manifest import ROTARY_TABLES, Manifest
from moedge.runtime.sizes import memory_bytes


def compare_logits(
    engine: Engine, stream: StreamedModel, on_window: Callable[[], None] = lambda: None, first: int = 0
) -> list[Divergence]:
    """A divergence a window of those from `first` on, of the exact model at its last layer and of the bundle.

    A window is judged as far as the bundle's context goes. Logits of both are there for a few hundred positions at a
    time. MoedgeError if any is NaN or infinite.
    """
    divergences = []
    with stream.open_head() as head:
        for ids, hidden in zip(
            stream.windows[first:, : engine.manifest.model.context_length], stream.hidden[first:], strict=True
        ):
            parts = []
            for start, logits in _score(engine, ids):
                begin, end = max(start, SKIPPED), min(start + len(logits), len(ids) - 1)
                if begin >= end:
                    continue
                try:
                    rows = logits[begin - start : end - start]
                    parts.append(diverge(head(hidden[begin:end]), rows, ids[begin + 1 : end + 1]))
                except ValueError as error:
                    raise MoedgeError(f"{engine.folder} cannot be compared ({error}): export it again.") from None
            divergences.append(join(parts))
            on_window()
    return divergences


def _score(engine: Engine, ids: NDArray[np.int64]) -> Iterator[tuple[int, F32]]:
    """The bundle's logits of a window, as many positions at a time as one run of the engine takes."""
    session = engine.session()
    for start in range(0, len(ids), session.chunk):
        some = ids[start : start + session.chunk].tolist()
        logits = np.empty((len(some), engine.manifest.model.vocab_size), np.float32)
        session.run(some, logits)
        yield start, logits


def weigh(manifest: Manifest) -> tuple[float, float | None]:
    """Bits a weight of the model on the disk and in memory, the latter None if any group has no estimate."""
    groups = [group for group in manifest.tensors if group.name != ROTARY_TABLES]
    held = [memory_bytes(group, manifest) for group in groups]
    of_a_byte = 8 / manifest.model.total_parameters
    on_disk = of_a_byte * sum(group.bytes for group in groups)
    return on_disk, None if None in held else of_a_byte * sum(size or 0 for size in held)
