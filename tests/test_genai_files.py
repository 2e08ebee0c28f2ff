"""What a bundle holds for onnxruntime-genai: configuration, tokenizer, template, an output; and when it holds none."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_genai as og
import pytest
import tiny_bundle
import tiny_families
import tiny_models as tiny
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from moedge.devices.errors import MoedgeError
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.runtime import Engine
from moedge.runtime.manifest import read_manifest

CONFIG = tiny.qwen3_moe(vocab_size=700, num_hidden_layers=1)
TEXTS = (
    "hello wörld",
    "  two  spaces\n\n\ttab",
    "你好，世界 123456 don't I'LL",
    "🙂👩‍👩‍👧 ñ",
    "def f(x):\n    return x**2  # ok",
    "<|user|>hi<|im_end|> <think>x</think>",
)


def save(folder, config=CONFIG, **files):
    """A checkpoint with these files, whose names are spelt without the ending `.json`; `template` is the chat's."""
    tiny.save_checkpoint(config, folder, 0)
    template = files.pop("template", None)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def export(checkpoint, scheme="int4-block32", plan="fused", context=None):
    bundle = checkpoint.with_name(f"{checkpoint.name}-bundle")
    export_bundle(checkpoint, bundle, ExportOptions(parse_plan(scheme), plan, context))
    return bundle


def read(bundle):
    return json.loads((bundle / "genai_config.json").read_text())


def trained(built, initial, vocabulary):
    """Merges of words, as published vocabularies have them."""
    words = [*TEXTS, "the quick brown fox jumps over the lazy dog 2026"]
    built.train_from_iterator(
        words * 3, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=initial, show_progress=False)
    )
    return built


def qwen_words():
    """Qwen's own way to split words, over bytes. onnxruntime-genai knows some patterns by their text."""
    built = Tokenizer(models.BPE())
    built.normalizer = normalizers.NFC()
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
    pattern = words + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    built.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    built.decoder = decoders.ByteLevel()
    trained(built, pre_tokenizers.ByteLevel.alphabet(), 500)
    built.add_special_tokens(["<|user|>", "<|im_end|>"])
    built.add_tokens([AddedToken(token, special=False, normalized=False) for token in ("<think>", "</think>")])
    return built


