"""Saved checkpoints turned into published number formats, each with the fp32 weights that it stands for.

An encoder takes a matrix and returns the tensors that the format stores for it, by suffix, and the dequantized weight,
computed by the format's own package where there is one, else from the format's formula, value by value.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny_models as tiny
import torch
from compressed_tensors.compressors.mxfp4 import MXFP4PackedCompressor
from compressed_tensors.compressors.naive_quantized import FloatQuantizationCompressor, IntQuantizationCompressor
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

Encoded = tuple[dict[str, torch.Tensor], torch.Tensor]
Encoder = Callable[[torch.Tensor], Encoded]

EXPERTS = r".*\.mlp\.experts\..*"
LINEAR = r".*\.(q|k|v|o|gate|up|down)_proj"
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def convert(folder: Path, chosen: str, encode: Encoder, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Store the matrices whose module the pattern matches in another format; returns the dequantized ones by name."""
    tensors, dense = load_file(folder / "model.safetensors"), {}
    for name in [n for n in tensors if n.endswith(".weight") and re.fullmatch(chosen, n.removesuffix(".weight"))]:
        encoded, dense[name] = encode(tensors.pop(name).float())
        module = name.removesuffix(".weight")
        tensors.update({f"{module}.{part}": value.contiguous() for part, value in encoded.items()})
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, quantization_config=config)
    return dense


def edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a saved checkpoint, of dtypes that numpy does not know too."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    """Replace keys of the config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def dense_model(folder: Path, dense: dict[str, torch.Tensor]) -> PreTrainedModel:
    """The converted checkpoint with plain fp32 weights in the place of what was converted, as transformers computes."""
    modules = {name.removesuffix(".weight") for name in dense}
    plain = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        module, _, part = name.rpartition(".")
        joint = name.removesuffix("_blocks").removesuffix("_scales")
        if joint not in modules and (module not in modules or part in ("bias", "e_score_correction_bias")):
            plain[name] = tensor
    twin = folder.with_name(f"{folder.name}-plain")
    twin.mkdir()
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (twin / "config.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous() for name, tensor in dense.items()}
    save_file(plain | weights, twin / "model.safetensors", {"format": "pt"})
    return tiny.load_checkpoint(twin)


def compressed_config(fmt: str, **weights: Any) -> dict[str, Any]:
    """A quantization_config of compressed-tensors."""
    return {
        "quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}},
    }  # fmt: skip


def compressed(compressor: Any, **arguments: Any) -> Encoder:
    """The compressed-tensors package's own compression of a matrix, with the scales of its range."""
    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)

    def encode(weight: torch.Tensor) -> Encoded:
        rows, columns = weight.shape
        block = {
            "group": (1, args.group_size), "channel": (1, columns), "tensor": (rows, columns),
            "block": args.block_structure,
        }[args.strategy]  # fmt: skip
        low, high = _range(weight, block)
        state = {"weight": weight}
        if args.symmetric:
            largest = {"int": 2 ** (args.num_bits - 1) - 1, "float": 448.0 if args.num_bits == 8 else 6.0}[args.type]
            scale = torch.maximum(-low, high) / largest
            if args.type == "float" and args.num_bits == 4:
                scale = 2.0 ** scale.log2().ceil()
        else:
            scale = (high - low) / (2**args.num_bits - 1)
            zero = (-(2 ** (args.num_bits - 1)) - low / scale).round()
            state["weight_zero_point"] = zero.to(torch.int8)
        state["weight_scale"] = scale.bfloat16().float() if args.type == "int" else scale
        stored = compressor.compress(state, scheme)
        return stored, compressor.decompress(dict(stored), scheme)["weight"].float()

    return encode


def packed(bits: int = 4, group: int | None = 32, symmetric: bool = True) -> tuple[Encoder, dict[str, Any]]:
    """`pack-quantized` and its config; group None: a scale a row."""
    weights = {
        "num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group" if group else "channel",
        "group_size": group,
    }  # fmt: skip
    return compressed(PackedQuantizationCompressor, **weights), compressed_config("pack-quantized", **weights)


def int8(symmetric: bool = True) -> tuple[Encoder, dict[str, Any]]:
    """`int-quantized`, a scale a row."""
    weights = {"num_bits": 8, "type": "int", "symmetric": symmetric, "strategy": "channel"}
    return compressed(IntQuantizationCompressor, **weights), compressed_config("int-quantized", **weights)


def compressed_fp8(strategy: str, block: list[int] | None = None) -> tuple[Encoder, dict[str, Any]]:
    """`float-quantized`, a scale a row, a block, or one."""
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy, "block_structure": block}
    return compressed(FloatQuantizationCompressor, **weights), compressed_config("float-quantized", **weights)


def compressed_mxfp4() -> tuple[Encoder, dict[str, Any]]:
    """`mxfp4-pack-quantized`."""
    weights = {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "group", "group_size": 32}
    return compressed(MXFP4PackedCompressor, **weights), compressed_config("mxfp4-pack-quantized", **weights)


def fp8(rows: int = 128, columns: int = 128) -> tuple[Encoder, dict[str, Any]]:
    """DeepSeek's blocks, the last ones shorter where the matrix ends."""

    def encode(weight: torch.Tensor) -> Encoded:
        low, high = _range(weight, (rows, columns))
        scale = torch.maximum(-low, high) / 448
        spread = scale.repeat_interleave(rows, 0)[: weight.shape[0]].repeat_interleave(columns, 1)[:, : weight.shape[1]]
        values = (weight / spread).to(torch.float8_e4m3fn)
        return {"weight": values, "weight_scale_inv": scale}, values.float() * spread

    return encode, {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [rows, columns]}


