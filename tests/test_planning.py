"""`moedge plan`: what a bundle, a checkpoint, a config alone and a model on the hub come to, on any device."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models as tiny
from hub_server import running_hub
from published_configs import PUBLISHED
from tiny_families import MAKERS, quantizable
from tiny_families import small as small_of

from moedge.devices.profile import Profile, load_profile
from moedge.devices.profile_file import profile_names
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.planning.modelled import open_model
from moedge.export.schemes import parse_plan
from moedge.runtime.cli import main
from moedge.runtime.device_plan import make_plan
from moedge.runtime.manifest import Manifest

CONTEXT = 64


def small(family: str, **changes):
    """A family's small configuration."""
    own = {"qwen3_moe": tiny.qwen3_moe, "deepseek_v3": tiny.deepseek_v3}
    return own[family](**changes) if family in own else small_of(family, **changes)


@pytest.fixture
def board() -> Profile:
    return load_profile("raspberry-pi-5-8gb")


def config_of(config, folder: Path) -> Path:
    folder.mkdir()
    config.save_pretrained(folder)
    return folder / "config.json"


def same_sizes(one: Manifest, other: Manifest) -> None:
    assert one.tensors == other.tensors
    assert one.cache == other.cache
    facts = {"eos_token_ids": (), "bos_token_id": None, "chat_format": "plain"}
    assert replace(one.model, **facts) == replace(other.model, **facts)
    assert one.experts == other.experts


@pytest.mark.parametrize(
    ("family", "scheme", "plan"),
    [
        *((family, "balanced", "native") for family in MAKERS),
        *((family, "balanced", "fused") for family in ("qwen3_moe", "gpt_oss", "qwen3_next", "nemotron_h")),
        *((family, "int8", "native") for family in ("deepseek_v3", "lfm2_moe", "granitemoehybrid", "gemma4")),
        *((family, "int8", "fused") for family in ("deepseek_v3", "lfm2_moe", "mellum")),
    ],
)
def test_a_config_alone_tells_what_an_export_makes(family: str, scheme: str, plan, tmp_path: Path) -> None:
    config = quantizable(family)
    tiny.save_checkpoint(config, tmp_path / "checkpoint", 0)
    chosen = parse_plan(scheme)
    made = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(chosen, plan, CONTEXT))
    imagined = open_model(str(config_of(config, tmp_path / "alone"))).manifest(scheme, plan, CONTEXT)
    same_sizes(imagined, made)
    same_sizes(open_model(str(tmp_path / "checkpoint")).manifest(scheme, plan, CONTEXT), made)
    assert open_model(str(tmp_path / "bundle")).manifest("", plan, 1) == made


def test_experts_in_mxfp4_stay_so(board, tmp_path: Path) -> None:
    path = config_of(
        small("gpt_oss", intermediate_size=64, quantization_config={"quant_method": "mxfp4"}), tmp_path / "alone"
    )
    kernel = open_model(str(path)).manifest("balanced", "fused", CONTEXT).experts
    assert (kernel.codes, kernel.bits) == ("mxfp4", 4)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_can_be_planned_by_their_config(name: str, board, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED[name].config))
    planned = open_model(str(path))
    made = make_plan(planned.manifest("balanced", "native", 512), board, None, 1, planned.most_context)
    assert made is not None
    published, model = PUBLISHED[name], planned.manifest("balanced", "native", 512).model
    assert (model.moe_layers, model.num_experts) == (published.moe_layers, published.experts)
    assert 4.5 / 8 < made.need.weights / model.total_parameters < 5.6 / 8
    assert made.decode_tokens_per_second > 0
    assert made.fits == (made.spare_bytes >= 0)
    assert made.largest_context <= planned.most_context


def test_the_largest_context_is_the_largest(board, tmp_path: Path) -> None:
    path = config_of(small("qwen3_moe", max_position_embeddings=100_000), tmp_path / "alone")
    manifest = open_model(str(path)).manifest("balanced", "native", CONTEXT)
    tight = replace(board, memory_budget_bytes=150_000_000)
    made = make_plan(manifest, tight, None, 1, 100_000)
    assert made is not None
    longest = made.largest_context
    assert CONTEXT < longest < 100_000
    for context, fits in ((longest, True), (longest + 1, False)):
        at = make_plan(manifest, tight, context, 1, 100_000)
        assert at is not None
        assert at.fits == fits


def asked(capsys, *words: str) -> dict:
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_has_what_machines_ask_for(capsys, tmp_path: Path) -> None:
    path = str(config_of(small("qwen3_moe"), tmp_path / "alone"))
    found = asked(capsys, path, "--device", "raspberry-pi-5-8gb", "--context", "100")
    assert (found["fits"], found["context"], found["device"]) == (True, 100, "raspberry-pi-5-8gb")
    assert found["best_scheme"] == "int8"
    parts = found["memory_bytes"]
    assert parts["total"] == sum(parts[each] for each in ("weights", "cache", "activations", "runtime"))
    assert {"bytes_per_token", "decode_tokens_per_second", "prompt_tokens_per_second", "bound"} <= set(found)
    assert list(found["first_token_seconds"]) == ["100", "1000", "10000"]
    more = asked(capsys, path, "--device", "raspberry-pi-5-8gb", "--context", "100", "--sessions", "3")
    assert more["memory_bytes"]["cache"] == 3 * parts["cache"]
    all_of_them = asked(capsys, path, "--all-devices")
    assert {each["device"] for each in all_of_them} >= {name for name in profile_names() if "generic" not in name}
    assert main(["plan", path, "--all-devices"]) == 0
    assert "raspberry-pi-4-4gb" in capsys.readouterr().out


