"""Small files and numbers that no model has: one sentence before any weight is read, never a crash or a full memory."""

import json

import pytest
import tiny_models as tiny

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.config_json import Config
from moedge.export.model.parts import read_rope
from moedge.export.model.rope import Yarn
from moedge.export.options import ExportOptions, ExportProgress
from moedge.export.schemes import parse_plan

INT4 = ExportOptions(parse_plan("int4"))
HUGE = 10**400


@pytest.fixture
def checkpoint(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    return tmp_path / "checkpoint"


def refuse(checkpoint, match):
    stages = []
    with pytest.raises(MoedgeError, match=match):
        export_bundle(checkpoint, checkpoint.parent / "bundle", INT4, ExportProgress(on_stage=stages.append))
    assert stages == []
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]


def edit(path, **changes):
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(data | changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rms_norm_eps": HUGE}, "rms_norm_eps = a huge number"),
        ({"rms_norm_eps": -1}, "epsilon below 0"),
        ({"hidden_size": HUGE}, "hidden_size = a huge number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
        ({"head_dim": 2_000_000}, "head_dim = 2000000"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 1e-300}}, "factor"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1e308}}, "beta_fast"),
        ({"rope_parameters": False}, "rope_parameters"),
        ({"eos_token_id": "x" * 1000}, "eos_token_id"),
    ],
)
def test_numbers_that_no_model_has(checkpoint, changes, match):
    (checkpoint / "generation_config.json").unlink()
    edit(checkpoint / "config.json", **changes)
    refuse(checkpoint, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"temperature": "hot"}, "temperature of generation_config"),
        ({"top_p": float("nan")}, "top_p of generation_config"),
        ({"eos_token_id": 99999999999}, "has 211 tokens"),
    ],
)
def test_how_to_generate_is_checked_first(checkpoint, changes, match):
    edit(checkpoint / "generation_config.json", **changes)
    refuse(checkpoint, match)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"chat_template": ["x"]}, "no chat template called default"),
        ({"chat_template": [{"name": "tool_use", "template": "a"}]}, "no chat template called default"),
        ({"chat_template": "{% if %}"}, "is not valid Jinja"),
        ({"added_tokens_decoder": {"9" * 5000: {"content": "<a>"}}}, "broken entry"),
        ({"added_tokens_decoder": {"300": {"content": "\ud800"}}}, "half of a surrogate pair"),
    ],
)
def test_tokenizer_config(checkpoint, config, match):
    edit(checkpoint / "tokenizer_config.json", **config)
    refuse(checkpoint, match)


def test_a_template_that_is_no_text(checkpoint):
    (checkpoint / "chat_template.jinja").write_bytes(b"\xff\xfe\xff")
    refuse(checkpoint, r"chat_template\.jinja is not text")


def test_a_template_for_training_is_valid(checkpoint):
    (checkpoint / "chat_template.jinja").write_text(
        "{% for m in messages %}{%- generation -%}{{ m['content'] }}{% endgeneration %}{% break %}{% endfor %}"
    )
    export_bundle(checkpoint, checkpoint.parent / "bundle", INT4)


def test_what_appears_meanwhile_is_not_replaced(checkpoint):
    target = checkpoint.parent / "bundle"

    def appear(stage):
        if stage == "graph":
            target.mkdir()
            (target / "precious.txt").write_text("mine")

    with pytest.raises(MoedgeError, match="has appeared meanwhile: move it away"):
        export_bundle(checkpoint, target, INT4, ExportProgress(on_stage=appear))
    assert (target / "precious.txt").read_text() == "mine"
    target.rename(checkpoint.parent / "mine")
    export_bundle(checkpoint, target, ExportOptions(parse_plan("int4"), resume=True))


def test_an_empty_rope_scaling_hides_nothing():
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}
    config = Config({"rope_scaling": {}, "rope_parameters": yarn, "max_position_embeddings": 256})
    assert isinstance(read_rope(config, 32).scaling, Yarn)
