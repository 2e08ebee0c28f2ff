"""NVFP4 as ModelOpt and compressed-tensors publish it: encoders like those of quantized_checkpoints.py."""

from typing import Any

import numpy as np
import torch
from compressed_tensors.compressors.nvfp4 import NVFP4PackedCompressor, unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from quantized_checkpoints import Encoded, Encoder, compressed_config

NUMBERS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
ARGUMENTS = {
    "num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16, "dynamic": False,
    "scale_dtype": "torch.float8_e4m3fn",
}  # fmt: skip


def modelopt_nvfp4(factor: float | None = None) -> tuple[Encoder, dict[str, Any]]:
    """ModelOpt's tensors; factor None: that of each matrix's own range, as ModelOpt chooses it."""

    def encode(weight: torch.Tensor) -> Encoded:
        rows, columns = weight.shape
        blocks = weight.numpy().reshape(rows, -1, 16)
        own = np.float32(np.abs(blocks).max() / (6 * 448) if factor is None else factor)
        scales = torch.from_numpy(np.abs(blocks).max(-1) / 6 / own).to(torch.float8_e4m3fn)
        effective = scales.float().numpy() * own
        distance = np.abs(NUMBERS * effective[..., None, None] - blocks[..., None])
        codes = distance.argmin(-1).astype(np.uint8).reshape(rows, columns)
        stored = {
            "weight": torch.from_numpy(codes[:, ::2] | codes[:, 1::2] << 4), "weight_scale": scales,
            "weight_scale_2": torch.tensor(own),
        }  # fmt: skip
        dense = NUMBERS[codes].reshape(blocks.shape) * effective[..., None]
        return stored, torch.from_numpy(dense.reshape(rows, columns))

    return encode, {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]}


def compressed_nvfp4(factor: float | None = None) -> tuple[Encoder, dict[str, Any]]:
    """`nvfp4-pack-quantized`, by the package itself; it keeps the inverse of the factor."""
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**ARGUMENTS))

    def encode(weight: torch.Tensor) -> Encoded:
        blocks = weight.reshape(len(weight), -1, 16).abs().amax(-1)
        inverse = (6 * 448 / weight.abs().max() if factor is None else torch.tensor(1 / factor)).reshape(1)
        state = {"weight": weight, "weight_scale": (blocks / 6 * inverse).to(torch.float8_e4m3fn).float()}
        stored = NVFP4PackedCompressor.compress(state | {"weight_global_scale": inverse}, scheme)
        codes = unpack_fp4_from_uint8(stored["weight_packed"], *weight.shape, dtype=torch.float32)
        effective = stored["weight_scale"].float() / inverse  # the package's own decompression is in bfloat16
        return stored, codes * effective.repeat_interleave(16, dim=1)

    return encode, compressed_config("nvfp4-pack-quantized", **ARGUMENTS)
