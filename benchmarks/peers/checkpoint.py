"""A shape as a checkpoint on disk, in bf16 and under published names, a shard a layer; what exporters read.

It is as large as all weights together and is thrown away once every engine has its own copy.
"""

import json
import re
from itertools import groupby
from pathlib import Path

import numpy as np
from random_checkpoint import byte_tokenizer
from safetensors.numpy import save_file

from peers.shapes import PeerShape
from peers.weights import Weight, all_numbers

# Where transformers' modules have other names than what was published.
PUBLISHED = {
    "granitemoe": {
        "experts.gate_up_proj": "input_linear.weight",
        "experts.down_proj": "output_linear.weight",
        "router.weight": "router.layer.weight",
    },
}


def published(shape: PeerShape, name: str) -> str:
    """The name of a module's tensor in the published checkpoint; joint experts stay joint."""
    for ours, theirs in PUBLISHED.get(shape.config["model_type"], {}).items():
        name = re.sub(rf"{re.escape(ours)}$", theirs, name)
    return name


def write_checkpoint(folder: Path, shape: PeerShape, seed: int = 0) -> None:
    """Write it; one layer is held in memory."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(shape.config, indent=1))
    byte_tokenizer(folder / "tokenizer.json")
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    index: dict[str, str] = {}
    for layer, group in groupby(all_numbers(shape, seed), key=lambda pair: _layer(pair[0])):
        tensors = {published(shape, weight.name): np.ascontiguousarray(values) for weight, values in group}
        shard = f"model-{len(set(index.values())):05}-{layer}.safetensors"
        save_file(tensors, folder / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _layer(weight: Weight) -> str:
    found = re.match(r"model\.layers\.(\d+)\.", weight.name)
    return found[1] if found else "rest"
