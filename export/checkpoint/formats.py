"""Which number formats of published checkpoints moedge reads, asked of config and headers before any weight is read.

Which tensors are quantized is told by their presence (modules.py reads them), never by a list in the config.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moedge.devices.errors import MoedgeError
from moedge.export.checkpoint.config_json import Config
from moedge.export.checkpoint.folder import FLOATS, POWERS, Checkpoint, find_unmatched
from moedge.export.checkpoint.published import READ, Published, read_published, refuse_method

# Scales of activations and of a quantized cache: moedge computes both more finely than they ask, without these.
ACTIVATION_SCALES = (
    r".*\.(input|output|activation|prob_output)_scale",
    r".*\.input_(global_scale|scale_ub)",
    r".*\.(input|output)_zero_point",
    r".*\.(q|k|v|kv)_scale",
    r".*\.kv_cache_scaling_factor",
)
# Parts of a tensor's name that one tool alone writes, in a format that is not read.
_MARKS = {
    **dict.fromkeys(
        ("absmax", "nested_absmax", "quant_map", "nested_quant_map", "quant_state"), "bitsandbytes, 4 bits"
    ),
    **dict.fromkeys(("SCB", "weight_format"), "bitsandbytes, 8 bits"),
    "biases": "MLX",
    **dict.fromkeys(("q_weight", "q_scale_max", "q_groups", "q_perm", "q_invperm"), "ExLlamaV2 (EXL2)"),
    **dict.fromkeys(("trellis", "suh", "svh"), "ExLlamaV3 (EXL3)"),
    "codebooks": "AQLM",
    "W_q": "HQQ",
    "pre_quant_scale": "ModelOpt's AWQ",
    "Qidxs": "QuIP#",
    "_data": "quanto",
    **dict.fromkeys(("_weight_qdata", "weight_qdata"), "torchao"),
}
_ADAPTER = {
    "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "base_layer", "original_module", "modules_to_save",
}  # fmt: skip
_SCALES = (".weight_scale", ".weight_scale_inv")
_INTEGERS = ("I32",)
_SUFFIXES: dict[str, tuple[str, ...]] = {
    "weight": (*FLOATS, "F8_E4M3", "I8"),
    "weight_packed": ("I32", "U8"),
    "weight_scale_2": ("F32",),
    "weight_global_scale": ("F32",),
    "weight_shape": ("I64", "I32"),
    "weight_zero_point": ("I32", "I8"),
    "weight_g_idx": _INTEGERS,
    "weight_scale": (*FLOATS, *POWERS),
    "weight_scale_inv": (*FLOATS, *POWERS),
    "qweight": _INTEGERS,
    "qzeros": _INTEGERS,
    "g_idx": ("I32", "I64"),
}

# What NVFP4 has besides, which its factor tells.
_NVFP4 = {"weight": ("U8",), "weight_scale": ("F8_E4M3",)}
_NVFP4_FACTORS = ("weight_scale_2", "weight_global_scale")


def refuse_unreadable(checkpoint: Checkpoint, config: Config, ignored: Iterable[str]) -> None:
    """Raise MoedgeError for a checkpoint whose weights are stored in a way that moedge does not read."""
    published = read_published(config)
    dtypes = checkpoint.dtypes()
    unmatched = find_unmatched(dtypes, ignored)
    _refuse_marked(unmatched)
    scaled = any(name.endswith(_SCALES) for name in dtypes)
    for name in unmatched:
        if dtypes[name] not in _list_allowed(name, dtypes):
            raise MoedgeError(
                f"{name} is stored as {dtypes[name]}, which moedge does not read there: take a checkpoint in bf16, or "
                f"in {READ}."
            )
        if name.endswith(".weight_zero_point") and published.zero_points is False:
            raise MoedgeError(f"{name} is there, but the config says symmetric: correct config.json.")
        for companion in _companions(name, dtypes, published):
            if companion not in dtypes and dtypes[name] == "F8_E4M3" and not scaled:
                raise MoedgeError(
                    f"{name} is stored as F8_E4M3, and no matrix has scales: the weights were only cast to eight bits, "
                    "which loses the small ones: take the checkpoint in bf16, or one in fp8 with scales."
                )
            if companion not in dtypes:
                raise MoedgeError(
                    f"{name} has no {companion.removeprefix(name.rpartition('.')[0] + '.')} beside it, without which "
                    "its numbers mean nothing: take another checkpoint."
                )


def _refuse_marked(names: Iterable[str]) -> None:
    """Raise MoedgeError for a tensor whose name tells a format that is not read, or an adapter."""
    for name in names:
        parts = name.split(".")
        if tool := next((_MARKS[part] for part in parts if part in _MARKS), None):
            raise refuse_method(f"{tool} ({name})")
        if not _ADAPTER.isdisjoint(parts):
            raise MoedgeError(f"{name} is a part of a LoRA adapter: merge it into the model before the export.")


def may_be_zero_bias(checkpoint: Checkpoint, name: str) -> bool:
    """Whether it may be a bias of zeros, which GPTQ tools write beside matrices also where a model has none."""
    module, _, last = name.rpartition(".")
    return last == "bias" and f"{module}.qweight" in checkpoint


def _list_allowed(name: str, dtypes: Mapping[str, Any]) -> tuple[str, ...]:
    """The dtypes that a tensor of that name may have."""
    if name.endswith("_blocks") or (name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in dtypes):
        return ("U8",)
    module, _, last = name.rpartition(".")
    allowed = _SUFFIXES.get(last, FLOATS)
    return allowed + _NVFP4.get(last, ()) if any(f"{module}.{part}" in dtypes for part in _NVFP4_FACTORS) else allowed


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
