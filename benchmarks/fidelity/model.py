"""A decoder's fp32 weights in memory and on disk: dense, or a mixture of experts.

Tensors have llama.cpp's names; rows of query and key are in Hugging Face's rotary order (halves). A dense layer has
`ffn_gate`, `ffn_up`, `ffn_down`; a mixture has `ffn_gate_inp` [experts, hidden], `ffn_gate_exps` and `ffn_up_exps`
[experts, width, hidden], `ffn_down_exps` [experts, hidden, width]. The head is the table (tied).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes; `width` is the feed-forward's, or one expert's where `experts` is not 0."""

    layers: int
    hidden: int
    width: int
    heads: int
    kv_heads: int
    vocab: int
    theta: float
    eps: float
    experts: int = 0
    chosen: int = 0

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True)
class Model:
    """Sizes and every tensor by name."""

    shape: Shape
    tensors: dict[str, Array]

    def layer(self, index: int, part: str) -> Array:
        """The weight `part` of a layer."""
        return self.tensors[f"blk.{index}.{part}.weight"]

    def parameters(self) -> int:
        """How many numbers all tensors hold."""
        return sum(tensor.size for tensor in self.tensors.values())


def save_model(model: Model, folder: Path) -> None:
    """Write shape.json and weights.safetensors; the former last, so that a folder with it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(t) for name, t in model.tensors.items()}, folder / "weights.safetensors")
    (folder / "shape.json").write_text(json.dumps(asdict(model.shape), indent=1), encoding="utf-8")


def load_model(folder: Path) -> Model:
    """What `save_model` wrote."""
    shape = Shape(**json.loads((folder / "shape.json").read_text(encoding="utf-8")))
    return Model(shape, load_file(folder / "weights.safetensors"))


def matrices(model: Model) -> list[str]:
    """Names of the tensors that quantizers quantize: all matrices but routers, as every engine here does."""
    return [name for name, t in model.tensors.items() if t.ndim > 1 and "ffn_gate_inp" not in name]
