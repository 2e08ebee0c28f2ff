"""onnxruntime-genai loads the same bundles and says the same tokens, prompt by prompt and turn by turn.

Logits are the same bit for bit when the threads are as many and the tokens are cut into runs alike: both change the
order of sums, and int8 activations make more of the last bit. So each has one thread here, and no prompt fills a chunk.
"""

import json
from dataclasses import replace

import numpy as np
import onnxruntime_genai as og
import pytest
import tiny_families
import tiny_models as tiny
from safetensors.torch import load_file, save_file

from moedge.devices.profile import load_profile
from moedge.export.bundle import export_bundle
from moedge.export.options import ExportOptions
from moedge.export.schemes import PLANS, parse_plan
from moedge.runtime import Engine, SamplingParams

COUNT = 32
GREEDY = SamplingParams(temperature=0, max_tokens=COUNT)
BLOCKS_OF_128 = {"hidden_size": 128, "moe_intermediate_size": 128, "intermediate_size": 128}
QWEN3 = {
    "plain": tiny.qwen3_moe(),
    "tied": tiny.qwen3_moe(tie_word_embeddings=True),
    "biases": tiny.qwen3_moe(attention_bias=True),
    "dense-layers": tiny.qwen3_moe(num_hidden_layers=4, mlp_only_layers=[0, 2]),
    "one-key-head": tiny.qwen3_moe(num_key_value_heads=1, head_dim=16),
    "all-key-heads": tiny.qwen3_moe(num_attention_heads=6, num_key_value_heads=6, head_dim=48),
    "wide": tiny.qwen3_moe(**BLOCKS_OF_128, num_experts=12, num_experts_per_tok=4, norm_topk_prob=False),
}
OTHERS = (
    "mixtral", "olmoe", "granitemoe", "granitemoeshared", "qwen2_moe", "gpt_oss", "ernie4_5_moe", "glm4_moe", "dots1",
    "phimoe", "mellum", "cohere2_moe", "granitemoe_swa", "afmoe",
)  # fmt: skip
# Every family whose cache genai_config.json can express: (name, configuration, scheme).
CASES = [
    *((f"qwen3_moe-{shape}", config, "int4-block32") for shape, config in QWEN3.items()),
    *(
        (f"qwen3_moe-{scheme}", QWEN3["wide"], scheme)
        for scheme in ("int4", "int4-block128", "int4-block32-zp", "int8", "int8-block64-zp", *PLANS)
    ),
    *((name, tiny_families.quantizable(name), "int4-block32") for name in OTHERS),
    ("mixtral-window", tiny_families.quantizable("mixtral", sliding_window=9), "int4"),
]


def export(config, folder, scheme, *, endless=True, **generation):
    """The folder of a bundle of a random model, whose checkpoint states what `generation` says of sampling.

    An `endless` model's logit of the end of text is 0, which is never the largest.
    """
    checkpoint = folder / "checkpoint"
    tiny.save_checkpoint(config, checkpoint, 0)
    if endless:
        tensors = load_file(checkpoint / "model.safetensors")
        name = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
        tensors[f"{name}.weight"][config.eos_token_id] = 0
        save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    stated = {"eos_token_id": config.eos_token_id, "bos_token_id": config.bos_token_id} | generation
    (checkpoint / "generation_config.json").write_text(json.dumps(stated))
    export_bundle(checkpoint, folder / "bundle", ExportOptions(parse_plan(scheme), "fused"))
    return folder / "bundle"


def load_both(bundle):
    config = og.Config(str(bundle))
    threads = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
    profile = replace(load_profile("auto").with_threads(1, "test"), prefill_chunk=128)
    return og.Model(config), Engine.load(bundle, profile)


def follow(generator):
    """The next greedy tokens, up to the end of text."""
    found = []
    while len(found) < COUNT and not generator.is_done():
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    return found


def say(engine, session, new):
    return [token.token_id for token in engine.generate(new, GREEDY, session)]


def feed_pending(generator, session):
    """Both feed the last sampled token in a run of its own."""
    generator.get_logits()  # append_tokens would leave it out: docs/genai.md
    session.decode(session.pending)
    session.rollback(session.length)


@pytest.mark.parametrize(("config", "scheme"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_same_greedy_tokens(config, scheme, tmp_path):
    model, engine = load_both(export(config, tmp_path, scheme, do_sample=False))
    rng = np.random.default_rng(0)
    for length in (1, 7, 60):
        generator, session = og.Generator(model, og.GeneratorParams(model)), engine.session()
        for new in (rng.integers(2, 211, n).tolist() for n in (length, 5)):
            generator.append_tokens(np.array(new, np.int32))
            if not session.tokens:
                assert np.array_equal(generator.get_logits()[0, 0], engine.session().prefill(new))
            ours = say(engine, session, new)
            assert follow(generator) == ours
            assert len(ours) == COUNT
            feed_pending(generator, session)


def test_an_answer_that_ends_by_itself(tmp_path):
    config = QWEN3["all-key-heads"]
    model, engine = load_both(export(config, tmp_path, "int4-block32-zp", endless=False, do_sample=False))
    generator, session = og.Generator(model, og.GeneratorParams(model)), engine.session()
    rng = np.random.default_rng(0)
    ended = 0
    for turn in rng.integers(2, 211, (8, 10)).tolist():
        generator.append_tokens(np.array(turn, np.int32))
        ours = say(engine, session, turn)
        assert follow(generator) == ours
        if ours[-1] == config.eos_token_id:
            ended += 1
            generator.append_tokens(np.array(ours[-1:], np.int32))  # its sequence leaves the end of text out
            session.decode(session.pending)
            session.rollback(session.length)
        else:
            feed_pending(generator, session)
    assert 0 < ended < 8
