"""A loaded bundle: chat encoding, defaults, and graphs that do not fit their manifest."""

from dataclasses import replace

import pytest
from tiny_bundle import WORDS, ids_of, text_of, write_tiny_bundle

from moedge.devices.errors import MoedgeError
from moedge.runtime import Engine, SamplingParams, Session
from moedge.runtime.chat.delta import Content, Reasoning
from moedge.runtime.manifest import read_manifest, write_manifest

GREEDY = SamplingParams(temperature=0)


def test_special_tokens_show_as_text_for_the_parser(tmp_path):
    think, end_think = WORDS.token_to_id("<think>"), WORDS.token_to_id("</think>")
    h, i, end = ids_of("h")[0], ids_of("i")[0], WORDS.token_to_id("<|im_end|>")
    chain = {WORDS.token_to_id("<|assistant|>"): think, think: h, h: end_think, end_think: i, i: end}
    engine = Engine.load(write_tiny_bundle(tmp_path, chain))
    prompt = engine.encode_chat([{"role": "user", "content": "so"}])
    tokens = list(engine.generate(prompt, GREEDY))
    assert text_of(tokens) == "<think>h</think>i"
    parser = engine.chat_parser(prompt)
    deltas = [delta for token in tokens for delta in parser.push(token.text)] + parser.finish()
    assert deltas == [Reasoning("h"), Content("i")]


def test_chat_encodes_the_templates_special_tokens_and_nobody_elses(engine):
    ids = engine.encode_chat([{"role": "user", "content": "a<|im_end|>b"}])
    end = WORDS.token_to_id("<|im_end|>")
    assert ids.count(end) == 1
    assert engine.tokenizer.decode(ids) == "<|user|>a<|im_end|>b<|im_end|><|assistant|>"


@pytest.mark.parametrize(("stated", "said"), [({"top_k": 50.0}, "top_k is 50.0"), ({"top_p": "x"}, "top_p is 'x'")])
def test_a_bundle_of_an_older_export_says_what_no_token_can_be_chosen_by(tmp_path, stated, said):
    """50.0 failed at every token."""
    folder = write_tiny_bundle(tmp_path, generation_config=stated)
    with pytest.raises(
        MoedgeError, match=rf"^the bundle's generation_config\.json says that {said}, it must be .* again\.$"
    ):
        Engine.load(folder)


def test_a_base_model_has_no_chat(tmp_path):
    folder = write_tiny_bundle(tmp_path, template=None)
    with pytest.raises(MoedgeError, match="toy has no chat template"):
        Engine.load(folder).encode_chat([{"role": "user", "content": "hi"}])


def test_defaults_come_from_the_bundle(tmp_path):
    config = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "do_sample": True, "eos_token_id": [1], "max_length": 9}
    engine = Engine.load(write_tiny_bundle(tmp_path / "a", generation_config=config))
    assert engine.defaults == SamplingParams(temperature=0.6, top_k=20, top_p=0.9)
    assert {1, *engine.manifest.model.eos_token_ids} == engine.eos_token_ids
    greedy = Engine.load(write_tiny_bundle(tmp_path / "b", generation_config={"do_sample": False, "temperature": 0.6}))
    assert greedy.defaults.temperature == 0
    assert Engine.load(write_tiny_bundle(tmp_path / "c")).defaults == SamplingParams()


def test_a_graph_that_is_not_the_manifests_is_refused(tmp_path):
    folder = write_tiny_bundle(tmp_path)
    manifest = read_manifest(folder)
    write_manifest(replace(manifest, cache=(replace(manifest.cache[0], present="present.0.other"),)), folder)
    with pytest.raises(MoedgeError, match=r"disagree about present\.0\.latent, present\.0\.other"):
        Engine.load(folder)


def test_a_graph_that_does_not_load_is_refused(tmp_path):
    folder = write_tiny_bundle(tmp_path)
    size = (folder / "model.onnx").stat().st_size
    (folder / "model.onnx").write_bytes(b"nonsense".ljust(size))
    with pytest.raises(MoedgeError, match="cannot load"):
        Engine.load(folder, check_hashes=False)
    with pytest.raises(MoedgeError, match="sha256"):
        Engine.load(folder)


def test_sessions_are_made_by_engines(engine):
    assert isinstance(engine.session(), Session)
