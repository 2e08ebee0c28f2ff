"""What a bundle costs, by its manifest alone: arithmetic."""

from dataclasses import replace

import pytest
from test_bundle import tiny_manifest

from moedge.runtime import manifest as contract
from moedge.runtime.manifest import Manifest, TensorGroup
from moedge.runtime.sizes import (
    cache_bytes_per_token,
    cache_bytes_read,
    disk_bits_per_weight,
    loading_bytes,
    memory_bytes,
    model_memory_bytes,
    packed_bits_per_weight,
)


@pytest.mark.parametrize(("bits", "block", "packed"), [(4, 128, 4.5), (4, 64, 5), (4, 32, 6), (8, 32, 10)])
def test_packed_weights_carry_two_floats_a_block(bits: int, block: int, packed: float) -> None:
    assert packed_bits_per_weight(bits, block) == packed


def with_groups(plan: contract.ExpertPlan, *groups: TensorGroup) -> Manifest:
    kernel = contract.ExpertKernel(plan, 4, 32, False)
    return replace(tiny_manifest(), experts=kernel, tensors=groups)


def test_memory_is_estimated_from_the_scheme_not_from_the_file() -> None:
    half_scales = TensorGroup("routed experts", "int4-block32 (published)", 4, 32, 3200, 3200 * 9 // 16)
    norms = TensorGroup("norms", "fp32", 32, 0, 64, 256)
    assert disk_bits_per_weight(half_scales) == 4.5
    assert memory_bytes(half_scales, with_groups("fused", half_scales)) == 3200 * 6 // 8
    assert model_memory_bytes(with_groups("fused", half_scales, norms)) == 3200 * 6 // 8 + 256
    assert memory_bytes(norms, with_groups("if", half_scales, norms)) == 256
    assert model_memory_bytes(with_groups("if", half_scales, norms)) is None
    assert disk_bits_per_weight(TensorGroup("norms", "fp32", 32, 0, 0, 0)) == 0


def test_the_native_plan_is_as_large_in_memory_as_on_disk() -> None:
    table = TensorGroup("embedding", "int5-block64", 5, 64, 6400, 4300, "float8")
    manifest = with_groups("native", table)
    assert memory_bytes(table, manifest) == model_memory_bytes(manifest) == 4300  # tied, too
    assert loading_bytes(manifest) == 0 < loading_bytes(with_groups("fused", table))


def test_an_embedding_is_looked_up_and_if_tied_multiplied_too() -> None:
    table = TensorGroup("embedding", "int4-block64", 4, 64, 6400, 3600)
    head = replace(table, name="lm_head")
    assert memory_bytes(table, with_groups("fused", table, head)) == 3600
    assert memory_bytes(head, with_groups("fused", table, head)) == 6400 * 5 // 8
    assert memory_bytes(table, with_groups("fused", table)) == 3600 + 6400 * 5 // 8


def test_cache_bytes_a_token_count_every_head_and_layer_in_fp32() -> None:
    rows = contract.CacheTensor("past_key_values.0.latent", "present.0.latent", "rows", (576,))
    shared = contract.CacheTensor("past_key_values.1.key", "present.1.key", "shared", (4, 128))
    assert cache_bytes_per_token(replace(tiny_manifest(), cache=(rows, shared)), "float16") == (576 + 4 * 128) * 4
    windowed = replace(tiny_manifest(), cache=(rows, replace(rows, window=3)))
    assert cache_bytes_read(windowed, "float16", 100) == 103 * 576 * 4
    assert cache_bytes_read(windowed, "float16", 2) == 4 * 576 * 4
