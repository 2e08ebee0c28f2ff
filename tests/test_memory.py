"""Whether a bundle fits: the estimate by hand and against a measurement, refusals with their numbers, the way round."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnxruntime
import pytest
import tiny_models as tiny
from native import needs_kernels
from tiny_bundle import successors_of, write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory, detect_memory
from moedge.devices.profile import Profile, load_profile
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.cache.eviction import WINDOW_HISTORY, WINDOW_STEP
from moedge.runtime.cli import main
from moedge.runtime.manifest import (
    SCHEMA_VERSION,
    CacheTensor,
    ExpertKernel,
    Manifest,
    ModelFacts,
    TensorGroup,
    read_manifest,
)
from moedge.runtime.memory_need import LOGITS_ROWS, PROGRAM_BYTES, check_memory, memory_need
from moedge.runtime.sizes import cache_bytes_per_token, full_cache_bytes, model_memory_bytes

MB = 1_000_000
PLENTY = Memory(1 << 50, 1 << 50)
need_of = partial(memory_need, cache_type="float16")


def manifest_of(plan="fused", layout="shared", **facts) -> Manifest:
    """hidden 128, 2 layers of 8 experts of 32, 2 for a token; a context of 1000; 2.9 MB of weights."""
    shape = (2, 32) if layout == "shared" else (64,)
    model = ModelFacts("toy", 128, 500, 2, 2, 2, 8, 2, 4_300_000, 1_000_000, 1000, (1,), None, "plain")
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name="toy",
        scheme="int4-block64",
        experts=ExpertKernel(plan, 4, 64, False),
        model=replace(model, **facts),
        cache=(CacheTensor("past_key_values.0.key", "present.0.key", layout, shape),),
        tensors=(
            TensorGroup("routed experts", "int4-block64", 4, 64, 2 * 8 * 3 * 32 * 128, 110_592),
            TensorGroup("norms", "fp32", 32, 0, 700_000, 2_800_000),
        ),
        files={},
        tools={},
    )


def profile_with(memory_bytes: int) -> Profile:
    return replace(load_profile("auto"), memory_budget_bytes=memory_bytes, prefill_chunk=100)


def test_the_estimate_by_hand():
    need = need_of(manifest_of(), 3, 100)
    assert need.weights == 196_608 * 5 // 8 + 2_800_000
    assert need.caches == 3 * 1000 * 2 * 32 * 4
    activations = 4 * 100 * (8 * 128 + 2 * 3 * 32)
    assert need.scratch == activations + 3 * LOGITS_ROWS * 500 * 4
    assert need.total == need.weights + need.caches + need.scratch + PROGRAM_BYTES
    scores = 4 * 4 * 100 * 1000 * 2  # two heads
    assert need_of(manifest_of(layout="rows"), 3, 100).scratch == need.scratch + scores
    assert (
        need_of(manifest_of(), 3, 5000).scratch == 10 * activations + 3 * LOGITS_ROWS * 500 * 4
    )  # no prompt passes the context


def test_blocks_that_may_be_unpacked_count_as_on_disk_and_once_unpacked():
    manifest = manifest_of("if")
    assert model_memory_bytes(manifest) is None
    need, fused = need_of(manifest, 1, 100), need_of(manifest_of(), 1, 100)
    assert need.weights == 110_592 + 2_800_000
    assert need.scratch == fused.scratch + 4 * 500 * 128


def test_a_model_without_experts_or_with_a_window_only():
    plain = replace(manifest_of(moe_layers=0, num_experts=0), tensors=())
    assert need_of(plain, 1, 100).scratch == 4 * 100 * 8 * 128 + LOGITS_ROWS * 500 * 4
    window = replace(manifest_of(), cache=(CacheTensor("p", "q", "rows", (128,), 3),))
    assert need_of(window, 1, 100).scratch == need_of(manifest_of(), 1, 100).scratch


def test_full_caches_count_the_rows_that_windows_hold():
    rows, window = CacheTensor("a", "b", "rows", (16,)), CacheTensor("c", "d", "rows", (10,), 2)
    manifest = replace(manifest_of(context_length=4096), cache=(rows, window))
    assert cache_bytes_per_token(manifest, "float16") == 16 * 4
    held = WINDOW_HISTORY + WINDOW_STEP
    old = 2 * ((4096 - WINDOW_HISTORY) // WINDOW_STEP)
    assert full_cache_bytes(manifest, "float16") == 4 * (16 * 4096 + 10 * (held + old))
    short = replace(manifest, model=replace(manifest.model, context_length=100))
    assert full_cache_bytes(short, "float16") == 4 * 26 * 100


def test_native_caches_count_the_numbers_that_the_profile_chooses():
    """Keys of 3 heads of 40, once exact and once with a window of 100 that keeps one in four of old rows."""
    exact = CacheTensor("a", "b", "native", (3, 40), exact=True)
    free, window = replace(exact, exact=False), replace(exact, exact=False, window=100)
    manifest = replace(manifest_of(context_length=4096), cache=(exact, free, window))
    for wish, each in (("float32", 160), ("float16", 80), ("int8", 40 + 2 * 4)):
        assert cache_bytes_per_token(manifest, wish) == 3 * (160 + each)
        step, pages = 400, -(-(WINDOW_HISTORY + 400) * each // 4096)
        pages += (4096 - WINDOW_HISTORY) // step * (-(-100 * each // 4096) + 1)
        assert full_cache_bytes(manifest, wish) == 3 * (4096 * (160 + each) + pages * 4096)
        need = memory_need(manifest, 2, 100, wish)
        assert need.caches == 2 * full_cache_bytes(manifest, wish)
        assert need.scratch == need_of(manifest_of(context_length=4096), 2, 100).scratch + (16 << 20)


def test_too_little_memory_is_refused_with_the_numbers_and_ways_on():
    manifest = manifest_of()
    need = need_of(manifest, 2, 100)
    check_memory(manifest, profile_with(need.total), PLENTY, 2)
    with pytest.raises(MoedgeError) as caught:
        check_memory(manifest, profile_with(need.total - 1), PLENTY, 2)
    assert str(caught.value) == (
        "toy needs about 87.9 MB of memory (weights 2.9 MB, caches of 2 full contexts 0.5 MB, scratch 0.6 MB, program "
        "83.9 MB) and this device has 87.9 MB: export with a shorter context (`moedge export --context N`), ask "
        "for fewer than 2 at once (`--max-running`), export with a leaner `--scheme`, or pass --allow-low-memory to "
        "load it all the same."
    )
    with pytest.raises(MoedgeError) as caught:
        check_memory(manifest, profile_with(5 * MB), PLENTY, 1)
    assert "--context" not in str(caught.value)  # no context makes the weights fit
    assert "--max-running" not in str(caught.value)


def test_the_smaller_of_profile_and_machine_counts():
    manifest = manifest_of()
    for profile, machine in ((90 * MB, 80 * MB), (80 * MB, 90 * MB)):
        with pytest.raises(MoedgeError, match=r"this device has 80\.0 MB"):
            check_memory(manifest, profile_with(profile), Memory(machine, machine), 1)
    check_memory(manifest, profile_with(90 * MB), Memory(90 * MB, 90 * MB), 1)


def test_memory_that_others_use_now_is_a_warning(capsys):
    manifest = manifest_of()
    check_memory(manifest, profile_with(200 * MB), Memory(200 * MB, 4 * MB), 1)
    assert capsys.readouterr().err == ""
    check_memory(manifest, profile_with(200 * MB), Memory(200 * MB, 3 * MB), 1)
    told = capsys.readouterr().err
    assert told.startswith("warning: toy needs about 87.6 MB")
    assert told.endswith("only 3.0 MB of 200.0 MB are free now: close other programs.\n")


@pytest.fixture
def small_device(tmp_path) -> Path:
    """A profile of a device of 40 MB, of this machine's architecture."""
    path, here = tmp_path / "small.toml", load_profile("auto")
    generic = "generic-x86-64" if here.architecture == "x86_64" else "generic-aarch64"
    facts = {
        "hardware": {"memory_bytes": 40 * MB},
        "settings": {"memory_budget_bytes": 40 * MB, "prefill_chunk": 8, "awake_us": 0, "cache_type": "float32"},
    }
    lines = ['description = "small"', f'architecture = "{here.architecture}"', f'extends = "{generic}"']
    for table, stated in facts.items():
        lines.append(f"[{table}]")
        lines += [f'{key} = {{ value = {json.dumps(value)}, source = "made up" }}' for key, value in stated.items()]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", successors_of("hello"))


