"""The exact fp32 model of a checkpoint, run one stage at a time through ONNX Runtime: embedding, each layer, head.

    with StreamedModel(checkpoint, model, windows) as stream:  # stream.hidden: after the embedding
        for _ in range(model.num_hidden_layers):
            stream.run_layer(on_taps)  # stream.hidden: after that layer; on_taps(window, taps), or None
        with stream.open_head() as head:
            logits = head(stream.hidden[0])  # [tokens, vocab_size]

A stage's graph is the exporter's own (`build_decoder`, the `if` plan). Its weights lie in a temporary folder that is
gone when the stage has run, and the hidden states of all windows in a memory-mapped file there: memory is bounded by
one layer, whatever the model. Windows are independent sequences, run one after the other, so a run gives the same
bits each time. What it reads of the checkpoint is no part of an export's account, and its progress hears nothing.
`model` is that of `understand` after `with_stored_head`. What happens to the numbers is for whoever asks for them.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.arithmetic import FLOAT
from moedge.export.graph.channels import Channels
from moedge.export.graph.inputs import INT64
from moedge.export.graph.lowering import ExpertWeights
from moedge.export.model.config import ModelConfig
from moedge.export.streaming.recording import HeadlessLowering, RecordingLowering
from moedge.export.streaming.stage import Stage, StageMaker, no_taps
from moedge.quant.blocks import F32
from moedge.runtime.manifest import GroupName


@dataclass(frozen=True)
class RoutedTaps:
    """What a layer's routed experts did with one window.

    A token counts `shares[t, j]` times what expert `chosen[t, j]` makes of x[t], the router's scale included. What
    happens inside of an expert follows from `weights`, whose matrices are read when they are asked for.
    """

    x: F32  # [tokens, hidden_size]
    chosen: NDArray[np.int64]  # [tokens, top_k], the likeliest first
    shares: F32  # [tokens, top_k]
    weights: ExpertWeights


@dataclass(frozen=True)
class Taps:
    """What the matrices of a layer read of one window.

    `inputs` is by the checkpoint's names, those that a rounding hears: x [tokens, columns] of y = x · Wᵀ, one array for
    all that read the same. Routed experts have there what all tokens bring to their gate and up-projections, and no
    down-projections; `routed` tells which of the tokens are whose. Routers, which no scheme rounds, are not there; the
    up-projections of latent attention are, which the plan `native` alone rounds.
    """

    inputs: Mapping[str, F32]
    groups: Mapping[str, GroupName]  # of all matrices that a scheme rounds
    routed: RoutedTaps | None  # None: a dense layer


OnTaps = Callable[[int, Taps], None]  # the window's number, and its taps


class StreamedModel:
    """A run of some windows [windows, tokens] through a model, as far as `layer`; open it in a `with` statement."""

    def __init__(
        self, checkpoint: Checkpoint, model: ModelConfig, windows: NDArray[np.int64], folder: Path | None = None
    ) -> None:
        """Temporary files go to `folder`, or to the system's own place: a layer's weights in fp32 and hidden states."""
        self.model, self.windows = model, windows
        self.layer = 0  # the next one to run
        self.channels = Channels()  # learns what reads which channels of the layers that are run
        self._source = checkpoint.aside()
        self._parent = folder

    def __enter__(self) -> "StreamedModel":
        self._folder = Path(tempfile.mkdtemp(prefix="moedge-", dir=self._parent))
        self._maker = StageMaker(self._source, self.model, self.windows.shape[1], self._folder)
        try:
            count, tokens = self.windows.shape
            shape = count, tokens, self.model.hidden_size
            self.hidden: F32 = np.memmap(self._folder / "hidden", np.float32, "w+", shape=shape)
            with self._open(None, 0) as (stage, _):
                for place, ids in enumerate(self.windows):
                    [self.hidden[place]] = stage.run(ids)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    def run_layer(self, on_taps: OnTaps | None = None) -> None:
        """Run the next layer over all windows; `hidden` is what it gives then.

        `on_taps` is called after each window, whose hidden states are replaced by then.
        """
        if self.layer >= self.model.num_hidden_layers:
            raise AssertionError(f"there is no layer {self.layer}")
        with self._open(self.layer, self.layer + 1, on_taps is not None) as (stage, low):
            for place in range(len(self.windows)):
                self.hidden[place], *tapped = stage.run(self.hidden[place])
                if on_taps is not None:
                    on_taps(place, _read_taps(low, dict(zip(stage.taps, tapped, strict=True))))
        self.layer += 1

    @contextmanager
    def open_head(self) -> Iterator[Callable[[F32], F32]]:
        """The final norm and the head: from hidden states [n, hidden_size] to logits [n, vocab_size]."""
        with self._open(self.model.num_hidden_layers, None) as (stage, _):
            yield lambda hidden: stage.run(hidden)[0]

    def read_head(self) -> F32:
        """What the head would multiply of all windows, once all layers have run [windows, tokens, hidden_size]."""
        layers = self.model.num_hidden_layers
        with self._maker.open(HeadlessLowering, layers, None, self.channels, _give_head_input) as (stage, _):
            return np.stack([stage.run(states)[0] for states in self.hidden])

    def _open(
        self, begin: int | None, end: int | None, taps: bool = False
    ) -> AbstractContextManager[tuple[Stage, RecordingLowering]]:
        return self._maker.open(RecordingLowering, begin, end, self.channels, _add_taps if taps else no_taps)


def _give_head_input(graph: ir.Graph, low: HeadlessLowering) -> list[str]:
    """Give out what the head would multiply, in the place of logits."""
    if low.read is None:
        raise AssertionError("a graph without a head")
    out = ir.Value(name="head_input", type=FLOAT, shape=ir.Shape([1, "sequence_length", None]))
    graph.append(ir.Node("", "Unsqueeze", [low.read, low.builder.ints(0)], outputs=[out], name="head_input"))
    graph.outputs[:] = [out]
    return []


def _add_taps(graph: ir.Graph, low: RecordingLowering) -> list[str]:
    """Give out the values that the lowering has noted; the names of these outputs."""
    values = [(value, FLOAT) for value in low.inputs.values()]
    if low.routed is not None:
        values += [(low.routed.x, FLOAT), (low.routed.chosen, INT64), (low.routed.shares, FLOAT)]
    names: dict[str, None] = {}
    for value, kind in values:
        name = _tap_name(value)
        if name in names:
            continue
        tap = ir.Value(name=name, type=kind, shape=ir.Shape(["sequence_length", None]))
        graph.append(ir.Node("", "Identity", [value], outputs=[tap], name=name))
        graph.outputs.append(tap)
        names[name] = None
    return [*names]


def _tap_name(value: ir.Value) -> str:
    return f"tap/{value.name}"


def _read_taps(low: RecordingLowering, arrays: Mapping[str, NDArray[Any]]) -> Taps:
    routed = None
    if low.routed is not None:
        x, chosen, shares = (arrays[_tap_name(v)] for v in (low.routed.x, low.routed.chosen, low.routed.shares))
        routed = RoutedTaps(x, chosen, shares, low.routed.weights)
    return Taps({name: arrays[_tap_name(value)] for name, value in low.inputs.items()}, low.groups, routed)
