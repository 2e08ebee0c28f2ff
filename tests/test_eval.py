"""`moedge eval`: a bundle against its checkpoint, its figures against the plainest arithmetic, and what it refuses."""

import hashlib
import json
import math
import random
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import tiny_families
import tiny_models as tiny
from onnx import numpy_helper
from tokenizers import processors

from moedge.export.bundle import export_bundle
from moedge.export.evaluation.evaluate import EvalOptions, EvalProgress, evaluate
from moedge.export.evaluation.text_windows import read_windows
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.quant.fidelity import SKIPPED
from moedge.runtime import Engine
from moedge.runtime.cli import main
from moedge.runtime.manifest import FileEntry, read_manifest, write_manifest
from moedge.runtime.text import Tokenizer

VOCABULARY = 260  # the byte tokenizer's, and two more


def write_text(path, characters):
    rng = random.Random(0)
    path.write_text("".join(rng.choice("abcdefgh ijk.\n") for _ in range(characters)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, a text, and bundles fp32, int8 and int4."""
    folder = tmp_path_factory.mktemp("eval")
    sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": 1024}
    tiny.save_checkpoint(tiny_families.quantizable("qwen3_moe", **sizes), folder / "checkpoint", 0)
    write_text(folder / "text.txt", 3000)
    for scheme in ("fp32", "int8", "int4"):
        export_bundle(folder / "checkpoint", folder / scheme, ExportOptions(parse_plan(scheme)))
    return folder


@pytest.fixture
def measure(capsys):
    def measure(bundle, checkpoint, text, *words):
        capsys.readouterr()
        assert main(["eval", str(bundle), "--against", str(checkpoint), "--text", str(text), "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return measure


@pytest.fixture
def refused(made, capsys):
    """Run it with words that replace the usual ones; it fails with one sentence that holds all of `told`."""

    def refused(told, bundle=None, against=None, text=None, words=("--tokens", "300", "--window", "100")):
        paths = (bundle or made / "int4", against or made / "checkpoint", text or made / "text.txt")
        line = ["eval", str(paths[0]), "--against", str(paths[1]), "--text", str(paths[2]), *words]
        capsys.readouterr()
        assert main(line) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("moedge: ")
        assert err.count("\n") == 1
        assert not [word for word in told if word not in err], err

    return refused


def relist(bundle):
    """Have the manifest of a changed bundle say what its files are."""
    manifest = read_manifest(bundle)
    data = {name: (bundle / name).read_bytes() for name in manifest.files}
    files = {name: FileEntry(len(each), hashlib.sha256(each).hexdigest()) for name, each in data.items()}
    write_manifest(replace(manifest, files=files), bundle)


SMALL = ("--tokens", "300", "--window", "100")


def test_the_exact_bundle_does_not_differ(made, measure):
    figures = measure(made / "fp32", made / "checkpoint", made / "text.txt", *SMALL)
    assert abs(figures["kl_mean"]) < 1e-9
    assert figures["top1"] == 1
    assert figures["perplexity"] == pytest.approx(figures["reference_perplexity"], rel=1e-6)
    assert figures["bits_per_weight"] == figures["bits_per_weight_in_memory"] == 32
    assert (figures["windows"], figures["window"], figures["positions"]) == (3, 100, 3 * (100 - SKIPPED - 1))
    assert [layer["layer"] for layer in figures["layers"]] == [0, 1, 2]
    for layer in figures["layers"]:
        assert layer["hidden_error"] < 1e-6
        assert layer["expert_agreement"] == 1


def test_fewer_bits_differ_more(made, measure):
    int8, int4 = (measure(made / n, made / "checkpoint", made / "text.txt", *SMALL) for n in ("int8", "int4"))
    assert 0 < 10 * int8["kl_mean"] < int4["kl_mean"]
    assert 0 < int8["kl_se"] < int8["kl_mean"]
    assert int8["kl_median"] < int8["kl_p99"] < int4["kl_p99"]
    assert 1 > int8["top1"] > int4["top1"] > 0
    assert int8["reference_perplexity"] == int4["reference_perplexity"] != int4["perplexity"]
    for coarse, fine in zip(int4["layers"], int8["layers"], strict=True):
        assert coarse["hidden_error"] > 5 * fine["hidden_error"] > 0
        assert 0.5 < coarse["expert_agreement"] < fine["expert_agreement"] <= 1


def test_the_figures_are_those_of_transformers_and_of_the_engine(made, measure):
    figures = measure(made / "int4", made / "checkpoint", made / "text.txt", *SMALL)
    engine, exact = Engine.load(made / "int4"), tiny.load_checkpoint(made / "checkpoint")
    ids = np.array(engine.tokenizer.encode((made / "text.txt").read_text()))
    kl, same, surprise, usual = [], [], [], []
    for start in (0, (len(ids) - 100) // 2, len(ids) - 100):
        window = ids[start : start + 100]
        ours, theirs = engine.score(window.tolist()).astype(np.float64), tiny.reference_logits(exact, window)
        for at in range(16, 99):
            p, q = (np.exp(row - row.max()) for row in (theirs[at].astype(np.float64), ours[at]))
            p, q = p / p.sum(), q / q.sum()
            kl.append(float(np.sum(p * np.log(p / q))))
            same.append(p.argmax() == q.argmax())
            surprise.append(-math.log(q[window[at + 1]]))
            usual.append(-math.log(p[window[at + 1]]))
    assert figures["kl_mean"] == pytest.approx(np.mean(kl), rel=1e-3)
    assert figures["kl_p99"] == pytest.approx(np.quantile(kl, 0.99), rel=1e-2)
    assert figures["top1"] == pytest.approx(np.mean(same), abs=0.005)
    assert figures["perplexity"] == pytest.approx(math.exp(np.mean(surprise)), rel=1e-4)
    assert figures["reference_perplexity"] == pytest.approx(math.exp(np.mean(usual)), rel=1e-4)
    groups = [group for group in read_manifest(made / "int4").tensors if group.name != "rotary tables"]
    weights = sum(tensor.numel() for tensor in exact.parameters())
    assert figures["bits_per_weight"] == pytest.approx(8 * sum(g.bytes for g in groups) / weights)


def test_a_window_may_be_longer_than_what_the_engine_takes_at_once(made, measure):
    assert Engine.load(made / "fp32").profile.prefill_chunk < 600
    figures = measure(made / "fp32", made / "checkpoint", made / "text.txt", "--tokens", "600", "--window", "600")
    assert figures["positions"] == 600 - SKIPPED - 1
    assert figures["kl_se"] is None
    assert abs(figures["kl_mean"]) < 1e-6
    assert max(layer["hidden_error"] for layer in figures["layers"]) < 1e-5


def test_people_see_tables(made, capsys):
    words = ["eval", made / "int4", "--against", made / "checkpoint", "--text", made / "text.txt", *SMALL]
    assert main([str(word) for word in words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "249 positions, in 3 windows of 100 tokens" in out
    for told in ("KL(fp32 || bundle)", "±", "99th percentile", "perplexity", "bits a weight", "same experts", "%"):
        assert told in out


def test_it_tells_how_far_it_is(made):
    totals, steps = [], []
    progress = EvalProgress(on_total=totals.append, on_step=steps.append)
    paths = made / "int4", made / "checkpoint", made / "text.txt"
    assert evaluate(*paths, EvalOptions(300, 100), progress).windows == 3
    assert totals == [len(steps)]
    assert [*dict.fromkeys(steps)] == ["bundle", "layer 0", "layer 1", "layer 2", "logits"]


@pytest.mark.parametrize(("change", "told"), [({"vocab_size": 300}, "vocabulary is 260 there and 300 here"),
    ({"hidden_size": 256}, "hidden size is 128"), ({"num_hidden_layers": 2}, "number of layers is 3"),
    ({"num_experts": 4}, "number of experts is 8"), ({"mlp_only_layers": [0]}, "number of layers with experts is 3"),
    ({"num_experts_per_tok": 2}, "number of experts a token is 3")])  # fmt: skip
def test_another_checkpoint_is_refused(change, told, tmp_path, refused):
    values = {"vocab_size": VOCABULARY} | change
    tiny.save_checkpoint(tiny_families.quantizable("qwen3_moe", **values), tmp_path / "other", 0)
    refused(["was not made of", told], against=tmp_path / "other")


def test_another_family_is_refused(tmp_path, refused):
    tiny.save_checkpoint(tiny_families.quantizable("mixtral", vocab_size=VOCABULARY), tmp_path / "other", 0)
    refused(["model type is qwen3_moe there and mixtral here"], against=tmp_path / "other")


def test_a_text_that_does_not_do_is_refused(tmp_path, refused):
    short, bytes_ = write_text(tmp_path / "short", 250), tmp_path / "bytes"
    bytes_.write_bytes(b"\xff\xfe" * 400)
    refused(["short has 250 tokens, and 300 are asked for"], text=short)
    refused(["is not UTF-8 text"], text=bytes_)
    refused(["No such file"], text=tmp_path / "nothing")
    tiny.save_checkpoint(tiny_families.quantizable("qwen3_moe", vocab_size=40), tmp_path / "small", 0)
    export_bundle(tmp_path / "small", tmp_path / "bundle", ExportOptions(parse_plan("int4")))
    refused(["has the token", "a vocabulary of 40"], tmp_path / "bundle", tmp_path / "small")


@pytest.mark.parametrize(("words", "told"), [(("--window", "17"), "--window 17 is not within 18 to 1024"),
    (("--window", "1025"), "1025 is not within"), (("--tokens", "50"), "--tokens 50 is less than")])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(words, told, refused):
    refused([told], words=words)


def test_what_is_no_bundle_or_no_checkpoint_is_refused(made, refused):
    refused(["is not a bundle"], bundle=made / "checkpoint")
    refused(["is a bundle that was exported already"], against=made / "int4")


def test_logits_that_are_nan_give_no_figures(made, tmp_path, refused):
    """No exporter writes such a bundle; its norm is changed, and its manifest says so."""
    bundle = shutil.copytree(made / "fp32", tmp_path / "nan")
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    norm = next(tensor for tensor in model.graph.initializer if tensor.name == "model.norm.weight")
    norm.CopyFrom(numpy_helper.from_array(np.full(128, np.nan, np.float32), norm.name))
    onnx.save(model, bundle / "model.onnx")
    relist(bundle)
    refused(["cannot be compared (NaN or infinity among the logits)"], bundle=bundle)


def test_a_bundle_that_does_not_show_its_layers_has_no_figures_of_them(made, tmp_path, measure):
    bundle = shutil.copytree(made / "fp32", tmp_path / "nameless")
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name.replace("layers.1.mlp.router_logits", "x") for name in names]
    onnx.save(model, bundle / "model.onnx")
    relist(bundle)
    figures = measure(bundle, made / "checkpoint", made / "text.txt", *SMALL)
    assert figures["layers"] is None
    assert abs(figures["kl_mean"]) < 1e-9


def test_windows_are_spread_evenly_and_do_not_overlap(made):
    facts, path = read_manifest(made / "int4").model, made / "text.txt"
    tokenizer = Tokenizer.from_file(made / "int4" / "tokenizer.json")
    ids = tokenizer.encode(path.read_text())
    assert read_windows(path, tokenizer, facts, 3000, 100).reshape(-1).tolist() == ids
    starts = [0, 966, 1933, 2900]
    assert read_windows(path, tokenizer, facts, 499, 100)[:, 0].tolist() == [ids[start] for start in starts]


def test_each_window_begins_as_the_tokenizer_begins_a_text(made):
    facts, path = read_manifest(made / "int4").model, made / "text.txt"
    tokenizer = Tokenizer.from_file(made / "int4" / "tokenizer.json")
    plain = read_windows(path, tokenizer, facts, 300, 100)
    template = processors.TemplateProcessing("[BOS] $A [EOS]", special_tokens=[("[BOS]", 0), ("[EOS]", 1)])
    tokenizer._tokenizer.post_processor = template
    windows = read_windows(path, tokenizer, facts, 300, 100)
    assert windows.shape == plain.shape
    assert windows[:, 0].tolist() == [0, 0, 0]
    assert windows[0, 1:].tolist() == plain[0, :-1].tolist()
    assert windows[2, 1:].tolist() == plain[2, 1:].tolist()
