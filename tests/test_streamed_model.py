"""The exact model, one layer at a time: the whole bundle's numbers, taps that one can compute, nothing left behind."""

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny

from moedge.export.bundle import export_bundle
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.checkpoint.modules import open_matrix
from moedge.export.checkpoint.views import names_of
from moedge.export.graph.tied_head import with_stored_head
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.export.understanding import understand
from moedge.quant.rounding import NEAREST
from moedge.runtime import Engine
from moedge.runtime.kernels.library import find_library

WINDOWS = np.random.default_rng(0).integers(2, 211, (3, 40))


def opened(source):
    return with_stored_head(source, understand(source, ExportOptions(parse_plan("fp32"))).model, [])


@pytest.fixture
def qwen(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    with Checkpoint(tmp_path / "checkpoint") as source:
        yield source


HYBRIDS = (
    "qwen3_5_moe_text", "qwen3_next", "granitemoehybrid", "nemotron_h", "gemma4_text", "cohere2_moe", "laguna", "afmoe",
)  # fmt: skip


@pytest.mark.parametrize(
    "family", ["deepseek_v3", "lfm2_moe", "gpt_oss", "granitemoe", "phimoe", "qwen2_moe", *HYBRIDS]
)
def test_all_stages_together_are_the_whole_model(family, tmp_path):
    tiny.save_checkpoint(tiny_families.MAKERS[family](), tmp_path / "checkpoint", 0)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(parse_plan("fp32")))
    engine = Engine.load(tmp_path / "bundle")
    with Checkpoint(tmp_path / "checkpoint") as source:
        model = opened(source)
        with StreamedModel(source, model, WINDOWS, tmp_path) as stream:
            for layer in range(model.num_hidden_layers):
                stream.run_layer((lambda *_: None) if layer % 2 else None)
            with stream.open_head() as head:
                logits = [head(hidden) for hidden in stream.hidden]
                last = head(stream.hidden[1][-7:])
    for window, ours in zip(WINDOWS, logits, strict=True):
        whole = engine.score(window.tolist())
        assert np.abs(ours - whole).max() < 1e-5 * np.abs(whole).max()
    assert np.abs(last - logits[1][-7:]).max() < 1e-5 * np.abs(last).max()


def norm(x, weight, eps=1e-6):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def run_expert(weights, expert, x):
    gate_up, down = (matrix.read(0, matrix.shape[0]) for matrix in (weights.gate_up[expert], weights.down[expert]))
    return (silu(x @ gate_up[::2].T) * (x @ gate_up[1::2].T)) @ down.T


def test_taps_are_what_one_computes(qwen, tmp_path):
    """A layer's taps give its output: attention's through o_proj, the experts' by choice and share."""
    model, seen = opened(qwen), []
    with StreamedModel(qwen, model, WINDOWS, tmp_path) as stream:
        stream.run_layer()
        before = stream.hidden.copy()
        stream.run_layer(lambda place, taps: seen.append((place, taps)))
        after = stream.hidden.copy()
    assert [place for place, _ in seen] == [0, 1, 2]
    at = "model.layers.1"
    attention = {f"{at}.self_attn.{part}_proj" for part in "qkvo"}
    experts = {f"{at}.mlp.experts.{e}.{part}_proj" for e in range(8) for part in ("gate", "up")}
    read = qwen.read_float
    for (_, taps), old, new in zip(seen, before, after, strict=True):
        assert taps.inputs.keys() == attention | experts
        assert len({id(x) for x in taps.inputs.values()}) == 3
        normed = norm(old, read(f"{at}.input_layernorm.weight"))
        assert np.allclose(taps.inputs[f"{at}.self_attn.q_proj"], normed, rtol=0, atol=1e-5)
        mixed = old + taps.inputs[f"{at}.self_attn.o_proj"] @ read(f"{at}.self_attn.o_proj.weight").T
        x = norm(mixed, read(f"{at}.post_attention_layernorm.weight"))
        routed = taps.routed
        assert np.allclose(routed.x, x, rtol=0, atol=1e-5)
        assert routed.x is taps.inputs[f"{at}.mlp.experts.7.up_proj"]
        logits = x @ read(f"{at}.mlp.gate.weight").T
        chosen = np.argsort(-logits, axis=-1)[:, :3]
        assert np.array_equal(routed.chosen, chosen)
        shares = np.exp(np.take_along_axis(logits, chosen, -1))
        assert np.allclose(routed.shares, shares / shares.sum(-1, keepdims=True), rtol=0, atol=1e-5)
        made = np.zeros_like(x)
        for t, (row, share) in enumerate(zip(routed.chosen, routed.shares, strict=True)):
            made[t] = sum(s * run_expert(routed.weights, e, x[t]) for e, s in zip(row, share, strict=True))
        assert np.abs(mixed + made - new).max() < 1e-5 * np.abs(new).max()


