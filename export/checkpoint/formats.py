"""Which number formats of published checkpoints moedge reads, asked of config and headers before any weight is read.

Which tensors are quantized is told by their presence (modules.py reads them), never by a list in the config.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import FLOATS, POWERS, Checkpoint, find_unmatched

# Scales of activations and of a quantized cache: moedge computes both more finely than they ask, without these.
ACTIVATION_SCALES = (
    r".*\.(input|output|activation)_scale",
    r".*\.input_global_scale",
    r".*\.(input|output)_zero_point",
    r".*\.(q|k|v)_scale",
    r".*\.[kv]_proj\.output_scale",
)
_INTEGERS = ("I32",)
_SUFFIXES = {
    "weight": (*FLOATS, "F8_E4M3", "I8"),
    "weight_packed": ("I32", "U8"),
    "weight_shape": ("I64", "I32"),
    "weight_zero_point": ("I32", "I8"),
    "weight_g_idx": _INTEGERS,
    "weight_scale": (*FLOATS, *POWERS),
    "weight_scale_inv": (*FLOATS, *POWERS),
    "qweight": _INTEGERS,
    "qzeros": _INTEGERS,
    "g_idx": ("I32", "I64"),
}
_READ = "compressed-tensors (int4, int8, fp8, mxfp4), fp8, mxfp4, gptq and awq"


@dataclass(frozen=True)
class Published:
    """What a checkpoint's quantization_config says of the tensors' meaning; None where it says nothing for all."""

    method: str = ""  # "": not quantized
    fp8_block: tuple[int, int] | None = None  # rows and columns that share a scale
    zero_points: bool | None = None
    act_order: bool | None = None
    gptq_one_less: bool = False  # zero points are stored less one


def refuse_unreadable(checkpoint: Checkpoint, config: Config, ignored: Iterable[str]) -> None:
    """Raise MoedgeError for a checkpoint whose weights are stored in a way that moedge does not read."""
    published = read_published(config)
    dtypes = checkpoint.dtypes()
    for name in find_unmatched(dtypes, ignored):
        if dtypes[name] not in _list_allowed(name, dtypes):
            raise MoedgeError(
                f"{name} is stored as {dtypes[name]}, which moedge does not read there: take a checkpoint in bf16, or "
                f"in {_READ}."
            )
        if name.endswith(".weight_zero_point") and published.zero_points is False:
            raise MoedgeError(f"{name} is there, but the config says symmetric: correct config.json.")
        for companion in _companions(name, dtypes, published):
            if companion not in dtypes:
                raise MoedgeError(
                    f"{name} has no {companion.removeprefix(name.rpartition('.')[0] + '.')} beside it, without which "
                    "its numbers mean nothing: download the checkpoint again."
                )


def read_published(config: Config) -> Published:
    """The quantization_config of a config.json or of its text_config; MoedgeError for one that moedge does not read."""
    place = config if config.has("quantization_config") else config.section("text_config")
    if not place.has("quantization_config"):
        return Published()
    quantization = place.section("quantization_config")
    method = quantization.text("quant_method")
    readers = {
        "compressed-tensors": _compressed_tensors, "fp8": _fp8, "mxfp4": _mxfp4, "gptq": _gptq, "awq": _awq,
    }  # fmt: skip
    if method not in readers:
        raise MoedgeError(
            f"this checkpoint is quantized with {method}, which moedge does not read: take the one in bf16, or in "
            f"{_READ}."
        )
    return readers[method](quantization)


def may_be_zero_bias(checkpoint: Checkpoint, name: str) -> bool:
    """Whether it may be a bias of zeros, which GPTQ tools write beside matrices also where a model has none."""
    module, _, last = name.rpartition(".")
    return last == "bias" and f"{module}.qweight" in checkpoint


def _compressed_tensors(config: Config) -> Published:
    formats = (
        "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mxfp4-pack-quantized",
        "mixed-precision",
    )  # fmt: skip
    config.require("format", *formats)
    config.section("sparsity_config").require("format", "dense")
    if config.section("transform_config").sections("config_groups"):
        raise config.refuse("transform_config", "moedge does not rotate activations")
    zeros, orders, blocks = set(), set(), set()
    for group in config.sections("config_groups"):
        group.require("format", *formats)
        weights = group.section("weights")
        if weights.text("type", "int") == "int":
            weights.require("num_bits", 4, 8)
            weights.require("strategy", "group", "channel", "tensor")
        elif weights.integer("num_bits") == 4:
            weights.require("type", "float")
            weights.require("strategy", "group")  # MXFP4: tensor_group is NVFP4
            weights.require("group_size", 32)
        else:
            weights.require("type", "float")
            weights.require("num_bits", 8)
            weights.require("strategy", "tensor", "channel", "block")
        if weights.text("strategy", "tensor") == "block":
            blocks.add(_block(weights, "block_structure"))
        zeros.add(not weights.flag("symmetric", True))
        weights.require("actorder", None, False, True, "group", "static", "weight", "dynamic")
        # the others order columns while quantizing and leave them in place
        orders.add(weights.says("actorder", True, "group"))
    if len(blocks) > 1:
        sizes = " and of ".join(map(str, sorted(blocks)))
        raise MoedgeError(f"this checkpoint has blocks of {sizes}, of which moedge reads one size: take another.")
    return Published("compressed-tensors", next(iter(blocks), None), _same(zeros), _same(orders))


def _fp8(config: Config) -> Published:
    config.require("fmt", "e4m3", "float8_e4m3fn")
    config.require("expert_dtype", "fp8")
    return Published("fp8", _block(config, "weight_block_size") if config.has("weight_block_size") else None)


def _mxfp4(config: Config) -> Published:
    return Published("mxfp4")


def _gptq(config: Config) -> Published:
    config.require("bits", 4, 8)
    config.require("is_marlin_format", False)
    config.require("pack_dtype", "int32", "torch.int32")
    key = "checkpoint_format" if config.has("checkpoint_format") else "format"
    config.require(key, "gptq", "gptq_v2")
    return Published(
        "gptq", zero_points=True, act_order=config.flag("desc_act", False),
        gptq_one_less=config.text(key, "gptq") == "gptq",
    )  # fmt: skip


def _awq(config: Config) -> Published:
    config.require("bits", 4)
    config.require("version" if config.has("version") else "format", "gemm", "GEMM")
    config.require("desc_act", False)
    return Published("awq", zero_points=config.flag("zero_point", True))


def _block(config: Config, key: str) -> tuple[int, int]:
    sizes = config.integers(key)
    if len(sizes) != 2 or min(sizes) < 1:
        raise config.refuse(key, "a block has rows and columns")
    return sizes[0], sizes[1]


def _same(values: set[bool]) -> bool | None:
    return values.pop() if len(values) == 1 else None


def _list_allowed(name: str, dtypes: Mapping[str, Any]) -> tuple[str, ...]:
    """The dtypes that a tensor of that name may have."""
    if name.endswith("_blocks") or (name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in dtypes):
        return ("U8",)
    return _SUFFIXES.get(name.rpartition(".")[2], FLOATS)


def _companions(name: str, dtypes: Mapping[str, str], published: Published) -> Iterator[str]:
    """The tensors without which this one cannot be read."""
    module, _, last = name.rpartition(".")
    if name.endswith("_blocks"):
        yield f"{name.removesuffix('_blocks')}_scales"
    if last == "weight" and dtypes[name] not in FLOATS:
        inverse = f"{module}.weight_scale_inv"
        yield inverse if inverse in dtypes and dtypes[name] != "I8" else f"{module}.weight_scale"
    if last == "weight_packed":
        yield f"{module}.weight_scale"
        if dtypes[name] == "I32":
            yield f"{module}.weight_shape"
    if (last, dtypes[name]) in (("weight_packed", "I32"), ("weight", "I8")):
        yield from (f"{module}.weight_zero_point",) if published.zero_points else ()
        yield from (f"{module}.weight_g_idx",) if published.act_order else ()
    if last == "qweight":
        yield f"{module}.scales"
        yield from (f"{module}.qzeros",) if published.zero_points else ()
        yield from (f"{module}.g_idx",) if published.act_order else ()
