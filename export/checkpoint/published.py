"""What a checkpoint's config states of how its weights are stored: `quantization_config`, whatever tool has written it.

A method's name says only which keys to ask: several tools write the same layouts. Tensors are not looked at here.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config

READ = "compressed-tensors (int4, int8, fp8, mxfp4, nvfp4), fp8, mxfp4, nvfp4, gptq and awq"
WHOLE_ROW = -1  # among group sizes: all columns of a row share a scale
_KEYS = ("quantization_config", "compression_config")  # the second as compressed-tensors wrote it at first
_AUTO_ROUND_LAYOUTS = {"gptq", "auto_gptq", "gptqmodel", "auto"}
_AUTO_ROUND_KERNELS = {"auto_round", "exllamav2", "triton", "tritonv2", "cuda"}
_MODELOPT_NVFP4 = ("NVFP4", "W4A16_NVFP4")  # with activations in four bits too, and without
# ModelOpt's algorithms whose weights are fp8, with the columns of a block unless group_size says; None: no blocks
_MODELOPT = {"FP8": None, "FP8_PER_CHANNEL_PER_TOKEN": None, "FP8_PB_WO": 128, "FP8_BLOCK_SCALES": 128, "MXFP8": 32}


@dataclass(frozen=True)
class Published:
    """What a checkpoint's quantization_config says of the tensors' meaning; None where it says nothing for all."""

    method: str = ""  # the layout: "compressed-tensors", "fp8", "mxfp4", "nvfp4", "gptq" or "awq"; "": not quantized
    fp8_block: tuple[int, int] | None = None  # rows and columns that share a scale
    group_sizes: frozenset[int] = frozenset()  # columns that share a scale of integer codes: every size that is stated
    zero_points: bool | None = None
    symmetric: bool = False  # every zero point is the middle of the codes
    act_order: bool | None = None
    gptq_one_less: bool = False  # zero points are stored less one


def read_published(config: Config) -> Published:
    """The quantization_config of a config.json or of its text_config; MoedgeError for one that moedge does not read.

    An empty one says as little as none.
    """
    for place in (config, config.section("text_config")):
        for key in _KEYS:
            if place.says_anything(key):
                quantization = place.section(key)
                method = _name_method(quantization)
                if method not in _READERS:
                    raise refuse_method(method)
                return _READERS[method](quantization)
    if config.says_anything("quantization") and config.section("quantization").has("bits"):
        raise refuse_method("MLX")
    return Published()


def refuse_method(name: str) -> MoedgeError:
    """The error for a checkpoint in a format that is known by name and not read."""
    return MoedgeError(
        f"this checkpoint is quantized with {name}, which moedge does not read: take the one in bf16, or in {READ}."
    )


def _name_method(config: Config) -> str:
    """The method, in one spelling; where the config names none, what its keys belong to."""
    if config.has("quant_method"):
        name = config.text("quant_method").lower().replace("_", "-").removeprefix("intel/")
        return "modelopt" if name.startswith("modelopt") else name
    if any(config.has(key) for key in ("load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit")):
        return "bitsandbytes"
    if config.has("quant_algo") or config.section("quantization").has("quant_algo"):
        return "modelopt"
    if config.has("config_groups"):
        return "compressed-tensors"
    if config.has("desc_act") or config.has("sym"):
        return "gptq"
    if config.has("zero_point"):
        return "awq"
    if config.has("group_size") and config.has("bits"):
        return "MLX"
    return config.text("quant_method")  # raises: there is none


def _compressed_tensors(config: Config) -> Published:
    formats = (
        "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mxfp4-pack-quantized",
        "nvfp4-pack-quantized", "mxfp8-quantized", "mixed-precision",
    )  # fmt: skip
    _require_format(config, formats)
    config.section("sparsity_config").require("format", "dense")
    if config.section("transform_config").sections("config_groups"):
        raise config.refuse("transform_config", "moedge does not rotate activations")
    sizes, zeros, orders, blocks = set(), set(), set(), set()
    for group in config.sections("config_groups"):
        _require_format(group, formats)
        weights = group.section("weights")
        if weights.text("type", "int") == "int":
            weights.require("num_bits", 4, 8)
            weights.require("strategy", "group", "channel", "tensor")
            if weights.text("strategy", "group") != "group":
                sizes.add(WHOLE_ROW)
            elif weights.has("group_size"):
                sizes.add(_group_size(weights, "group_size"))
        elif weights.integer("num_bits") == 4:
            weights.require("type", "float")
            weights.require("strategy", "group", "tensor_group")  # MXFP4, NVFP4
            weights.require("group_size", 16 if weights.says("strategy", "tensor_group") else 32)
        else:
            weights.require("type", "float")
            weights.require("num_bits", 8)
            weights.require("strategy", "tensor", "channel", "block", "group")
        if weights.text("strategy", "tensor") == "block":
            blocks.add(_block(weights, "block_structure"))
        if weights.text("type", "int") == "float" and weights.says("num_bits", 8) and weights.says("strategy", "group"):
            blocks.add((1, weights.integer("group_size")))
        zeros.add(not weights.flag("symmetric", True))
        weights.require("actorder", None, False, True, "group", "static", "weight", "dynamic")
        # the others order columns while quantizing and leave them in place
        orders.add(weights.says("actorder", True, "group"))
    return Published("compressed-tensors", _one(blocks), frozenset(sizes), _same(zeros), act_order=_same(orders))


def _require_format(config: Config, formats: Collection[str]) -> None:
    if config.has("format") and not config.says("format", *formats):
        raise refuse_method(f"compressed-tensors' {config.text('format')}")


def _fp8(config: Config) -> Published:
    config.require("fmt", "e4m3", "float8_e4m3fn")
    config.require("expert_dtype", "fp8")
    return Published("fp8", _block(config, "weight_block_size") if config.has("weight_block_size") else None)


def _mxfp4(_: Config) -> Published:
    return Published("mxfp4")


def _gptq(config: Config) -> Published:
    config.require("bits", 4, 8)
    config.require("is_marlin_format", False)
    config.require("pack_dtype", "int32", "torch.int32")
    key = "checkpoint_format" if config.has("checkpoint_format") else "format"
    config.require(key, "gptq", "gptq_v2")
    return Published(
        "gptq", None, _group_sizes(config, "dynamic"), zero_points=True, symmetric=config.flag("sym", False),
        act_order=config.flag("desc_act", False), gptq_one_less=config.text(key, "gptq") == "gptq",
    )  # fmt: skip


def _awq(config: Config) -> Published:
    config.require("w_bit" if config.has("w_bit") else "bits", 4)
    keys = [key for key in ("version", "format", "checkpoint_format") if config.has(key)]
    config.require(keys[0] if keys else "version", "gemm", "GEMM")
    config.require("desc_act", False)
    return Published("awq", None, _group_sizes(config, "dynamic"), zero_points=config.flag("zero_point", True))


def _auto_round(config: Config) -> Published:
    """AutoRound's packings: GPTQ's words with zero points less one, as they are, or AWQ's; or plain fp8.

    Source: auto-round 0.2 to 0.14 (export/export_to_autoround). Older versions call the packing `backend`; there and
    in later ones it is "auto_round" with the layout's name after a colon, which a kernel's name may follow.
    """
    kind = config.text("data_type", "int")
    if kind in ("fp", "fp8", "fp8_e4m3", "fp8_sym"):
        config.require("bits", 8)
        return _fp8(config)
    if kind not in ("int", "int_sym", "int_asym"):
        raise refuse_method(f"AutoRound's {kind}")
    if config.integer("act_bits", 16) <= 8:  # scales of weights then count from fp8, not from floats
        raise config.refuse("act_bits", "moedge reads integer codes of AutoRound where activations stay floats")
    key = "packing_format" if config.has("packing_format") else "backend"
    packing = config.text(key, "auto_round:auto_gptq").lower()
    sizes = _group_sizes(config, "extra_config")
    if "awq" in packing:
        config.require("bits", 4)
        return Published("awq", None, sizes, zero_points=True)
    words = set(packing.replace("-", "_").split(":"))
    if words - _AUTO_ROUND_LAYOUTS - _AUTO_ROUND_KERNELS:
        raise refuse_method(f"AutoRound in {packing}")
    config.require("bits", 4, 8)
    one_less = bool(words & (_AUTO_ROUND_LAYOUTS - {"gptqmodel"}))
    return Published("gptq", None, sizes, True, config.flag("sym", False), False, one_less)


def _modelopt(config: Config) -> Published:
    """ModelOpt's fp8 and NVFP4, as config.json has it or, under `quantization`, hf_quant_config.json."""
    place = config.section("quantization") if config.has("quantization") else config
    if not place.has("quant_algo"):
        return Published()  # at most its cache is quantized
    layers = place.sections("quantized_layers") if place.text("quant_algo").upper() == "MIXED_PRECISION" else [place]
    blocks, method = set(), "nvfp4"
    for layer in layers:
        name = layer.text("quant_algo").upper()
        if name in _MODELOPT_NVFP4:
            layer.require("group_size", 16)
            continue
        method = "fp8"
        if name not in _MODELOPT:
            raise refuse_method(f"ModelOpt's {name}")
        if usual := _MODELOPT[name]:
            size = layer.integer("group_size", usual)
            blocks.add((1 if name == "MXFP8" else size, size))
    return Published(method, _one(blocks))


