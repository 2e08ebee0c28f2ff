"""What onnxruntime-genai 0.18 needs to load the same bundle: its configuration, and one more output of the graph.

It decides which bundles that runtime can run at all, and knows its names; docs/genai.md says it to users. Its sources
read for this: `src/config.cpp` (the schema), `src/models/io/logits.cpp`, `src/models/io/shared_kv_cache.cpp`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.arithmetic import FLOAT
from moedge.export.model.config import GroupedQuery, ModelConfig
from moedge.export.tokenizer.reading import TOKENIZER_CONFIG_NAME
from moedge.export.tokenizer.talking import Talking
from moedge.runtime.manifest import LAST_LOGITS, MODEL_NAME, CacheTensor, pick_sampling

GENAI_NAME = "genai_config.json"
# Its cache tensors are named by layer, one key and one value each, from layer 0 on without a gap.
PAST = {"key": "past_key_values.%d.key", "value": "past_key_values.%d.value"}
PRESENT = {"key": "present.%d.key", "value": "present.%d.value"}
# What its tokenizer reads of tokenizer_config.json; the chat template has a file of its own.
TOKENIZER_KEYS = (
    "add_bos_token",
    "add_eos_token",
    "bos_token",
    "clean_up_tokenization_spaces",
    "eos_token",
    "model_max_length",
    "pad_token",
    "tokenizer_class",
    "unk_token",
)


def genai_config(
    model: ModelConfig, cache: Sequence[CacheTensor], talking: Talking, context: int
) -> dict[str, Any] | None:
    """genai_config.json of a bundle with this cache for `context` tokens; None if its schema cannot express it.

    It can where every layer keeps keys and values of one shape in buffers that the graph extends in place.
    """
    heads = {mixer.num_heads if isinstance(mixer, GroupedQuery) else None for mixer in model.mixers}
    if len(heads) > 1 or None in heads or not _named_by_layer(cache, model.num_hidden_layers):
        return None
    key_heads, head_dim = cache[0].shape
    decoder = {
        "filename": MODEL_NAME,
        "hidden_size": model.hidden_size,
        "num_attention_heads": heads.pop(),
        "num_key_value_heads": key_heads,
        "head_size": head_dim,
        "num_hidden_layers": model.num_hidden_layers,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": PAST["key"],
            "past_value_names": PAST["value"],
        },
        "outputs": {
            "logits": LAST_LOGITS,
            "present_key_names": PRESENT["key"],
            "present_value_names": PRESENT["value"],
        },
        # threads are the device's business; as in our own runtime, no memory pattern for each length of the mask
        "session_options": {"log_id": "onnxruntime-genai", "enable_mem_pattern": False, "provider_options": []},
    }
    facts: dict[str, Any] = {
        "type": "decoder",  # any plain decoder: nothing in it depends on the family
        "vocab_size": model.vocab_size,
        "context_length": context,
        "eos_token_id": list(talking.eos_token_ids),
        "pad_token_id": _pad(talking),
    }
    if talking.bos_token_id is not None:
        facts["bos_token_id"] = talking.bos_token_id
    return {"model": facts | {"decoder": decoder}, "search": _search(talking.generation_config, model, context)}


def add_last_logits(graph: ir.Graph, vocab_size: int) -> None:
    """Give the graph the output `last_logits` [1, 1, vocab_size], the last row of `logits`.

    onnxruntime-genai allocates logits for every new token unless their declared second dimension is 1; that of `logits`
    is `logits_to_keep`, which it does not feed.
    """
    logits = next(value for value in graph.outputs if value.name == "logits")
    bounds = [
        ir.Value(name=f"{LAST_LOGITS}.{name}", const_value=ir.tensor(np.array([number], np.int64)))
        for name, number in (("start", -1), ("end", 2**62), ("axis", 1))
    ]
    for value in bounds:
        graph.register_initializer(value)
    last = ir.Value(name=LAST_LOGITS, type=FLOAT, shape=ir.Shape([1, 1, vocab_size]))
    graph.append(ir.Node("", "Slice", [logits, *bounds], outputs=[last], name=LAST_LOGITS))
    graph.outputs.insert(1, last)


def write_genai_files(folder: Path, config: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Put genai_config.json and the tokenizer_config.json beside it, which its tokenizer asks for, into a bundle."""
    stated: dict[str, Any] = {}
    if (checkpoint.folder / TOKENIZER_CONFIG_NAME).exists():
        stated = checkpoint.read_json(TOKENIZER_CONFIG_NAME)
    # without a class it reads no chat_template.jinja either
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast"}
    tokenizer |= {key: stated[key] for key in TOKENIZER_KEYS if stated.get(key) is not None}
    for name, content in ((GENAI_NAME, config), (TOKENIZER_CONFIG_NAME, tokenizer)):
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _named_by_layer(cache: Sequence[CacheTensor], layers: int) -> bool:
    names = [(PAST[part] % layer, PRESENT[part] % layer) for layer in range(layers) for part in PAST]
    shared = all(tensor.layout == "shared" and tensor.shape == cache[0].shape for tensor in cache)
    return shared and sorted(names) == sorted((tensor.past, tensor.present) for tensor in cache)


def _pad(talking: Talking) -> int:
    """Of no consequence with a batch of 1, but the schema wants one: what the makers say, else the end of text."""
    stated = talking.generation_config.get("pad_token_id")
    return stated if isinstance(stated, int) else talking.eos_token_ids[0]


def _search(generation: Mapping[str, Any], model: ModelConfig, context: int) -> dict[str, Any]:
    """The makers' sampling as `Engine.defaults` reads it: silence means plain sampling, temperature 0 means greedy."""
    stated = pick_sampling(generation)
    temperature = stated.get("temperature", 1.0)
    return {
        "do_sample": generation.get("do_sample") is not False and temperature > 0,
        "temperature": temperature or 1.0,
        "top_k": min(stated.get("top_k", 0), model.vocab_size),
        "top_p": stated.get("top_p", 1.0),
        "repetition_penalty": stated.get("repetition_penalty", 1.0),
        "min_length": 0,
        "max_length": context,
        "num_beams": 1,
        "past_present_share_buffer": True,
    }
