"""Which number formats of published checkpoints moedge reads, asked of config and headers before any weight is read.

Floating point as it is, and symmetric int4 of compressed-tensors (`pack-quantized`); matrices.py reads both.
"""

from collections.abc import Iterable

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint import Checkpoint, unmatched
from moedge.export.config import Config
from moedge.quant.scheme import BLOCKS

_FLOATS = ("F32", "F16", "BF16")


def refuse_unreadable(checkpoint: Checkpoint, config: Config, ignored: Iterable[str]) -> None:
    """Raise MoedgeError for a checkpoint whose weights are stored in a way that moedge does not read."""
    if config.has("quantization_config"):
        _refuse_other_quantization(config.section("quantization_config"))
    dtypes = checkpoint.dtypes()
    for name in unmatched(dtypes, ignored):
        allowed = {"weight_packed": ("I32",), "weight_shape": ("I64", "I32")}.get(name.rpartition(".")[2], _FLOATS)
        if dtypes[name] not in allowed:
            raise MoedgeError(
                f"{name} is stored as {dtypes[name]}, which moedge does not read: take a checkpoint in bf16, or in "
                "int4 of compressed-tensors."
            )


def _refuse_other_quantization(config: Config) -> None:
    if config.text("quant_method") != "compressed-tensors":
        raise MoedgeError(
            f"this checkpoint is quantized with {config.text('quant_method')}, which moedge does not read: take the "
            "one in bf16, or in int4 of compressed-tensors."
        )
    config.require("format", "pack-quantized")
    for group in config.sections("config_groups"):
        weights = group.section("weights")
        weights.require("num_bits", 4)
        weights.require("type", "int")
        weights.require("symmetric", True)
        weights.require("strategy", "group")
        weights.require("group_size", *reversed(BLOCKS))
        weights.require("actorder", None, False, "static", "weight")  # these keep the columns in their order