def gptq(
    bits: int = 4, group: int = 32, symmetric: bool = True, version: int = 1, ordered: bool = False
) -> tuple[Encoder, dict[str, Any]]:
    """GPTQ's tensors, packed word by word; group -1: a scale a row."""

    def encode(weight: torch.Tensor) -> Encoded:
        rows, columns = weight.shape
        size = columns if group == -1 else group
        of = np.arange(columns) // size
        if ordered:
            of = np.random.default_rng(columns).permutation(of)
        codes, scales, zeros = _affine(weight.numpy(), of, bits, symmetric)
        a_word, words = 32 // bits, 2**32
        qweight = [
            [sum(int(codes[n, k + j]) << (bits * j) for j in range(a_word)) for n in range(rows)]
            for k in range(0, columns, a_word)
        ]
        less = sum(1 << (bits * j) for j in range(a_word)) if version == 1 else 0
        qzeros = [
            [(sum(int(g[n + j]) << (bits * j) for j in range(a_word)) - less) % words for n in range(0, rows, a_word)]
            for g in zeros.T
        ]
        stored = {
            "qweight": _words(qweight), "qzeros": _words(qzeros), "scales": torch.from_numpy(scales.T).half(),
            "g_idx": torch.from_numpy(of.astype(np.int32)),
        }  # fmt: skip
        dense = (codes - zeros[:, of]) * scales[:, of]
        return stored, torch.from_numpy(dense.astype(np.float32))

    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": ordered}
    return encode, config | {"checkpoint_format": "gptq" if version == 1 else "gptq_v2"}


def awq(group: int = 32) -> tuple[Encoder, dict[str, Any]]:
    """AWQ's gemm version, packed word by word."""

    def encode(weight: torch.Tensor) -> Encoded:
        rows, columns = weight.shape
        of = np.arange(columns) // group
        codes, scales, zeros = _affine(weight.numpy(), of, 4, False)

        def pack(values: np.ndarray) -> torch.Tensor:  # [rows, m] to [m, rows / 8]
            return _words(
                [
                    [sum(int(column[n + AWQ_ORDER[p]]) << (4 * p) for p in range(8)) for n in range(0, rows, 8)]
                    for column in values.T
                ]
            )

        stored = {"qweight": pack(codes), "qzeros": pack(zeros), "scales": torch.from_numpy(scales.T).half()}
        return stored, torch.from_numpy(((codes - zeros[:, of]) * scales[:, of]).astype(np.float32))

    return encode, {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}


def pack_experts(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor]]:
    """Turn a saved checkpoint's routed experts into Kimi K2 Thinking's int4, with the compressed-tensors package.

    Returns the codes, -8 … 7, by the name of their module, and the weights that they stand for.
    """
    codes = {}

    def encode(weight: torch.Tensor) -> Encoded:
        groups = weight.reshape(weight.shape[0], -1, 32)
        scale = (groups.abs().amax(-1) / 7).bfloat16()
        values = (groups / scale.float()[..., None]).round().clamp(-8, 7).to(torch.int8).reshape(weight.shape)
        codes[len(codes)] = values.numpy()
        shape = torch.tensor(weight.shape, dtype=torch.int64)
        stored = {"weight_packed": pack_to_int32(values, 4), "weight_scale": scale, "weight_shape": shape}
        return stored, values.float() * scale.float().repeat_interleave(32, dim=1)

    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    config = compressed_config("pack-quantized", **weights)
    config["ignore"] += ["re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|down)_proj.*"]
    dense = convert(folder, EXPERTS, encode, config)
    return {name.removesuffix(".weight"): codes[i] for i, name in enumerate(dense)}, dense


def mxfp4_experts(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """Give a saved gpt-oss random experts in MXFP4; returns the weights that transformers reads out of them."""
    rng = np.random.default_rng(seed)
    tensors, dense = load_file(folder / "model.safetensors"), {}
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, columns, rows = tensors.pop(name).shape
        blocks = torch.from_numpy(rng.integers(0, 256, (experts, rows, columns // 32, 16), dtype=np.uint8))
        scales = torch.from_numpy(rng.integers(120, 124, (experts, rows, columns // 32), dtype=np.uint8))
        tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = blocks, scales
        dense[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    return dense


def _range(weight: torch.Tensor, block: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the largest weight of each block, zero included."""
    rows, columns = (range(0, size, step) for size, step in zip(weight.shape, block, strict=True))
    tiles = [[weight[n : n + block[0], k : k + block[1]] for k in columns] for n in rows]
    low = torch.tensor([[min(float(t.min()), 0.0) for t in row] for row in tiles])
    return low, torch.tensor([[max(float(t.max()), 0.0) for t in row] for row in tiles])


def _affine(
    weight: np.ndarray, of: np.ndarray, bits: int, symmetric: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes [N, K], scales (fp16) and zero points [N, G] of a matrix whose column k lies in group of[k]."""
    groups, top = of.max() + 1, 2**bits - 1
    low = np.stack([np.minimum(weight[:, of == g].min(1), 0) for g in range(groups)], 1)
    high = np.stack([np.maximum(weight[:, of == g].max(1), 0) for g in range(groups)], 1)
    if symmetric:
        high = np.maximum(high, -low)
        low = -high
    scales = ((high - low) / top).astype(np.float16).astype(np.float32)
    zeros = np.full_like(low, 2 ** (bits - 1)) if symmetric else np.rint(-low / scales)
    codes = np.clip(np.rint(weight / scales[:, of]) + zeros[:, of], 0, top)
    return codes.astype(np.int64), scales, zeros.astype(np.int64)


def _words(rows: list[list[int]]) -> torch.Tensor:
    return torch.from_numpy(np.array(rows, np.uint64).astype(np.uint32).view(np.int32))
