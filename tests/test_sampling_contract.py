"""Sampling values of a checkpoint, a bundle and a request: one table, so that every bundle that is exported loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
from hypothesis import example, given
from hypothesis import strategies as st

from moedge.devices.errors import MoedgeError
from moedge.edge_server.errors import ApiError
from moedge.edge_server.fields import Fields
from moedge.edge_server.sampling_fields import BOUNDS, read_sampling
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.tokenizer.talking import mend_sampling
from moedge.runtime import Engine, SamplingParams
from moedge.runtime.generation_config import default_params
from moedge.runtime.manifest import SAMPLING
from moedge.runtime.sampling import Sampler

NAMES = st.sampled_from(sorted(SAMPLING))
VALUES = st.one_of(
    st.integers(-3, 60),
    st.floats(),
    st.sampled_from([-1, 0, 1, 50.0, -1.0, 1 << 31, (1 << 31) + 1, 10**400, 1e-40, 0.01, 10, True, "0.9", "", [], {}]),
)


@pytest.fixture
def checkpoint(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(num_hidden_layers=1), tmp_path / "checkpoint", 0)
    return tmp_path / "checkpoint"


def state(checkpoint: Path, **values: object) -> None:
    path = checkpoint / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def export(checkpoint: Path) -> Path:
    bundle = checkpoint.with_name("bundle")
    export_bundle(checkpoint, bundle, ExportOptions(parse_plan("int4"), "fused", force=True))
    return bundle


@given(NAMES, VALUES, st.booleans())
@example("top_k", -1, False)
@example("top_p", 0, True)
@example("temperature", -1, False)
@example("repetition_penalty", 0, False)
def test_what_export_lets_through_the_runtime_takes(name, value, greedy):
    try:
        mended = mend_sampling({name: value} | ({"do_sample": False} if greedy else {}))
    except MoedgeError as error:
        assert f"{name} of generation_config.json is" in str(error)
        with pytest.raises(MoedgeError):
            SamplingParams(**{name: value})
        return
    params = default_params(json.loads(json.dumps(mended)))
    assert greedy or getattr(params, name) == (0 if (name, value) == ("top_k", -1) else value)
    assert type(params.top_k) is int


@given(st.sampled_from(sorted(BOUNDS)), st.one_of(st.integers(-3, 60), st.floats(allow_nan=False)))
def test_what_a_request_may_say_the_runtime_takes(name, value):
    try:
        params = read_sampling(Fields({name: value}), SamplingParams(), 10)
    except ApiError as error:
        assert error.param == name
        return
    assert getattr(params, name) == (0 if (name, value) == ("top_k", -1) else value)


def test_bounds_count_themselves():
    for least in (True, False):
        ends = {name: bounds.low if least else bounds.high for name, bounds in SAMPLING.items()}
        params, logits = SamplingParams(**ends), np.array([3e5, -3e5, 0.0], np.float32)
        assert 0 <= Sampler(params, 3, prompt=[0, 1]).choose(logits) < 3
    for name, value in (
        ("repetition_penalty", 0.009),
        ("repetition_penalty", 1001),
        ("top_p", -0.1),
        ("top_k", 50.0),
        ("temperature", 10**308),
    ):
        with pytest.raises(MoedgeError, match=f"^{name} is {value}, it must be "):
            SamplingParams(**{name: value})


@pytest.mark.parametrize(("stated", "top_k"), [(-1, 0), (50.0, 50), (-1.0, 0), (None, 0)])
def test_another_spelling_of_top_k_is_mended_in_the_bundle(checkpoint, stated, top_k):
    """-1 made a bundle that could not be loaded, 50.0 one that failed at every token."""
    state(checkpoint, top_k=stated)
    bundle = export(checkpoint)
    engine = Engine.load(bundle, allow_slow=True)
    assert engine.defaults == SamplingParams(top_k=top_k)
    assert json.loads((bundle / "genai_config.json").read_text())["search"]["top_k"] == top_k
    assert len(list(engine.generate([5, 6], SamplingParams(top_k=top_k, max_tokens=2, ignore_eos=True)))) == 2


@pytest.mark.parametrize(
    ("name", "value"), [("top_p", -1), ("temperature", -1), ("repetition_penalty", 0), ("top_k", -2), ("min_p", 2)]
)
def test_what_makes_no_sense_is_refused_before_any_weight_is_read(checkpoint, monkeypatch, name, value):
    state(checkpoint, **{name: value})
    monkeypatch.setattr("moedge.export.checkpoint.shard.Shard.read", lambda *_: pytest.fail("a weight was read"))
    with pytest.raises(MoedgeError, match=rf"^{name} of generation_config\.json is {value}, which is no number .*\.$"):
        export(checkpoint)
    assert not checkpoint.with_name("bundle").exists()