def _quark(config: Config) -> Published:
    layers = [*config.sections("layer_quant_config"), *config.sections("layer_type_quant_config")]
    for place in (config.section("global_quant_config"), *layers):
        if not place.has("weight"):
            continue
        weight = place.section("weight")
        if not weight.says("dtype", "fp8_e4m3") or not weight.says("qscheme", "per_tensor", "per_channel"):
            raise refuse_method(f"Quark's {weight.text('dtype', 'codes')} {weight.text('qscheme', '')}".rstrip())
    return Published("fp8")


def _group_sizes(config: Config, overrides: str) -> frozenset[int]:
    """Those that the config states, for all matrices and for some: codes and scales tell which of them one has."""
    places = [(config, key) for key in ("group_size", "q_group_size")]
    places += [(layer, "group_size") for layer in config.sections(overrides)]
    return frozenset(_group_size(place, key) for place, key in places if place.has(key))


def _group_size(config: Config, key: str) -> int:
    size = config.integer(key, least=-1)
    if size == 0:
        raise config.refuse(key, "a group has columns")
    return size


def _block(config: Config, key: str) -> tuple[int, int]:
    """Rows and columns of a block: [128, 128], or as older tools wrote it "128x128"."""
    sizes = config.sizes(key)
    if len(sizes) != 2 or min(sizes) < 1:
        raise config.refuse(key, "a block has rows and columns")
    return sizes[0], sizes[1]


def _one(blocks: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    found = sorted(blocks)
    if len(found) > 1:
        sizes = " and of ".join(map(str, found))
        raise MoedgeError(f"this checkpoint has blocks of {sizes}, of which moedge reads one size: take another.")
    return found[0] if found else None


def _same(values: set[bool]) -> bool | None:
    return values.pop() if len(values) == 1 else None


_READERS: dict[str, Callable[[Config], Published]] = {
    "compressed-tensors": _compressed_tensors, "fp8": _fp8, "fbgemm-fp8": _fp8, "mxfp4": _mxfp4, "gptq": _gptq,
    "awq": _awq, "auto-round": _auto_round, "autoround": _auto_round, "inc": _auto_round, "modelopt": _modelopt,
    "quark": _quark,
}  # fmt: skip
