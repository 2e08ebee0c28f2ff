"""A checkpoint folder as published: config, the index of its safetensors shards, and tensors read a slice at a time.

It keeps the account of which tensors were consumed; it does not know what any of them means.
"""

import re
from collections.abc import Callable, Iterable
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.errors import MisshapenError, MissingError, TensorError
from moedge.export.checkpoint.foreign import SINGLE_NAME, explain_file, find_shards, find_unfinished, list_names
from moedge.export.checkpoint.published import Published, read_published
from moedge.export.checkpoint.shard import Header, Shard
from moedge.export.checkpoint.side_config import read_config, read_object

INDEX_NAME = "model.safetensors.index.json"
FLOATS = ("F32", "F16", "BF16")
POWERS = ("U8", "F8_E8M0")  # bytes that are exponents of two, where they are scales


class Checkpoint:
    """A folder with config.json, tokenizer files and safetensors shards; open it in a `with` statement."""

    def __init__(self, folder: Path, on_read: Callable[[int], None] = lambda _: None) -> None:
        if folder.is_file():
            raise explain_file(folder)
        if not folder.is_dir():
            raise MoedgeError(f"{folder} is not a folder: give the folder of a checkpoint.")
        self.folder = folder
        self._on_read = on_read
        self.config = read_config(folder)
        self._shard_of = read_index(folder)
        self._consumed: dict[str, None] = {}  # a set in the order of reading
        self._stored_as: dict[str, str] = {}  # of renamed tensors
        self._headers: dict[str, Header] = {}
        self.shards = sorted(set(self._shard_of.values())) or find_shards(folder, list_names(folder))
        refuse_missing_shards(folder, self.shards)
        self._open: dict[str, Shard] = {}
        try:
            for shard in self.shards:
                self._learn_headers(shard)
            self._refuse_unheld()
        except BaseException:  # of the disk, or Ctrl-C: nobody else knows the shards that are open
            self._close()
            raise

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object of the checkpoint; MoedgeError if it is missing or broken."""
        return read_object(self.folder, name)

    @cached_property
    def published(self) -> Published:
        """What the config states of quantized tensors; MoedgeError if it is a format that is not read."""
        return read_published(Config(self.config, str(self.folder / "config.json")))

    def __contains__(self, name: str) -> bool:
        return name in self._shard_of

    def rename(self, spell: Callable[[str], str]) -> None:
        """Call tensors what `spell` makes of their names from now on; MoedgeError if two would share a name."""
        for old in [*self._shard_of]:
            new = spell(old)
            if new == old:
                continue
            if new in self._shard_of:
                raise MoedgeError(f"{self.folder} holds {old} and {new}, which are the same: keep one.")
            self._shard_of[new], self._headers[new] = self._shard_of.pop(old), self._headers.pop(old)
            self._stored_as[new] = old

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; MoedgeError if the checkpoint has none of that name."""
        self.require(name)
        return self._headers[name].shape

    def dtype(self, name: str) -> str:
        """The dtype of a tensor, as safetensors spells it; MoedgeError if the checkpoint has none of that name."""
        self.require(name)
        return self._headers[name].dtype

    def dtypes(self) -> dict[str, str]:
        """Every tensor's dtype, as safetensors spells it."""
        return {name: header.dtype for name, header in self._headers.items()}

    def expect(self, name: str, *shape: int) -> None:
        """Raise MoedgeError if the tensor is missing or has another shape."""
        if self.shape(name) != shape:
            raise MisshapenError(name, self.shape(name), f"the config says {shape}")

    def report(self, module: str, error: TensorError, shape: tuple[int, ...]) -> None:
        """What becomes of a tensor of that wanted shape that is not: the error is raised; a dry run goes on."""
        raise error

    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.nbytes for shard in self._open.values())

    def identity(self) -> dict[str, str]:
        """By file, what tells one checkpoint from another without reading all of it; see Shard.identity."""
        return {name: shard.identity for name, shard in self._open.items()}

    def consumed(self) -> list[str]:
        """The tensors that were read, in that order."""
        return list(self._consumed)

    def consume(self, names: Iterable[str]) -> None:
        """Mark tensors as consumed that an earlier run has read."""
        self._consumed |= dict.fromkeys(names)
        self._on_read(sum(self._headers[name].nbytes for name in self._consumed))

    def peek(self, name: str) -> NDArray[Any] | None:
        """A whole small tensor that tells how others are to be read; None where only headers are known."""
        return self.read(name)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows start:stop of a tensor in its own dtype, copied out of the file; marks the tensor as consumed."""
        return self.read_part(name, *([slice(start, stop)] if self.shape(name) else []))

    def read_part(self, name: str, *part: slice) -> NDArray[Any]:
        """The part of a tensor that slices of its leading axes cut out; see `read`."""
        self.require(name)
        self._consumed[name] = None
        array = self._open[self._shard_of[name]].read(self._stored_as.get(name, name), *part)
        self._on_read(array.nbytes)
        return array

    def read_float(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Rows of a tensor of plain numbers as fp32; MoedgeError if it holds anything else."""
        return self.read_float_part(name, *([slice(start, stop)] if self.shape(name) else []))

    def read_float_part(self, name: str, *part: slice) -> NDArray[np.float32]:
        """The part of a tensor of plain numbers that slices of its leading axes cut out, as fp32."""
        self.require_float(name)
        return self.read_part(name, *part).astype(np.float32)

    def read_parameter(self, name: str, *shape: int) -> NDArray[np.float32]:
        """A whole tensor of that shape as fp32, for what no scheme rounds; MoedgeError if it holds NaN or infinity."""
        self.expect(name, *shape)
        values = self.read_float(name)
        if not np.isfinite(values).all():
            raise MoedgeError(f"{name} holds NaN or infinity: take another checkpoint.")
        return values

    def aside(self) -> "Checkpoint":
        """The same open shards with an account of its own: what it reads is not consumed here, nobody hears of bytes.

        It is closed with this one and never by itself.
        """
        other = copy(self)
        other._consumed, other._on_read = {}, lambda _: None
        return other

    def unconsumed(self, ignored: Iterable[str]) -> list[str]:
        """The tensors that nobody read and no pattern of `ignored` matches whole."""
        return find_unmatched(self._shard_of.keys() - self._consumed.keys(), ignored)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def require(self, name: str) -> None:
        """Raise MissingError if there is no tensor of that name."""
        if name not in self._shard_of:
            raise MissingError(name)

    def require_float(self, name: str) -> None:
        """Raise MoedgeError if it does not hold plain numbers."""
        if self.dtype(name) not in FLOATS:
            raise MoedgeError(f"{name} is stored as {self.dtype(name)} where moedge reads {', '.join(FLOATS)}.")

    def _learn_headers(self, shard: str) -> None:
        self._open[shard] = Shard(self.folder / shard)
        for name, header in self._open[shard].headers.items():
            if self._shard_of.setdefault(name, shard) != shard:
                raise MoedgeError(f"{name} is in {shard} and in {self._shard_of[name]}: keep one.")
            self._headers[name] = header

    def _refuse_unheld(self) -> None:
        """Raise MoedgeError if a shard lacks what the index says that it holds."""
        if missing := min(((self._shard_of[n], n) for n in self._shard_of.keys() - self._headers.keys()), default=None):
            raise MoedgeError(
                f"{missing[0]} lacks {missing[1]}, which {INDEX_NAME} says it holds: take both from the same commit."
            )

    def _close(self) -> None:
        for shard in self._open.values():
            shard.close()


