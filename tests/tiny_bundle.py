"""A bundle of a few kilobytes for tests of the runtime: a toy graph, a byte-level tokenizer, a chat template.

The toy says what it is told to: after token a comes `successors[a]`, unless the sum over all rows of the cache, which
is added to the logits, says otherwise. So a wrong cache row changes the logits, and answers can be written by hand.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from moedge.runtime import Engine
from moedge.runtime.generation import Token
from moedge.runtime.manifest import (
    SCHEMA_VERSION,
    CacheTensor,
    ExpertKernel,
    FileEntry,
    Manifest,
    ModelFacts,
    TensorGroup,
    write_manifest,
)

SPECIAL = ("<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|tool_calls_section_begin|>", "<|im_end|>")
ADDED = ("<think>", "</think>")  # added tokens that are not special, as in Qwen's vocabularies
MERGES = (("Ġ", "h"), ("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ã", "©"))
PADDING = 6  # ids of the model's vocabulary without a token
WIDTH, HEADS, HEAD_DIM = 16, 2, 8
CONFIDENCE = 20.0  # the logit of a successor, over noise of about 1
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer() -> Tokenizer:
    """256 bytes, a few merges, special tokens at the end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(pair) for pair in MERGES)])}
    built = Tokenizer(models.BPE(vocabulary, list(MERGES)))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    built.add_tokens([AddedToken(token, special=False, normalized=False) for token in ADDED])
    return built


