"""A checkpoint without its weights: small files and headers as a `Checkpoint` that cannot be told from the real one.

Whatever refuses a checkpoint by its config, tokenizer and number formats refuses it so before a weight is fetched.
A shard is a header followed by a hole in the file, which takes no room on the disk.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.folder import Checkpoint


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a shard, as its header describes it; offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


ShardHeader = Mapping[str, TensorHeader]  # by the tensor's name


@contextmanager
def preview(name: str, files: Iterable[Path], headers: Mapping[str, ShardHeader]) -> Iterator[Checkpoint]:
    """The checkpoint of these files and of the shards that `headers` describe; its errors speak of `name`."""
    with tempfile.TemporaryDirectory(prefix="moedge-") as made:
        folder = Path(made)
        for file in files:
            (folder / file.name).symlink_to(file.absolute())
        for shard, header in headers.items():
            _write_hollow(folder / shard, header)
        try:
            with Checkpoint(folder) as checkpoint:
                yield checkpoint
        except MoedgeError as error:
            raise MoedgeError(str(error).replace(str(folder), name)) from error


def _write_hollow(path: Path, header: ShardHeader) -> None:
    """A safetensors file: 8 bytes of length, JSON, and as many bytes as the tensors take, none of them written."""
    described = {
        name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
        for name, tensor in header.items()
    }
    text = json.dumps(described).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + max((tensor.data_offsets[1] for tensor in header.values()), default=0))
