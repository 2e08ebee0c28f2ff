"""What a token costs, and the time it takes: arithmetic by hand, of manifests that nobody exported."""

from dataclasses import replace

import pytest

from moedge.devices.forecast import Storage, TokenWork, chunk_seconds, decode_seconds, prompt_seconds
from moedge.devices.profile import load_profile
from moedge.devices.rates import Rates
from moedge.runtime.device_plan import work_of
from moedge.runtime.manifest import CacheTensor, ExpertKernel, Manifest, ModelFacts, TensorGroup
from moedge.runtime.memory_need import scratch_bytes


def test_what_a_token_costs_by_hand() -> None:
    """hidden 128; 3 layers, the first dense; 8 experts of 32, 2 for a token; a table that is the head too."""
    attention, dense, routed, table = 3 * 40_960, 24_576, 2 * 8 * 12_288, 500 * 128
    groups = (
        TensorGroup("embedding", "int8-block64", 8, 64, table, 70_000),
        TensorGroup("attention", "int8-block64", 8, 64, attention, 130_000),
        TensorGroup("dense mlp", "int8-block64", 8, 64, dense, 26_000),
        TensorGroup("routed experts", "int4-block64", 4, 64, routed, 110_592),
    )
    active = attention + dense + routed // 4 + table
    model = ModelFacts("toy", 128, 500, 3, 4, 2, 8, 2, 1, active, 1000, (1,), None, "plain")
    rows = [("key", (2, 32), 0), ("value", (2, 32), 0), ("latent", (1, 48), 0), ("convolution", (1, 128), 3)]
    cache = tuple(
        CacheTensor(f"past.{layer}.{kind}", f"present.{layer}.{kind}", "native", *rest)
        for layer, (kind, *rest) in zip((0, 0, 1, 2), rows, strict=True)
    )
    manifest = Manifest(1, "toy", "int4", ExpertKernel("native", 4, 64, False), model, cache, groups, {}, {})
    work = work_of(manifest, load_profile("rk3588"))
    assert work is not None
    assert (work.expert_bytes, work.expert_macs, work.chosen) == (110_592, routed, 0.25)
    # up to the first router, that is in two of three layers, activations are three int8 numbers
    assert work.dense_macs == attention + dense + 2 * (attention * 2 // 3 + dense)
    assert work.head_bytes == 70_000
    assert work.token_bytes == 70_000 + 130_000 + 26_000 + 70_000 // 500 + 110_592 // 4
    kept, window = work.cache
    assert (kept.bytes, kept.window) == (2 * 2 * 32 * 2 + 48 * 2, 0)  # float16
    assert kept.macs == 2 * 4 * 32 + 2 * 4 * 48  # a latent row is key and value of all four heads
    assert kept.prompt_macs == 2 * 4 * 32 + 4 * 48
    assert (window.macs, window.window) == (128, 3)
    assert work.unpacked == 0
    fused = work_of(replace(manifest, experts=replace(manifest.experts, plan="fused")), load_profile("rk3588"))
    assert fused is not None
    assert (fused.dense_macs, fused.unpacked) == (attention + dense, attention * 2 // 3 + dense)


def test_what_recurrent_layers_cost_by_hand() -> None:
    """Layers that are a mixer or an MLP alone: a recurrent one, experts, attention, experts."""
    mixing, routed = 2 * 40_960, 2 * 8 * 12_288
    groups = (
        TensorGroup("attention", "int8-block64", 8, 64, mixing, 90_000),
        TensorGroup("routed experts", "int4-block64", 4, 64, routed, 110_592),
    )
    model = ModelFacts("toy", 128, 500, 4, 4, 2, 8, 2, 1, mixing + routed // 4, 1000, (1,), None, "plain")
    state = 8 * 16 * 24 + 3 * 100  # numbers
    cache = (
        CacheTensor("past.0.state", "present.0.state", "states", (8, 16, 24)),
        CacheTensor("past.0.convolution", "present.0.convolution", "states", (3, 100)),
        CacheTensor("past.2.key", "present.2.key", "native", (2, 32)),
    )
    manifest = Manifest(1, "toy", "int4", ExpertKernel("native", 4, 64, False), model, cache, groups, {}, {})
    work = work_of(manifest, load_profile("rk3588"))
    assert work is not None
    assert (work.state_bytes, work.state_macs) == (3 * 4 * state, 3 * state)
    assert [(rows.bytes, rows.window) for rows in work.cache] == [(2 * 32 * 2, 0)]
    assert work.cache_bytes(10) == work.state_bytes + 10 * 2 * 32 * 2
    assert work.layers == 2
    plain = replace(manifest, cache=cache[2:])
    assert scratch_bytes(manifest, 64) - scratch_bytes(plain, 64) == 64 * 3 * 100 * 4  # of the convolution's channels
    assert work.dense_macs == mixing + 2 * (mixing // 2)  # only the mixer before the first router is exact


def test_experts_beside_a_dense_mlp_are_behind_the_first_router_but_for_one_layer() -> None:
    attention, dense = 3 * 40_960, 3 * 24_576
    groups = (
        TensorGroup("attention", "int8-block64", 8, 64, attention, 130_000),
        TensorGroup("dense mlp", "int8-block64", 8, 64, dense, 80_000),
    )
    model = ModelFacts("toy", 128, 500, 3, 4, 3, 8, 2, 1, attention + dense, 1000, (1,), None, "plain")
    cache = tuple(CacheTensor(f"past.{i}.key", f"present.{i}.key", "native", (2, 32)) for i in range(3))
    manifest = Manifest(1, "toy", "int8", ExpertKernel("native", 8, 64, False), model, cache, groups, {}, {})
    work = work_of(manifest, load_profile("rk3588"))
    assert work is not None
    assert work.dense_macs == attention + dense + 2 * (attention // 3 + dense // 3)


def test_states_are_read_and_written_by_a_token_and_by_a_run_of_a_prompt() -> None:
    rates = Rates(1e9, 1e9, 1e9, 1e9, 1e9, 0.0, 0.0, 1e9, 1e9)
    work = TokenWork(0, 0, 8, 2, 0, 1_000_000, 0, (), 0, state_bytes=2_000_000, state_macs=500_000)
    assert [decode_seconds(work, rates, depth).total for depth in (0, 1000)] == pytest.approx([2e-3, 2e-3])
    slow = replace(rates, attention_macs_per_s=1e8)  # products take longer than reading
    assert decode_seconds(work, slow, 0).total == pytest.approx(5e-3)
    assert chunk_seconds(work, rates, 100, 700) == pytest.approx(0.1 + 0.05 + 2e-3)
    assert prompt_seconds(work, rates, 250, 100).total == pytest.approx(0.25 + 0.125 + 3 * 2e-3)


def test_less_memory_for_experts_is_more_from_storage() -> None:
    shares = [Storage(share / 20, 1e9).missed for share in range(21)]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[5], shares[20]) == (1.0, pytest.approx(0.49), pytest.approx(0.0))