def test_run_refuses_before_onnxruntime_opens_anything(bundle, small_device, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", lambda *arguments, **options: pytest.fail("it was opened"))
        assert main(["run", str(bundle), "hello", "--raw", "--device", str(small_device)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("moedge: toy needs about 83.9 MB")
    assert "caches of 1 full context 0.0 MB" in told.err
    assert "this device has 40.0 MB: export with a leaner `--scheme`, or pass --allow-low-memory" in told.err
    words = ["run", str(bundle), "h", "--raw", "--device", str(small_device), "--allow-low-memory", "--max-tokens", "3"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out.strip()
    assert told.err.startswith("warning: toy needs about 83.9 MB")
    assert main(words) == 0


def test_serve_counts_all_its_places(bundle, small_device):
    words = ["serve", str(bundle), "--port", "0", "--device", str(small_device), "--max-running", "3"]
    code = "import sys; from moedge.runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "caches of 3 full contexts" in done.stderr


def test_the_limit_of_a_container_counts(bundle, tmp_path, monkeypatch):
    root = tmp_path / "root"
    for name, text in {
        "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB",
        "proc/self/cgroup": "0::/app",
        "sys/fs/cgroup/app/memory.max": str(64 << 20),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr("moedge.runtime.engine.detect_memory", lambda: detect_memory(root))
    with pytest.raises(MoedgeError, match=r"this device has 67\.1 MB"):
        Engine.load(bundle)
    assert Engine.load(bundle, allow_low_memory=True).manifest.name == "toy"
    (root / "sys/fs/cgroup/app/memory.max").write_text("max")
    assert Engine.load(bundle).manifest.name == "toy"


# the growth of what is only this process's while a bundle is loaded and a full context is fed
MEASURE = """
import sys
from dataclasses import replace
from pathlib import Path

from moedge.devices.profile import load_profile
from moedge.runtime.engine import Engine


def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


before = anonymous()
engine = Engine.load(sys.argv[1], replace(load_profile("auto"), prefill_chunk=int(sys.argv[2])), allow_slow=True)
engine.session().prefill([2 + n % 200 for n in range(engine.manifest.model.context_length)])
print(anonymous() - before)
"""
SHAPE = {"vocab_size": 4096, "hidden_size": 256, "moe_intermediate_size": 128, "num_experts_per_tok": 4}
SHAPE |= {"num_hidden_layers": 3, "max_position_embeddings": 2048}


def measure(folder, scheme, plan):
    """What a bundle of the checkpoint there is estimated to take, and what it takes beside pages of files."""
    export_bundle(folder / "checkpoint", folder / "bundle", ExportOptions(parse_plan(scheme), plan, 2048))
    words = [sys.executable, "-c", MEASURE, str(folder / "bundle"), "128"]
    grown = int(subprocess.run(words, capture_output=True, text=True, timeout=200, check=True).stdout)
    return need_of(read_manifest(folder / "bundle"), 1, 128), grown


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells anonymous memory apart")
@pytest.mark.parametrize(
    ("config", "scheme", "plan"),
    [
        (tiny.qwen3_moe(num_experts=96, **SHAPE), "int8", "fused"),
        (tiny.qwen3_moe(num_experts=32, **SHAPE), "fp32", "if"),
        (tiny.deepseek_v3(n_routed_experts=96, **SHAPE), "int4", "fused"),
    ],
    ids=["grouped-fused", "grouped-if", "latent-fused"],
)
def test_the_estimate_is_within_half_of_a_measurement(tmp_path, config, scheme, plan):
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    need, grown = measure(tmp_path, scheme, plan)
    assert grown > 30 * MB
    assert grown / 1.5 < need.total - need.program < grown * 1.5


@needs_kernels
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells anonymous memory apart")
def test_weights_of_the_native_plan_are_pages_of_the_file(tmp_path):
    """Whose growth is none of anonymous memory."""
    tiny.save_checkpoint(tiny.qwen3_moe(num_experts=208, **SHAPE), tmp_path / "checkpoint", 0)
    need, grown = measure(tmp_path, "int8", "native")
    assert need.weights > 3 * (need.caches + need.scratch)
    assert grown < 1.5 * (need.caches + need.scratch)


@needs_kernels
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells anonymous memory apart")
def test_latent_attention_of_the_native_plan_is_within_half_of_a_measurement(tmp_path):
    """With queries of 12 times the hidden size, of which the manifest says nothing."""
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512}
    heads |= {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
    tiny.save_checkpoint(tiny.deepseek_v3(n_routed_experts=32, **SHAPE, **heads), tmp_path / "checkpoint", 0)
    need, grown = measure(tmp_path, "int8", "native")
    assert grown > 30 * MB
    assert grown / 1.5 < need.caches + need.scratch < grown * 1.5