def test_taps_have_the_scale_of_the_router_and_dense_layers_no_experts(tmp_path):
    tiny.save_checkpoint(tiny.deepseek_v3(), tmp_path / "checkpoint", 0)
    seen = []
    with Checkpoint(tmp_path / "checkpoint") as source:
        with StreamedModel(source, opened(source), WINDOWS[:1], tmp_path) as stream:
            for _ in range(2):
                stream.run_layer(lambda _, taps: seen.append(taps))
        dense, mixed = seen
        assert dense.routed is None
        assert np.allclose(mixed.routed.shares.sum(-1), 2.5, atol=1e-5)
        for layer, taps in enumerate(seen):
            for name, x in taps.inputs.items():
                columns = source.shape(f"{name}.weight")[1]
                assert open_matrix(source, name, source.shape(f"{name}.weight")).shape[1] == columns
                assert x.shape == (40, columns)
                assert name.startswith(f"model.layers.{layer}.")
    attention = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}
    mlp = {"gate_proj", "up_proj", "down_proj"}
    at = "model.layers.0"
    assert dense.inputs.keys() == {f"{at}.self_attn.{n}" for n in attention} | {f"{at}.mlp.{n}" for n in mlp}


class Heard:
    """Round to nearest, and which matrices were asked for."""

    name = "heard"

    def __init__(self):
        self.matrices = set()

    def __call__(self, matrix, weights, scheme):
        self.matrices.add(matrix)
        return NEAREST(matrix, weights, scheme)


@pytest.mark.parametrize("family", tiny_families.MAKERS)
def test_taps_have_every_matrix_that_a_rounding_hears_by_its_name(family, tmp_path):
    tiny.save_checkpoint(tiny_families.quantizable(family), tmp_path / "checkpoint", 0)
    heard, tapped = Heard(), set()
    options = ExportOptions(parse_plan("int4"), rounding=heard)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options)

    def note(_, taps):
        tapped.update(taps.inputs)
        if taps.routed is not None:
            tapped.update(name for matrix in taps.routed.weights.down for name in names_of(matrix))

    with Checkpoint(tmp_path / "checkpoint") as source:
        model = opened(source)
        with StreamedModel(source, model, WINDOWS[:1, :20], tmp_path) as stream:
            for _ in range(model.num_hidden_layers):
                stream.run_layer(note)
    assert heard.matrices - tapped == {model.names.embedding, *([] if model.tie_word_embeddings else ["lm_head"])}
    unheard = tapped - heard.matrices
    assert not unheard or (find_library() is None and all(name.endswith(".kv_b_proj") for name in unheard))


def test_a_run_gives_the_same_bits_each_time_and_taps_change_none(qwen, tmp_path):
    runs = []
    for on_taps in (None, None, lambda *_: None):
        with StreamedModel(qwen, opened(qwen), WINDOWS, tmp_path) as stream:
            for _ in range(3):
                stream.run_layer(on_taps)
            runs.append(stream.hidden.tobytes())
    assert runs[0] == runs[1] == runs[2]


def test_the_account_of_an_export_and_its_progress_know_nothing_of_it(tmp_path):
    tiny.save_checkpoint(tiny.qwen3_moe(), tmp_path / "checkpoint", 0)
    read = []
    with Checkpoint(tmp_path / "checkpoint", read.append) as source:
        model = opened(source)
        source.read("model.norm.weight")
        with StreamedModel(source, model, WINDOWS, tmp_path) as stream:
            stream.run_layer()
        assert source.consumed() == ["model.norm.weight"]
        assert len(read) == 1
        source.read("lm_head.weight", 0, 2)  # it is still open


def test_nothing_is_left_on_the_disk_and_a_layer_s_weights_only_while_it_runs(qwen, tmp_path):
    folder, held = tmp_path / "scratch", []
    folder.mkdir()

    def measure(*_):
        held.append(sum(path.stat().st_size for path in folder.rglob("weights.bin")))

    with pytest.raises(RuntimeError), StreamedModel(qwen, opened(qwen), WINDOWS, folder) as stream:
        stream.run_layer(measure)
        measure()
        stream.run_layer(measure)
        raise RuntimeError
    assert list(folder.iterdir()) == []
    assert held[3] == 0
    layer = sum(qwen.read(name).nbytes for name in qwen.dtypes() if name.startswith("model.layers.1."))
    assert max(held) < layer + 64 * 1024 * 64  # 64 KiB at most are between two tensors
