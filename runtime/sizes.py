"""What a bundle costs, computed from its manifest alone: bits a weight, bytes on disk, in memory, a token of cache.

Arithmetic only; nothing is opened or loaded, and nothing here is a measurement.
"""

from collections.abc import Iterable
from math import prod

from moedge.devices.profile_file import CacheType
from moedge.runtime.cache.cache import cache_nbytes
from moedge.runtime.cache.native_buffer import row_bytes
from moedge.runtime.manifest import EMBEDDING, LM_HEAD, ROTARY_TABLES, CacheTensor, Manifest, TensorGroup

CACHE_BYTES = 4  # a number, where the cache is fp32


def disk_bits_per_weight(group: TensorGroup) -> float:
    """Bits a weight in the bundle's files, scales and zero points included; 0 for a group without weights."""
    return 8 * group.bytes / group.parameters if group.parameters else 0.0


def bits_per_weight(manifest: Manifest) -> float:
    """The same of a whole model: bytes of all its weights, tables that are computed left out, by their number."""
    groups = [group for group in manifest.tensors if group.name != ROTARY_TABLES]
    return 8 * sum(group.bytes for group in groups) / max(1, sum(group.parameters for group in groups))


def packed_bits_per_weight(bits: int, block_size: int) -> float:
    """Bits a weight after ONNX Runtime has packed it for QMoE or MatMulNBits on the CPU.

    The packed form holds the codes and, for each block, an fp32 scale and an fp32 block sum, whatever the precision of
    the scales on disk; a zero point is folded into the sum and costs nothing: bits + 64 / block_size. Scales that it
    had to cast stay beside it.
    """
    return bits + 64 / block_size


def memory_bytes(group: TensorGroup, manifest: Manifest) -> int | None:
    """Estimated bytes of one of the manifest's groups once loaded: packed if multiplied in blocks, else as on disk.

    Four-bit floats of the fused plan are as on disk too, and all of the native plan: pages of the file.

    Rows of the embedding are looked up and stay as they are; a tied one, that is a bundle without an lm_head of its
    own, is multiplied too and so held twice. None for blocks in the `if` plan: there ONNX Runtime decides at load which
    of them it unpacks to fp32.
    """
    if not group.block or manifest.experts.plan == "native":
        return group.bytes
    if manifest.experts.plan != "fused":
        return None
    if group.read_as_it_lies:
        return group.bytes
    packed = round(group.parameters * packed_bits_per_weight(group.kernel_bits, group.block) / 8)
    if group.name != EMBEDDING:
        return packed + group.cast_bytes
    tied = all(other.name != LM_HEAD for other in manifest.tensors)
    return group.table_bytes + group.cast_bytes + (packed if tied else 0)


def loading_bytes(manifest: Manifest) -> int:
    """Bytes beside the weights that ONNX Runtime takes while it loads: codes of 5 and 6 bits on their way to a byte.

    None in the native plan, whose kernels read them as they are.
    """
    if manifest.experts.plan == "native":
        return 0
    return sum(group.joining_bytes for group in manifest.tensors)


def model_memory_bytes(manifest: Manifest) -> int | None:
    """Estimated bytes of all weights once loaded, without cache and scratch; None if a group has no estimate."""
    sizes = [memory_bytes(group, manifest) for group in manifest.tensors]
    return None if None in sizes else sum(size or 0 for size in sizes)


def cache_bytes_per_token(manifest: Manifest, wish: CacheType) -> int:
    """Bytes that one token of context takes in all caches together; a window's few rows do not grow with it.

    `wish` is what numbers caches are to hold, those that the profile chooses for.
    """

    return sum(cache_row_bytes(tensor, wish) for tensor in manifest.cache if not tensor.window and not tensor.is_state)


def cache_bytes_read(manifest: Manifest, wish: CacheType, length: int) -> int:
    """Bytes of all caches that a step reads after `length` tokens: of a window no more than its rows, of states all."""
    return sum(
        cache_row_bytes(tensor, wish) * (1 if tensor.is_state else min(length, tensor.window or length))
        for tensor in manifest.cache
    )


def cache_row_bytes(tensor: CacheTensor, wish: CacheType) -> int:
    """Bytes of one token in a cache."""
    return tensor.shape[0] * row_bytes(tensor, wish) if tensor.layout == "native" else prod(tensor.shape) * CACHE_BYTES


def state_bytes(manifest: Manifest) -> int:
    """Bytes of what all recurrent layers keep of a timeline at one length; a session holds several of such states."""
    return sum(prod(tensor.shape) * CACHE_BYTES for tensor in manifest.cache if tensor.is_state)


def cache_bytes_at(manifest: Manifest, wish: CacheType, lengths: Iterable[int]) -> dict[int, int]:
    """Bytes of one session's caches by how many tokens they hold, of those lengths that the context allows."""
    return {
        length: cache_nbytes(manifest.cache, length, wish)
        for length in lengths
        if length <= manifest.model.context_length
    }


def full_cache_bytes(manifest: Manifest, wish: CacheType) -> int:
    """Bytes of one session's caches when its context is full, the rows that windows hold included."""
    return cache_nbytes(manifest.cache, manifest.model.context_length, wish)


def disk_bytes(manifest: Manifest) -> int:
    """Bytes of all files that the manifest lists."""
    return sum(entry.size for entry in manifest.files.values())
