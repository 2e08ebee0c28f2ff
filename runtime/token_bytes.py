"""How many bytes one token must read: what a step of decoding cannot do without, from the manifest alone.

Weights that are multiplied count whole, those of experts by the share that a token uses, in the form that the plan's
kernels read; of an embedding one row. Activations and what stays in caches of the CPU count nothing.
"""

from dataclasses import dataclass

from moedge.runtime.manifest import EMBEDDING, LM_HEAD, ROTARY_TABLES, ROUTED_EXPERTS, Manifest, TensorGroup
from moedge.runtime.sizes import memory_bytes


@dataclass(frozen=True)
class TokenBytes:
    """Bytes by what they are; `cache` is the rows of the tokens before that the plan reads."""

    experts: int
    dense: int
    head: int
    cache: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.experts + self.dense + self.head + self.cache


def token_bytes(manifest: Manifest, cache: int) -> TokenBytes | None:
    """What a token reads that has `cache` bytes of rows before it; None where ONNX Runtime may unpack to fp32."""
    model, experts, dense, head = manifest.model, 0, 0, 0
    tied = all(group.name != LM_HEAD for group in manifest.tensors)
    for group in manifest.tensors:
        size = memory_bytes(group, manifest)
        if size is None:
            return None
        if group.name == ROUTED_EXPERTS:
            experts += size * model.num_experts_per_tok // model.num_experts
        elif group.name == LM_HEAD:
            head += size
        elif group.name == EMBEDDING:
            head += _multiplied(group, size, manifest) if tied else 0
            dense += group.bytes // model.vocab_size
        elif group.name != ROTARY_TABLES:
            dense += size
    return TokenBytes(experts, dense, head, cache)


def _multiplied(table: TensorGroup, size: int, manifest: Manifest) -> int:
    """Of a tied embedding, which the fused plan holds twice, the copy that the head multiplies."""
    twice = manifest.experts.plan == "fused" and table.block
    return size - table.table_bytes - table.cast_bytes if twice else size
