"""What an export's report says of the bundle's answers: they are compared with the checkpoint's, unless told not to."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_families
import tiny_models as tiny
from tokenizers import Tokenizer

from moedge.devices.errors import MoedgeError
from moedge.devices.memory import Memory
from moedge.export.bundle import export_bundle
from moedge.export.calibration import beside_export
from moedge.export.calibration.texts import CalibrationText, built_in_mix, held_back
from moedge.export.calibration.windows import HELD, cut_windows
from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.evaluation import judging
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.streaming.streamed_model import StreamedModel
from moedge.export.understanding import understand
from moedge.quant.fidelity import SKIPPED
from moedge.runtime import Engine
from moedge.runtime.cli import main

WORDS = CalibrationText("words", tuple(f"passage {i}: {'abcdefgh'[i % 8] * (i % 23)} {i * 7919}" for i in range(300)))
PLAIN = ExportOptions(parse_plan("int4"), judge=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judging") / "checkpoint"
    sizes = {"vocab_size": 260, "max_position_embeddings": 1024}
    tiny.save_checkpoint(tiny_families.quantizable("qwen3_moe", **sizes), folder, 0)
    return folder


def fidelity_of(checkpoint, bundle, options):
    export_bundle(checkpoint, bundle, options)
    return json.loads((bundle / "report.json").read_text())["fidelity"]


def log_softmax(logits):
    x = logits.astype(np.float64)
    return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


@pytest.mark.parametrize("options", [PLAIN, replace(PLAIN, calibration=WORDS)], ids=["alone", "beside a calibration"])
def test_figures_are_those_of_the_held_back_text(checkpoint, tmp_path, options):
    said = fidelity_of(checkpoint, tmp_path / "bundle", options)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    with Checkpoint(checkpoint) as source:
        understood = understand(source, options)
        model, talking = understood.model, understood.talking
        texts = held_back().render(talking.chat_template)
        windows = cut_windows(tokenizer, texts, model.vocab_size, talking.bos_token_id, HELD)
        with StreamedModel(source, model, windows) as stream:
            for _ in range(model.num_hidden_layers):
                stream.run_layer()
            with stream.open_head() as head:
                exact = [head(hidden) for hidden in stream.hidden]
    engine = Engine.load(tmp_path / "bundle")
    kl, surprise, same = [], [], []
    for ids, logits in zip(windows, exact, strict=True):
        p, q = (log_softmax(each[SKIPPED:-1]) for each in (logits, engine.score(ids.tolist())))
        kl.append((np.exp(p) * (p - q)).sum(-1))
        surprise.append(-q[np.arange(len(q)), ids[SKIPPED + 1 :]])
        same.append(p.argmax(-1) == q.argmax(-1))
    assert said["positions"] == np.size(kl)
    assert said["kl_mean"] == pytest.approx(np.mean(kl), rel=1e-3)
    assert said["kl_mean"] > 1e-4
    assert said["top1"] == pytest.approx(np.mean(same), abs=2e-3)
    assert said["perplexity"] == pytest.approx(np.exp(np.mean(surprise)), rel=1e-3)


def test_more_bits_are_nearer(checkpoint, tmp_path):
    few, more = (fidelity_of(checkpoint, tmp_path / n, replace(PLAIN, scheme=parse_plan(n))) for n in ("int4", "int8"))
    assert more["kl_mean"] < few["kl_mean"] / 5
    assert few["reference_perplexity"] == more["reference_perplexity"]
    assert few["bits_per_weight"] < more["bits_per_weight"]


def test_an_exact_bundle_is_not_judged(checkpoint, tmp_path):
    assert fidelity_of(checkpoint, tmp_path / "bundle", replace(PLAIN, scheme=parse_plan("fp32"))) is None


def test_a_short_context_is_judged_as_far_as_it_goes(checkpoint, tmp_path):
    short = fidelity_of(checkpoint, tmp_path / "short", replace(PLAIN, context=64))
    assert short["positions"] == HELD * (64 - SKIPPED - 1)
    assert fidelity_of(checkpoint, tmp_path / "shortest", replace(PLAIN, context=SKIPPED)) is None


def test_a_text_of_a_few_words_calibrates_and_judges_nothing(checkpoint, tmp_path):
    few = replace(PLAIN, calibration=CalibrationText("few", ("hello you",)))
    assert fidelity_of(checkpoint, tmp_path / "bundle", few) is None


@pytest.mark.parametrize("error", [MoedgeError("no room."), OSError(28, "No space left on device")])
def test_a_bundle_that_cannot_be_judged_stays(checkpoint, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(beside_export, "held_back", fail)
    assert fidelity_of(checkpoint, tmp_path / "bundle", PLAIN) is None
    notes = json.loads((tmp_path / "bundle" / "report.json").read_text())["notes"]
    assert [note for note in notes if str(error) in note]
    Engine.load(tmp_path / "bundle")


def test_where_memory_does_not_hold_the_bundle_a_note_says_so(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "detect_memory", lambda: Memory(1 << 20, 1 << 20))
    assert fidelity_of(checkpoint, tmp_path / "bundle", PLAIN) is None
    notes = json.loads((tmp_path / "bundle" / "report.json").read_text())["notes"]
    assert [note for note in notes if note.startswith("how far its answers are") and "memory" in note]
    Engine.load(tmp_path / "bundle")  # the bundle is whole, hashes and all


def test_the_command_says_it_and_leaves_it_out_where_asked(checkpoint, tmp_path, capsys):
    words = ["export", str(checkpoint), "--scheme", "int8", "--calibration", "none"]
    assert main([*words, "-o", str(tmp_path / "judged")]) == 0
    figures = json.loads((tmp_path / "judged" / "report.json").read_text())["fidelity"]
    assert f"KL {figures['kl_mean']:.4f} from the checkpoint's" in capsys.readouterr().out
    assert main([*words, "-o", str(tmp_path / "not"), "--no-eval"]) == 0
    assert "KL" not in capsys.readouterr().out
    assert json.loads((tmp_path / "not" / "report.json").read_text())["fidelity"] is None


def test_no_calibration_has_the_text_that_is_held_back():
    seen = "\n".join(built_in_mix().render(None))
    for text in held_back().render(None):
        assert not [line for line in text.splitlines() if len(line) > 40 and line in seen]