def mistral_words():
    """Mistral's way: words begin with ▁, bytes are the fallback, <s> begins a text when special tokens are added."""
    learned = Tokenizer(models.BPE())
    apart = pre_tokenizers.Split(Regex(r"[^\p{L} ]"), "isolated")  # SentencePiece learns no word across scripts
    learned.pre_tokenizer = pre_tokenizers.Sequence([apart, pre_tokenizers.Metaspace(prepend_scheme="first")])
    model = json.loads(trained(learned, [], 300).to_str())["model"]
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    ids = {token: i for i, token in enumerate([*vocabulary, *model["vocab"]])}
    merges = [tuple(pair) for pair in model["merges"]]
    bpe = models.BPE(ids, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    built = Tokenizer(bpe)
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = decoders.Strip(" ", 1, 0)
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    built.add_special_tokens(["<unk>", "<s>", "</s>"])
    return built


TOKENIZERS = {
    "bytes": (tiny_bundle.tokenizer, {}),
    "qwen": (qwen_words, {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"}),
    "mistral": (mistral_words, {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "add_bos_token": True}),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_same_token_ids(name, tmp_path):
    build, config = TOKENIZERS[name]
    tokenizer = json.loads(build().to_str())
    bundle = export(save(tmp_path / "checkpoint", tokenizer=tokenizer, tokenizer_config=config))
    theirs, ours = og.Tokenizer(og.Model(str(bundle))), Engine.load(bundle).tokenizer
    special = [token["content"] for token in tokenizer["added_tokens"] if token["special"]]
    for text in TEXTS:
        ids = ours.encode(text, allow_special=True)
        assert theirs.encode(text).tolist() == ids
        plain = ours.decode(ids)
        for spelling in special:  # it leaves special tokens out of a text
            plain = plain.replace(spelling, "")
        assert theirs.decode(np.array(ids, np.int32)).removeprefix(" " if name == "mistral" else "") == plain


def test_the_same_prompt(tmp_path):
    template = (
        "{%- for m in messages %}{% if m.role == 'assistant' %}"
        "<|assistant|>{{ m.content.lstrip('\\n') }}<|im_end|>"
        "{% else %}<|user|>{{ m.content|trim }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    tokenizer = json.loads(tiny_bundle.tokenizer().to_str())
    bundle = export(save(tmp_path / "checkpoint", tokenizer=tokenizer, template=template))
    messages = [
        {"role": "system", "content": "be 'brief' & <kind>"},
        {"role": "user", "content": "  hëllo\n你好 "},
        {"role": "assistant", "content": "\n\nfine"},
        {"role": "user", "content": "so?"},
    ]
    theirs = og.Tokenizer(og.Model(str(bundle)))
    prompt = theirs.apply_chat_template(json.dumps(messages), add_generation_prompt=True)
    assert theirs.encode(prompt).tolist() == Engine.load(bundle).encode_chat(messages)


def test_the_page_that_explains_it_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parent.parent / "docs" / "genai.md").read_text(encoding="utf-8")
    first, second = (block.partition("```")[0] for block in page.split("```python\n")[1:])
    tokenizer = json.loads(tiny_bundle.tokenizer().to_str())
    generation = {"eos_token_id": 1, "do_sample": False}
    config = tiny.qwen3_moe(vocab_size=700, num_hidden_layers=1, bos_token_id=None)
    template = "{% for m in messages %}<|user|>{{ m.content }}<|im_end|>{% endfor %}<|assistant|>"
    files = {"tokenizer": tokenizer, "generation_config": generation, "template": template}
    export(save(tmp_path / "my", config, **files), context=40)
    monkeypatch.chdir(tmp_path)
    exec(compile(first, "genai.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Hi")
    exec(compile(second, "genai.md", "exec"), {"og": og})


def test_the_configuration(tmp_path):
    generation = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "eos_token_id": [1, 7], "pad_token_id": 9}
    stated = {"chat_template": "never twice", "tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {}}
    config = tiny.qwen3_moe(num_hidden_layers=5, num_key_value_heads=1, head_dim=16)
    checkpoint = save(tmp_path / "checkpoint", config, generation_config=generation, tokenizer_config=stated)
    bundle = export(checkpoint, context=100)
    found = read(bundle)
    model, search, decoder = found["model"], found["search"], found["model"]["decoder"]
    assert (model["eos_token_id"], model["pad_token_id"], model["bos_token_id"]) == ([1, 7], 9, 0)
    assert (model["context_length"], search["max_length"], model["vocab_size"]) == (100, 100, 211)
    assert (decoder["num_hidden_layers"], decoder["num_attention_heads"], decoder["hidden_size"]) == (5, 4, 64)
    assert (decoder["num_key_value_heads"], decoder["head_size"]) == (1, 16)
    assert (search["do_sample"], search["temperature"], search["top_k"], search["top_p"]) == (True, 0.6, 20, 0.9)
    assert json.loads((bundle / "tokenizer_config.json").read_text()) == {"tokenizer_class": "Qwen2Tokenizer"}
    assert {"genai_config.json", "tokenizer_config.json"} < set(read_manifest(bundle).files)


@pytest.mark.parametrize(
    ("generation", "do_sample"),
    [({}, True), ({"do_sample": False, "temperature": 0.6}, False), ({"do_sample": True, "temperature": 0.0}, False)],
)
def test_it_samples_when_we_do(generation, do_sample, tmp_path):
    bundle = export(save(tmp_path / "checkpoint", generation_config={"eos_token_id": 1} | generation))
    search = read(bundle)["search"]
    assert search["do_sample"] == do_sample == (Engine.load(bundle).defaults.temperature > 0)
    assert search["temperature"] > 0


def test_sampling_that_is_no_number(tmp_path):
    checkpoint = save(tmp_path / "checkpoint", generation_config={"eos_token_id": 1, "top_p": "0.9"})
    with pytest.raises(MoedgeError, match=r"top_p of generation_config.json is '0.9', which is no number"):
        export(checkpoint)


def test_last_logits_are_the_last_row(tmp_path):
    bundle = export(save(tmp_path / "checkpoint"))
    manifest = read_manifest(bundle)
    session = ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    assert next(o.shape for o in session.get_outputs() if o.name == "last_logits") == [1, 1, 700]
    feeds = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.ones((1, 3), np.int64)}
    feeds |= {c.past: np.zeros((1, c.shape[0], 3, c.shape[1]), np.float32) for c in manifest.cache}
    for keep in (1, 3):
        fed = feeds | {"logits_to_keep": np.array(keep)}
        logits, last = session.run(["logits", "last_logits"], fed)
        assert logits.shape == (1, keep, 700)
        assert np.array_equal(last, logits[:, -1:])


# states beside keys and values, or heads that are not as many in every layer
OTHERS = ("lfm2_moe", "qwen3_5_moe_text", "qwen3_next", "granitemoehybrid", "nemotron_h", "laguna")


@pytest.mark.parametrize(
    ("config", "plan"),
    [
        (tiny.deepseek_v3(), "fused"),
        (tiny.deepseek_v3(), "if"),
        (tiny.qwen3_moe(), "if"),
        *((tiny_families.quantizable(family), "fused") for family in OTHERS),
    ],
    ids=["latent-fused", "latent-if", "grouped-if", *OTHERS],
)
def test_caches_that_its_schema_cannot_express(config, plan, tmp_path):
    bundle = export(save(tmp_path / "checkpoint", config), plan=plan)
    assert not {"genai_config.json", "tokenizer_config.json"} & set(read_manifest(bundle).files)
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    assert "last_logits" not in [output.name for output in graph.output]
