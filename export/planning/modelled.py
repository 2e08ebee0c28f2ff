"""What `moedge plan` was given, read as far as a plan needs: a bundle's manifest, or a model that was never exported.

A manifest of the second is made as an export would make it, on a lowering that writes nothing.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from moedge.devices.errors import MoedgeError
from moedge.runtime.manifest import MANIFEST_NAME, ExpertPlan, Manifest, read_manifest
from moedge.runtime.sizes import model_memory_bytes

# From the most faithful to the smallest; what they lose is in docs/quantization.md.
SCHEMES = ("int8", "faithful", "balanced", "fast", "int4-block128")


class PlannedModel(Protocol):
    """A model on its way to a device."""

    @property
    def most_context(self) -> int:
        """The longest that can be asked for."""
        ...

    @property
    def schemes(self) -> tuple[str, ...]:
        """Those that it may have, the most faithful first."""
        ...

    def manifest(self, scheme: str, plan: ExpertPlan, context: int) -> Manifest:
        """Of the bundle, made or not; MoedgeError if the scheme does not fit the model."""
        ...


@dataclass(frozen=True)
class Made:
    """A bundle: its scheme, plan and longest context are what they are."""

    folder: Path

    @cached_property
    def _manifest(self) -> Manifest:
        return read_manifest(self.folder)

    @property
    def most_context(self) -> int:
        """The bundle's own."""
        return self._manifest.model.context_length

    @property
    def schemes(self) -> tuple[str, ...]:
        """The bundle's own."""
        return (self._manifest.scheme,)

    def manifest(self, scheme: str, plan: ExpertPlan, context: int) -> Manifest:
        """The bundle's own."""
        return self._manifest


def open_model(given: str) -> PlannedModel:
    """A bundle, a checkpoint's folder, a config.json or hf://org/name; MoedgeError if it is nothing of that."""
    path = Path(given)
    if (path / MANIFEST_NAME).is_file():
        return Made(path)
    from moedge.export.planning.unmade import open_unmade  # needs the exporter's packages, a bundle does not

    return open_unmade(given)


def memory_of(manifest: Manifest) -> int:
    """Bytes of the weights once they are loaded; MoedgeError where ONNX Runtime decides that at load."""
    size = model_memory_bytes(manifest)
    if size is None:
        raise MoedgeError(
            f"{manifest.name}: quantized weights in the `if` plan are unpacked as onnxruntime likes, which nobody can "
            "plan for: take --experts native or fused."
        )
    return size
