"""What a bundle costs, by its manifest alone: arithmetic."""

from dataclasses import replace

import pytest
from test_bundle import tiny_manifest

from moedge.runtime import manifest as contract
from moedge.runtime.manifest import Manifest, TensorGroup
from moedge.runtime.sizes import (
    bits_per_weight,
    cache_bytes_at,
    cache_bytes_per_token,
    cache_bytes_read,
    disk_bits_per_weight,
    loading_bytes,
    memory_bytes,
    model_memory_bytes,
    packed_bits_per_weight,
    state_bytes,
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


def test_bits_a_weight_of_a_model_leave_out_what_is_computed() -> None:
    table = TensorGroup("embedding", "int6-block64", 6, 64, 6400, 5000)
    norms = TensorGroup("norms", "fp32", 32, 0, 100, 400)
    computed = TensorGroup("rotary tables", "fp32", 32, 0, 9999, 4 * 9999)
    assert bits_per_weight(with_groups("native", table, norms, computed)) == 8 * 5400 / 6500


def test_states_are_of_one_size_and_windows_grow_by_a_quarter_at_most() -> None:
    """Two states of 4 MiB: 18 of the pair are 128 MiB and two more. A window of 1,024: a step is four of them."""
    state = contract.CacheTensor("past_key_values.0.state", "present.0.state", "states", (16, 128, 512))
    other = replace(state, past="past_key_values.1.state", present="present.1.state")
    keys = contract.CacheTensor("past_key_values.2.key", "present.2.key", "native", (4, 128))
    window = replace(keys, past="past_key_values.3.key", present="present.3.key", window=1024)
    manifest = replace(tiny_manifest(), cache=(state, other, keys, window))
    manifest = replace(manifest, model=replace(manifest.model, context_length=40_000))
    assert state_bytes(manifest) == 8 << 20
    assert cache_bytes_read(replace(manifest, cache=(state, other)), "float16", 1000) == 8 << 20
    found = cache_bytes_at(manifest, "float16", (4096, 32768, 65536))
    row, states = 4 * 128 * 2, 18 * (8 << 20)
    assert [*found] == [4096, 32768]
    assert found[4096] == states + 2 * 4096 * row
    steps = (32768 - 512) // 4096
    assert found[32768] == states + 32768 * row + (512 + 4096) * row + steps * (1024 * row + 4 * 4096)
    assert cache_bytes_at(replace(manifest, cache=(state, other)), "int8", [1]) == {1: states}