def graph(vocab_size: int, successors: Mapping[int, int], layout: str, poison: int | None = None) -> onnx.ModelProto:
    """The toy as docs/graph.md wants it; after the token `poison` all logits are NaN."""
    rng = np.random.default_rng(7)
    table = np.zeros((vocab_size, vocab_size), np.float32)
    for token, successor in successors.items():
        table[token, successor] = CONFIDENCE
    if poison is not None:
        table[poison] = np.nan
    constants = {
        "embedding": rng.standard_normal((vocab_size, WIDTH), np.float32),
        "table": table,
        "mixing": rng.standard_normal((WIDTH, vocab_size), np.float32) * np.float32(0.1),
        "logits_to_keep": np.array(1, np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "end": np.array([2**62], np.int64),
    }
    node = helper.make_node
    nodes = [node("Gather", ["embedding", "input_ids"], ["rows"]), node("Gather", ["table", "input_ids"], ["said"])]
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    value = helper.make_tensor_value_info
    if layout == "rows":
        # state[i] = the sum over past rows and the new rows up to i
        constants |= {"axis": np.array(1, np.int64)}
        nodes += [
            node("Identity", ["rows"], ["present.0.latent"]),
            node("ReduceSum", ["past_key_values.0.latent", "one"], ["before"], keepdims=1),
            node("CumSum", ["rows", "axis"], ["running"]),
            node("Add", ["before", "running"], ["state"]),
        ]
        past = [value("past_key_values.0.latent", float32, [1, "t", WIDTH])]
        present = [value("present.0.latent", float32, [1, "s", WIDTH])]
    else:
        constants |= {"mask_length": np.array(1, np.int64)}
        nodes += [
            node("Shape", ["attention_mask"], ["mask_shape"]),
            node("Slice", ["mask_shape", "one", "end", "zero"], ["total"]),  # [1]
            node("Squeeze", ["total", "zero"], ["total_scalar"]),
            node("Sub", ["total", "one"], ["last"]),
            node("Cast", ["last"], ["seqlens_k"], to=TensorProto.INT32),
            node("Cast", ["total_scalar"], ["total_length"], to=TensorProto.INT32),
            node(
                "GroupQueryAttention",
                [*["rows"] * 3, "past_key_values.0.key", "past_key_values.0.value", "seqlens_k", "total_length"],
                ["state", "present.0.key", "present.0.value"],
                domain="com.microsoft",
                num_heads=HEADS,
                kv_num_heads=HEADS,
            ),
        ]
        shape = [1, HEADS, "capacity", HEAD_DIM]
        past = [value(f"past_key_values.0.{name}", float32, shape) for name in ("key", "value")]
        present = [value(f"present.0.{name}", float32, shape) for name in ("key", "value")]
    nodes += [
        node("MatMul", ["state", "mixing"], ["mixed"]),
        node("Add", ["said", "mixed"], ["all_logits"]),
        node("Neg", ["logits_to_keep"], ["first"]),
        node("Unsqueeze", ["first", "zero"], ["start"]),
        node("Slice", ["all_logits", "start", "end", "one"], ["logits"]),
    ]
    used = {name for each in nodes for name in each.input}
    inputs = [value("input_ids", int64, [1, "s"]), value("attention_mask", int64, [1, "total_length"]), *past]
    inputs.append(value("logits_to_keep", int64, []))
    outputs = [value("logits", float32, [1, "kept", vocab_size]), *present]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    built = helper.make_graph(nodes, "toy", inputs, outputs, initializers)
    return helper.make_model(built, opset_imports=opsets, ir_version=10)


def write_tiny_bundle(
    folder: Path,
    successors: Mapping[int, int] | None = None,
    *,
    layout: str = "rows",
    context_length: int = 64,
    chat_format: str = "kimi_k2",
    eos: tuple[str, ...] = ("<|eos|>", "<|im_end|>"),
    poison: int | None = None,
    generation_config: Mapping[str, object] | None = None,
    template: str | None = TEMPLATE,
) -> Path:
    """Write the bundle and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    vocab_size = words.get_vocab_size() + PADDING
    onnx.save(graph(vocab_size, successors or {}, layout, poison), folder / "model.onnx")
    words.save(str(folder / "tokenizer.json"))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(dict(generation_config or {})), encoding="utf-8")
    if layout == "rows":
        cache = (CacheTensor("past_key_values.0.latent", "present.0.latent", "rows", (WIDTH,)),)
    else:
        cache = tuple(
            CacheTensor(f"past_key_values.0.{name}", f"present.0.{name}", "shared", (HEADS, HEAD_DIM))
            for name in ("key", "value")
        )
    files = {
        path.name: FileEntry(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
        if path.name != "manifest.json"
    }
    facts = ModelFacts(
        model_type="toy",
        hidden_size=WIDTH,
        vocab_size=vocab_size,
        num_hidden_layers=1,
        num_attention_heads=1,
        moe_layers=0,
        num_experts=0,
        num_experts_per_tok=0,
        total_parameters=vocab_size * (vocab_size + 2 * WIDTH),
        active_parameters=vocab_size * WIDTH,
        context_length=context_length,
        eos_token_ids=tuple(words.token_to_id(token) for token in eos),
        bos_token_id=words.token_to_id("<|bos|>"),
        chat_format=chat_format,
    )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="toy",
        scheme="fp32",
        experts=ExpertKernel(plan="if", bits=32, block_size=0, zero_point=False),
        model=facts,
        cache=cache,
        tensors=(TensorGroup("embedding", "fp32", 32, 0, vocab_size * WIDTH, 4 * vocab_size * WIDTH),),
        files=files,
        tools={"moedge": "0.1.0"},
    )
    write_manifest(manifest, folder)
    return folder


def successors_of(text: str) -> dict[int, int]:
    """The chain that makes the toy write `text`, from any prompt that ends in its first character on; then it ends."""
    words = tokenizer()
    ids = [*words.encode(text, add_special_tokens=False).ids, words.token_to_id("<|eos|>")]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{text!r} repeats a token, so one successor each cannot write it")
    return dict(pairwise(ids))


WORDS = tokenizer()


def ids_of(text: str) -> list[int]:
    return WORDS.encode(text, add_special_tokens=False).ids


def engine_that_says(folder: Path, text: str, chunk: int = 4, **options) -> Engine:
    engine = Engine.load(write_tiny_bundle(folder, successors_of(text), **options))
    engine.profile = replace(engine.profile, prefill_chunk=chunk)
    return engine


def text_of(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens)
