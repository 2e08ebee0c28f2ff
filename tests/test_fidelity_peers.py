"""What the benchmark of fidelity gives to llama.cpp: a GGUF of the same function, and its mixtures of formats."""

import gguf
import numpy as np
import pytest
from fidelity.ggml_blocks import bits, form_of
from fidelity.gguf_file import stored, write_gguf
from fidelity.methods import DEFAULT, parse
from fidelity.mixture import split_evenly
from fidelity.ort_quantizers import k_quant, nearest, stored_bits
from fidelity.source import halves, pairs
from fidelity_models import SHAPE, dense_model


@pytest.fixture
def source(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "source.gguf", "llama")
    writer.add_feed_forward_length(5 * SHAPE.width)
    writer.add_token_list(["a", "b"])
    writer.add_token_types([1, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "source.gguf"


def test_a_gguf_holds_the_mixture_and_what_its_source_says(source, tmp_path):
    model = split_evenly(dense_model(), 6)
    write_gguf(model, source, tmp_path / "f32.gguf")
    reader = gguf.GGUFReader(tmp_path / "f32.gguf")
    said = {key: field.contents() for key, field in reader.fields.items()}
    assert said["general.architecture"] == "llama"
    assert (said["llama.expert_count"], said["llama.expert_used_count"], said["llama.feed_forward_length"]) == (
        6,
        6,
        32,
    )
    assert said["llama.rope.freq_base"] == SHAPE.theta
    assert said["tokenizer.ggml.tokens"] == ["a", "b"]
    assert said["tokenizer.ggml.token_type"] == [1, 3]
    held = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert held.keys() == model.tensors.keys()
    turned = {"attn_q": SHAPE.heads, "attn_k": SHAPE.kv_heads}
    for name, tensor in model.tensors.items():
        heads = turned.get(name.split(".")[-2])
        np.testing.assert_array_equal(halves(held[name], heads) if heads else held[name], tensor)
    assert stored(tmp_path / "f32.gguf").weights_by_format == {"F32": model.parameters()}
    assert stored(tmp_path / "f32.gguf").tensor_bytes == 4 * model.parameters()


def test_rotary_orders_are_told_apart():
    rows = np.arange(8, dtype=np.float32)[:, None]  # two heads of two pairs: first halves 0 1, 4 5, second 2 3, 6 7
    assert pairs(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert np.array_equal(halves(pairs(rows, 2), 2), rows)


def test_mixtures_of_formats():
    def layers_of(mixture, part, form, weighed=False):
        names = {layer: f"blk.{layer}.{part}.weight" for layer in range(30)}
        return [layer for layer, name in names.items() if form_of(mixture, name, 30, weighed) == form]

    better = [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]
    assert layers_of("Q4_K_M", "attn_v", "Q6_K") == better
    assert layers_of("Q4_K_M", "ffn_down_exps", "Q6_K") == better
    assert layers_of("Q4_K_M", "ffn_up_exps", "Q4_K") == list(range(30))
    assert layers_of("Q4_K_S", "attn_v", "Q5_K") == [0, 1, 2, 3]
    assert layers_of("Q4_K_S", "ffn_down_exps", "Q5_K") == [0, 1, 2]
    assert layers_of("IQ4_XS", "ffn_down_exps", "Q5_K") == [0, 1, 2]
    assert layers_of("IQ4_XS", "ffn_down_exps", "IQ4_XS", weighed=True) == list(range(30))
    assert layers_of("Q4_0", "ffn_down_exps", "Q4_1", weighed=True) == [0, 1, 2]
    assert layers_of("Q4_0", "attn_q", "Q4_0", weighed=True) == list(range(30))
    assert {form_of(mixture, "token_embd.weight", 30, False) for mixture in ("Q4_0", "Q4_K_M")} == {"Q6_K"}
    with pytest.raises(ValueError, match="no mixture Q3_K"):
        form_of("Q3_K", "blk.0.attn_q.weight", 30, False)


def test_bits_of_formats():
    assert (bits("Q4_0"), bits("Q4_K"), bits("Q6_K"), bits("IQ4_XS")) == (4.5, 4.5, 6.5625, 4.25)
    assert stored_bits("rtn", 4, 32) == 5.125


@pytest.mark.parametrize("algorithm", [nearest, k_quant])
@pytest.mark.parametrize(("bits", "share"), [(4, 1 / 15), (8, 1 / 255)])
def test_onnxruntimes_quantizers_stay_near_the_weights(algorithm, bits, share):
    weights = np.random.default_rng(0).standard_normal((12, 96), dtype=np.float32)
    rounded = algorithm(weights, bits, 32)
    assert rounded.shape == weights.shape
    blocks = weights.reshape(12, 3, 32)
    steps = (np.maximum(blocks.max(-1), 0) - np.minimum(blocks.min(-1), 0)) * share
    errors = np.abs(rounded - weights).reshape(blocks.shape) / steps[..., None]
    assert 0.2 < errors.mean() < 0.3
    assert np.unique(rounded[0, :32]).size <= 2**bits


def test_a_method_that_is_none_is_refused():
    assert len({parse(method) for method in DEFAULT}) == len(DEFAULT)
    assert parse("llama.cpp:Q4_K_M+") == ("llama.cpp", "Q4_K_M", True)
    for method in ("moedge:", "ggml:Q3_K_M", "llama.cpp:Q3", "onnxruntime:best-32", "onnxruntime:rtn", "vendor:int4"):
        with pytest.raises(ValueError, match=f"no method {method}"):
            parse(method)
