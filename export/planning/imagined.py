"""A checkpoint of which only config.json is known: it has every tensor that its family asks for, of the shape it wants.

What a family may have or not, under another name or in another layout, it has as its makers publish it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moedge.export.checkpoint.errors import TensorError
from moedge.export.checkpoint.outline import Outline
from moedge.export.model.tensor_names import TensorNames

_MXFP4_PARTS = ("_blocks", "_scales")


class Imagined(Outline):
    """Names, shapes and dtypes as they are asked for: plain numbers in bf16, routed experts in MXFP4 if they are so."""

    def __init__(self, config: dict[str, Any], folder: Path, names: TensorNames) -> None:
        self.folder = folder
        self.config = config
        self.shards = []
        self._shard_of, self._stored_as, self._headers, self._open = {}, {}, {}, {}
        self._consumed = {}
        self._on_read = lambda _: None
        self.faults = {}
        self._wanted: dict[str, tuple[int, ...]] = {}
        own = (*names.experts.gate_up, names.experts.down) if self.published.method == "mxfp4" else ()
        self._floats = tuple(f"{name}{part}" for name in own for part in _MXFP4_PARTS)

    def __contains__(self, name: str) -> bool:
        return name.endswith(self._floats)

    def report(self, module: str, error: TensorError, shape: tuple[int, ...]) -> None:
        """What does not fit is the config's fault."""
        raise error

    def require(self, name: str) -> None:
        """It has them all."""

    def expect(self, name: str, *shape: int) -> None:
        """It has the shape that is wanted."""
        self._wanted[name] = shape

    @property
    def wanted(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of all tensors that were asked for, in that order."""
        return self._wanted

    def shape(self, name: str) -> tuple[int, ...]:
        """The one that was wanted last; () before anybody has."""
        return self._wanted.get(name, ())

    def dtype(self, name: str) -> str:
        """As safetensors spells it."""
        return "U8" if name in self else "BF16"

    def dtypes(self) -> dict[str, str]:
        """Of none: who looks for what is unusual finds nothing."""
        return {}