def find_unmatched(names: Iterable[str], ignored: Iterable[str]) -> list[str]:
    """The names, sorted, that no pattern of `ignored` matches whole."""
    pattern = re.compile("|".join(f"(?:{p})" for p in ignored) or r"(?!)")
    return sorted(name for name in names if not pattern.fullmatch(name))


def read_index(folder: Path) -> dict[str, str]:
    """Tensor name to shard, from the index; empty where there is none, and shards are learnt when they are opened."""
    path = folder / INDEX_NAME
    if not path.exists():
        return {}
    weight_map = read_object(folder, INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict):
        raise MoedgeError(f"{path} is not a safetensors index: download it again.")
    shards = {str(name): str(shard) for name, shard in weight_map.items()}
    outside = sorted(s for s in set(shards.values()) if Path(s).name != s)
    if outside:
        raise MoedgeError(f"{path} names a shard outside the folder ({outside[0]}): do not use this checkpoint.")
    if (
        shards and SINGLE_NAME not in shards.values() and (folder / SINGLE_NAME).exists()
    ):  # libraries differ in the choice
        raise MoedgeError(f"{path} is of other files than the {SINGLE_NAME} beside it: keep the weights that you mean.")
    return shards


def refuse_missing_shards(folder: Path, shards: list[str]) -> None:
    """Raise MoedgeError if not every shard is there, with what the folder tells of the download."""
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        begun = find_unfinished(list_names(folder))
        raise MoedgeError(
            f"{folder / missing[0]} is missing ({len(missing)} of {len(shards)} shards are): "
            + (f"the download is not finished ({begun}), run it until it ends." if begun else "download the rest.")
        )
