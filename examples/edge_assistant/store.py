"""Owns the checkpoint's files: what Kimi K2 Thinking publishes, at our size.

Routed experts are int4 in compressed-tensors' `pack-quantized` layout, everything else is bf16 (the router's
correction bias fp32). `save_checkpoint` writes, `load_checkpoint` reads it back into the training model.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from model import Assistant, MoE, Shape
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).parent
_TOP = {
    "embed_tokens": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
_MOE = {"router": "gate.weight", "bias": "gate.e_score_correction_bias"}


def quantize_experts(w: Tensor) -> tuple[Tensor, Tensor]:
    """Codes -7 to 7 and bf16 scales of groups of 32 along the last dimension, on Kimi's grid."""
    groups = w.float().unflatten(-1, (-1, 32))
    scale = (groups.abs().amax(-1) / 7).clamp_min(1e-8).bfloat16()
    codes = (groups / scale.float()[..., None]).round().clamp(-7, 7)
    return codes.flatten(-2).to(torch.int8), scale


def pack(codes: Tensor) -> Tensor:
    """int8 codes [n, k] to int32 [n, k/8]: each code + 8 in a nibble, lowest first."""
    nibbles = (codes.to(torch.int64) + 8).unflatten(-1, (-1, 8))
    words = (nibbles << torch.arange(0, 32, 4)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def unpack(words: Tensor) -> Tensor:
    """The inverse of `pack`."""
    nibbles = (words.to(torch.int64)[..., None] >> torch.arange(0, 32, 4)) & 15
    return (nibbles - 8).flatten(-2).to(torch.int8)


def _name(name: str) -> str:
    """The name in a checkpoint of a parameter of `model.Assistant`."""
    if name in _TOP:
        return _TOP[name]
    layer, index, block, rest = name.split(".", 3)
    if block == "mlp":
        rest = _MOE.get(rest, rest.replace("shared.", "shared_experts."))
    return f"model.{layer}.{index}.{block}.{rest}"


def checkpoint_tensors(model: Assistant) -> dict[str, Tensor]:
    """Every tensor of the checkpoint by its name."""
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name.endswith((".gate_up", ".down")):
            continue
        tensors[_name(name)] = value.clone() if name.endswith(".bias") else value.bfloat16()
    for index, layer in enumerate(model.layers):
        if not isinstance(layer.mlp, MoE):
            continue
        gate, up = layer.mlp.gate_up.detach().chunk(2, 1)
        for projection, stack in (("gate_proj", gate), ("up_proj", up), ("down_proj", layer.mlp.down.detach())):
            codes, scales = quantize_experts(stack)
            for expert in range(len(stack)):
                stem = f"model.layers.{index}.mlp.experts.{expert}.{projection}.weight"
                tensors[f"{stem}_packed"] = pack(codes[expert])
                tensors[f"{stem}_scale"] = scales[expert].clone()
                tensors[f"{stem}_shape"] = torch.tensor(stack.shape[1:], dtype=torch.int32)
    return tensors


def configuration(shape: Shape, token_ids: dict[str, int]) -> dict[str, Any]:
    """`config.json` as Kimi K2 Thinking writes it, under transformers' own model type."""
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": 32,
        "dynamic": False,
        "actorder": None,
        "block_structure": None,
        "observer": "minmax",
        "observer_kwargs": {},
    }
    ignored = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"]
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        **asdict(shape),
        "num_key_value_heads": shape.num_attention_heads,
        "q_lora_rank": None,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "moe_layer_freq": 1,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_scaling": None,
        "max_position_embeddings": 4096,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "use_cache": True,
        "torch_dtype": "bfloat16",
        **token_ids,
        "quantization_config": {
            "config_groups": {
                "group_0": {
                    "input_activations": None,
                    "output_activations": None,
                    "targets": ["Linear"],
                    "weights": weights,
                }
            },
            "format": "pack-quantized",
            "ignore": ignored,
            "kv_cache_scheme": None,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        },
    }


def save_checkpoint(model: Assistant, folder: Path) -> None:
    """Write the model beside the tokenizer that already lies in `folder`; each file is replaced as a whole."""
    tokens = {t["content"]: t["id"] for t in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]}
    ends = [tokens["<|im_end|>"], tokens["[EOS]"]]
    ids = {"bos_token_id": tokens["[BOS]"], "eos_token_id": ends[0], "pad_token_id": tokens["[PAD]"]}
    generation = {"do_sample": False, "max_new_tokens": 512, **ids, "eos_token_id": ends}
    for name, value in (("config.json", configuration(model.s, ids)), ("generation_config.json", generation)):
        partial = folder / f"{name}.partial"
        partial.write_text(json.dumps(value, indent=2) + "\n")
        partial.replace(folder / name)
    shutil.copyfile(HERE / "chat_template.jinja", folder / "chat_template.jinja")
    partial = folder / "model.safetensors.partial"
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint_tensors(model).items()}
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "model.safetensors")


def load_checkpoint(folder: Path) -> Assistant:
    """The training model with the checkpoint's weights, the experts dequantized, in fp32."""
    config = json.loads((folder / "config.json").read_text())
    model = Assistant(Shape(**{name: config[name] for name in Shape.__dataclass_fields__}))
    tensors = load_file(folder / "model.safetensors")
    state: dict[str, Tensor] = {}
    for name in model.state_dict():
        if not name.endswith((".gate_up", ".down")):
            state[name] = tensors.pop(_name(name)).float()

    def expert(stem: str) -> Tensor:
        codes, scales = unpack(tensors.pop(f"{stem}_packed")), tensors.pop(f"{stem}_scale")
        rows, columns = tensors.pop(f"{stem}_shape").tolist()
        return (codes.float().unflatten(-1, (-1, 32)) * scales.float()[..., None]).view(rows, columns)

    for index, layer in enumerate(model.layers):
        if isinstance(layer.mlp, MoE):
            stems = [f"model.layers.{index}.mlp.experts.{e}" for e in range(model.s.n_routed_experts)]
            state[f"layers.{index}.mlp.gate_up"] = torch.stack(
                [torch.cat([expert(f"{s}.gate_proj.weight"), expert(f"{s}.up_proj.weight")]) for s in stems]
            )
            state[f"layers.{index}.mlp.down"] = torch.stack([expert(f"{s}.down_proj.weight") for s in stems])
    if tensors:
        raise ValueError(f"{folder}: tensors that the model has no place for: {sorted(tensors)[:5]}")
    model.load_state_dict(state)
    return model.eval()
