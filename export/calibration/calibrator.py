"""A calibration beside an export: each layer's fp32 twin reads the text, then factors and statistics are ready for it.

    with Calibrator(checkpoint, model, windows, plan) as calibrator:
        build_decoder(..., on_layer=calibrator.prepare, channels=calibrator.channels)  # rounds by calibrator.rounding

It decides which writers get factors; how good ones are found is quant/channel_factors.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moedge.export.calibration.calibrated import Calibrated
from moedge.export.calibration.read_ahead import ReadAhead
from moedge.export.calibration.statistics import LayerInputs, TableInputs
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.views import names_of
from moedge.export.graph.channels import Channels, Reader
from moedge.export.model.config import ModelConfig
from moedge.export.streaming.streamed_model import StreamedModel, Taps
from moedge.quant.blocks import F32
from moedge.quant.channel_factors import ReadBy, choose_factors
from moedge.quant.plan import SchemePlan

_ROWS = 256  # of each matrix that factors are tried on, in four pieces
_READERS = 12  # matrices that factors are tried on


class Calibrator:
    """Runs token windows [windows, tokens] through the fp32 model, a layer before each layer of the export.

    Windows `held` back [windows, tokens], of the same length, run with them and tell nothing: `stream` has what the
    exact model makes of them, behind the others.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: ModelConfig,
        windows: NDArray[np.int64],
        schemes: SchemePlan,
        rounding: Calibrated,
        folder: Path | None = None,
        held: NDArray[np.int64] | None = None,
    ) -> None:
        self.channels = Channels()
        self.rounding = rounding
        self.coverage: dict[int, NDArray[np.int64]] = {}  # by layer: tokens that chose each expert
        self._schemes, self._model = schemes, model
        self._seen = len(windows)
        every = windows if held is None else np.concatenate([windows, held])
        self.stream = StreamedModel(checkpoint, model, every, folder)
        # The embedding is rounded before any layer is.
        ahead = ReadAhead(checkpoint, model, windows, folder)
        tied = model.tie_word_embeddings
        rounding.inputs = TableInputs(model.names.embedding, ahead.read_head if tied else None, ahead.read_readers)

    def __enter__(self) -> "Calibrator":
        self.stream.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.__exit__()

    def prepare(self, layer: int) -> None:
        """Have everything ready for a layer's matrices; with the number of layers, for the head's."""
        self.rounding.inputs, self.rounding.by_column = None, {}
        self.channels.factors = {}
        if layer == self._model.num_hidden_layers:
            if not self._model.tie_word_embeddings:
                self.rounding.inputs = TableInputs(self._model.names.lm_head, self._read_head, None)
            return
        inputs = LayerInputs(self._model.experts.gate)
        self.stream.channels = Channels()

        def collect(window: int, taps: Taps) -> None:
            if window < self._seen:
                inputs.collect(window, taps)

        self.stream.run_layer(collect)
        readers = self.stream.channels.readers
        self.rounding.inputs = inputs
        self.channels.factors = self._choose(readers, inputs, layer)
        self.rounding.by_column = {
            name: reader.spread(factors)
            for writer, factors in self.channels.factors.items()
            for reader in readers[writer]
            for name in names_of(reader.matrix)
        }
        if len(covered := inputs.coverage()):
            self.coverage[layer] = covered

    def _read_head(self) -> F32:
        return self.stream.read_head()[: self._seen]

    def _choose(self, readers: Mapping[str, Sequence[Reader]], inputs: LayerInputs, layer: int) -> dict[str, F32]:
        """The factors of every writer that they help."""
        chosen = {writer: self._factors(found, inputs, layer) for writer, found in readers.items()}
        return {writer: factors for writer, factors in chosen.items() if factors is not None}

    def _factors(self, readers: Sequence[Reader], inputs: LayerInputs, layer: int) -> F32 | None:
        rounded = [reader for reader in readers if names_of(reader.matrix)[0] in inputs.groups]
        if any(source.native is not None for reader in rounded for source in reader.matrix.sources):
            return None  # published codes stay as they are
        schemes = [self._schemes.of(inputs.groups[names_of(reader.matrix)[0]], layer) for reader in rounded]
        if not any(scheme.quantized for scheme in schemes):
            return None
        tried, channels = [], []
        for place in np.unique(np.linspace(0, len(rounded) - 1, _READERS).astype(int)):
            reader = rounded[place]
            sample = inputs.sample(names_of(reader.matrix)[0])
            if sample is None:
                raise AssertionError(f"{reader.matrix.name} was not seen")
            scheme = schemes[place].fit(reader.matrix.shape[1])
            tried.append(ReadBy(_some_rows(reader), sample.moments, scheme, reader.spread))
            channels.append(reader.gather(sample.moments))
        return choose_factors(np.mean(channels, axis=0), tried)


def _some_rows(reader: Reader) -> F32:
    rows = reader.matrix.shape[0]
    if rows <= _ROWS:
        return reader.matrix.read(0, rows)
    piece = _ROWS // 4
    starts = np.linspace(0, rows - piece, 4).astype(int)
    return np.concatenate([reader.matrix.read(int(start), int(start) + piece) for start in starts])