def device_of(tmp_path: Path, budget: int) -> str:
    path = tmp_path / "small.toml"
    path.write_text(
        'description = "small"\narchitecture = "aarch64"\nextends = "raspberry-pi-4-4gb"\n[settings]\n'
        f'memory_budget_bytes = {{ value = {budget}, source = "made up" }}\n'
    )
    return str(path)


def test_what_does_not_fit_says_how_much_and_what_storage_gives(capsys, tmp_path: Path) -> None:
    config = small("qwen3_moe", num_experts=64, moe_intermediate_size=512, hidden_size=256)
    path = str(config_of(config, tmp_path / "alone"))
    need = asked(capsys, path, "--device", "raspberry-pi-4-4gb")["memory_bytes"]
    device = device_of(tmp_path, need["total"] - need["weights"] // 2)
    found = asked(capsys, path, "--device", device)
    assert (found["fits"], found["bound"]) == (False, "storage")
    assert found["spare_bytes"] == -(need["weights"] // 2)
    assert 0.3 < found["from_storage"]["resident_experts"] < 0.5
    assert found["decode_tokens_per_second"] == found["from_storage"]["decode_tokens_per_second"]
    assert main(["plan", path, "--device", device]) == 0
    said = capsys.readouterr().out
    assert "DOES NOT FIT" in said
    assert "the others are read at 40 MB/s" in said
    less = asked(capsys, path, "--device", device_of(tmp_path, need["total"] - need["weights"]))
    assert less["from_storage"] is less["decode_tokens_per_second"] is None


def test_export_refuses_with_the_numbers_of_the_plan(capsys, tmp_path: Path) -> None:
    tiny.save_checkpoint(small("qwen3_moe"), tmp_path / "checkpoint", 0)
    device = device_of(tmp_path, 85_000_000)
    words = ["export", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "bundle"), "--calibration", "none"]
    assert main([*words, "--device", device]) == 1
    said = capsys.readouterr().err
    total = asked(capsys, str(tmp_path / "checkpoint"), "--device", device)["memory_bytes"]["total"]
    assert f"needs about {total / 1e6:.1f} MB and small has 85.0 MB" in said
    assert not (tmp_path / "bundle").exists()
    assert main([*words, "--device", "raspberry-pi-5-8gb"]) == 0
    capsys.readouterr()
    assert asked(capsys, str(tmp_path / "bundle"), "--device", "raspberry-pi-5-8gb")["fits"]


def test_only_config_and_index_are_fetched(tmp_path: Path) -> None:
    tiny.save_checkpoint(small("qwen3_moe"), tmp_path / "checkpoint", 0, shard="20KB")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    with running_hub() as hub:
        hub.publish("org/tiny", tmp_path / "checkpoint")
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        code = "import sys; from moedge.runtime.cli import main; sys.exit(main(sys.argv[1:]))"
        words = [sys.executable, "-c", code, "plan", "hf://org/tiny", "--device", "rk3588", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert set(hub.asked()) == {"config.json", "model.safetensors.index.json"}
    assert json.loads(done.stdout)["model"] == "hf://org/tiny"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nowhere",), "nowhere is nothing that can be planned for"),
        (("config.json", "--context", "0"), "--context 0 is not within 1 to"),
        (("config.json", "--context", "1000000"), "is not within 1 to"),
        (("config.json", "--device", "raspbery-pi-5-8gb"), "did you mean raspberry-pi-5-8gb?"),
        (("config.json", "--scheme", "int3"), "no scheme is called 'int3'"),
        (("config.json", "--experts", "if"), "which nobody can plan for"),
        (("broken.json",), "is not valid JSON"),
        (("list.json",), "is not a JSON object"),
        (("unknown.json",), "does not know the model type 'nonsense'"),
        (("model.gguf",), "GGUF"),
    ],
)
def test_what_cannot_be_planned(words, reason: str, capsys, tmp_path: Path, monkeypatch) -> None:
    config_of(small("qwen3_moe"), tmp_path / "alone")
    monkeypatch.chdir(tmp_path / "alone")
    Path("broken.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("unknown.json").write_text('{"model_type": "nonsense"}')
    Path("model.gguf").write_bytes(b"GGUF")
    assert main(["plan", *words]) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.splitlines()) == 1


def test_a_bundle_has_the_scheme_that_it_has(capsys, tmp_path: Path) -> None:
    tiny.save_checkpoint(small("qwen3_moe"), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("int8"), "native", CONTEXT))
    assert asked(capsys, str(tmp_path / "bundle"))["context"] == CONTEXT
    assert main(["plan", str(tmp_path / "bundle"), "--scheme", "int4"]) == 1
    assert "the bundle has int8" in capsys.readouterr().err
    assert main(["plan", str(tmp_path / "bundle"), "--context", "65"]) == 1
    assert "is not within 1 to 64" in capsys.readouterr().err


def test_a_plan_tells_of_states(capsys, tmp_path: Path) -> None:
    config = quantizable("qwen3_next")
    path = str(config_of(config, tmp_path / "alone"))
    found = asked(capsys, path, "--device", "rk3588", "--context", "512")
    # of each delta net four heads of 16 x 16, and three rows of 2 x 2 x 16 + 4 x 16 channels
    assert found["state_bytes"] == config.layer_types.count("linear_attention") * 4 * (4 * 16 * 16 + 3 * 128)
    assert found["memory_bytes"]["cache"] > 18 * found["state_bytes"]  # those that it keeps to go back to
    assert main(["plan", path, "--device", "rk3588"]) == 0
    assert "reads and writes 0.0 MB of states" in capsys.readouterr().out
    assert asked(capsys, str(config_of(quantizable("mellum"), tmp_path / "other")))["state_bytes"] == 0
