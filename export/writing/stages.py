"""The stages of an export in order: embedding, each layer, head.

The progress bar hears when one begins, the journal when one is finished.
"""

from collections.abc import Callable
from dataclasses import dataclass

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.writing.journal import Journal
from moedge.export.writing.weights_file import WeightsFile


@dataclass
class Stages:
    """Where an export is; tensors that stages of an earlier run consumed count as consumed from the start."""

    journal: Journal
    weights: WeightsFile
    checkpoint: Checkpoint
    layers: int
    on_stage: Callable[[str], None]
    name: str = "embedding"

    def __post_init__(self) -> None:
        self.checkpoint.consume(name for mark in self.journal.marks for name in mark.tensors)
        self._journalled = len(self.checkpoint.consumed())
        self.on_stage(self.name)

    def begin(self, layer: int) -> None:
        """Finish the stage before and begin `layer`, or the head if it is one more than the last."""
        self.finish()
        self.name = f"layer {layer}" if layer < self.layers else "head"
        self.on_stage(self.name)

    def finish(self) -> None:
        """Have the stage journalled, with what it consumed, once its bytes are on the disk."""
        consumed = self.checkpoint.consumed()
        self.weights.finish_stage(self.name, consumed[self._journalled :])
        self._journalled = len(consumed)
