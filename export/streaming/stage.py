"""A run of a decoder's blocks as a graph of its own that this process runs: built, used for some windows, thrown away.

Which blocks, and lowered how, is for whoever opens one.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.profile import load_profile
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.builder import Builder
from moedge.export.graph.channels import Channels
from moedge.export.graph.decoder import build_decoder
from moedge.export.graph.saving import save_graph
from moedge.export.graph.standard import StandardLowering
from moedge.export.model.config import ModelConfig
from moedge.export.writing.scratch_file import ScratchFile
from moedge.runtime.manifest import MODEL_NAME

L = TypeVar("L", bound=StandardLowering)


class Stage:
    """A graph that takes ids or hidden states of one window and gives hidden states or logits, and what is tapped.

    It is loaded by its first run.
    """

    def __init__(self, path: Path, taps: Sequence[str] = ()) -> None:
        self.taps = taps
        self._path = path

    def run(self, given: NDArray[Any]) -> list[NDArray[Any]]:
        """What becomes of ids [s] or hidden states [s, hidden_size]: [s, .], then the taps."""
        first, _, *caches = self._graph.get_inputs()
        feeds = {first.name: given[None], "attention_mask": np.ones((1, len(given)), np.int64)}
        for cache in caches:
            feeds[cache.name] = np.zeros([size if isinstance(size, int) else 0 for size in cache.shape], np.float32)
        feeds |= {node.name: np.array(len(given), np.int64) for node in self._graph.get_overridable_initializers()}
        out, *tapped = self._graph.run([self._graph.get_outputs()[0].name, *self.taps], feeds)
        return [out[0], *tapped]

    @cached_property
    def _graph(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = load_profile("auto").prefill_threads
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])


def no_taps(_: ir.Graph, __: StandardLowering) -> list[str]:
    """Nothing but what the graph gives anyway."""
    return []


@dataclass(frozen=True)
class StageMaker:
    """Makes stages of a checkpoint for windows of so many tokens, in temporary folders within `folder`."""

    checkpoint: Checkpoint
    model: ModelConfig
    tokens: int
    folder: Path

    @contextmanager
    def open(
        self,
        lower: Callable[[Builder], L],
        begin: int | None,
        end: int | None,
        channels: Channels,
        finish: Callable[[ir.Graph, L], list[str]] = no_taps,
    ) -> Iterator[tuple[Stage, L]]:
        """The blocks begin:end, see `build_decoder`; `finish` may add outputs to the graph, whose names it returns."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name, ScratchFile(Path(name)) as weights:
            low = lower(Builder(weights))
            graph = build_decoder(
                low, self.checkpoint, self.model, self.tokens, begin=begin, end=end, channels=channels
            )
            taps = finish(graph, low)
            save_graph(graph, Path(name) / MODEL_NAME)
            yield Stage(Path(name) / MODEL_NAME, taps), low
