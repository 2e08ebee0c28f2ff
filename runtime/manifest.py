"""The bundle's manifest: the one contract between `export`, which writes it, and `runtime`, which reads it.

It owns the schema and its JSON form, the names of a bundle's files and the bounds of the sampling values in them. It
does not open weights, check hashes or know ONNX.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from moedge.devices.errors import MoedgeError
from moedge.devices.structure import structure, unstructure

SCHEMA_VERSION = 4
MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
WEIGHTS_NAME = "weights.bin"
PROBE_NAME = "probe.onnx"
REPORT_NAME = "report.json"
TOKENIZER_NAME = "tokenizer.json"
TEMPLATE_NAME = "chat_template.jinja"
GENERATION_NAME = "generation_config.json"
# an output that only other runtimes read (docs/genai.md)
LAST_LOGITS = "last_logits"

# The roles of tensors, by which the manifest counts them.
GroupName = Literal[
    "routed experts", "shared experts", "dense mlp", "attention", "convolution", "router", "norms",
    "embedding", "lm_head", "rotary tables",
]  # fmt: skip
ROUTED_EXPERTS: Final = "routed experts"
SHARED_EXPERTS: Final = "shared experts"
DENSE_MLP: Final = "dense mlp"
ATTENTION: Final = "attention"
CONVOLUTION: Final = "convolution"
ROUTER: Final = "router"
NORMS: Final = "norms"
EMBEDDING: Final = "embedding"
LM_HEAD: Final = "lm_head"
ROTARY_TABLES: Final = "rotary tables"  # computed, no weights of the model's

ExpertPlan = Literal["native", "fused", "if"]
ScaleDtype = Literal["float32", "float16", "bfloat16", "float8", "float8e4m3fn", "float8e8m0"]
CodeKind = Literal["integers", "mxfp4", "nvfp4"]
CacheLayout = Literal["rows", "shared", "native", "state", "states"]
ChatFormat = Literal[
    "cohere", "deepseek_v3", "deepseek_v3_1", "ernie", "gemma4", "glm", "gpt_oss", "granite", "hermes",
    "kimi_k2", "lfm2", "mistral", "plain", "qwen3_coder", "think",
]  # fmt: skip


@dataclass(frozen=True)
class Bounds:
    """The values that a number may have: from `low` to `high`."""

    low: float
    high: float
    whole: bool = False

    def holds(self, value: object) -> bool:
        """Whether `value` is a number within the bounds; NaN, infinity, truth values and text are not."""
        if not isinstance(value, int if self.whole else int | float) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high

    def __str__(self) -> str:
        end = "" if self.high >= 1 << 31 else f", at most {self.high:g}"
        return f"{'a whole number, ' if self.whole else ''}{self.low:g} or more{end}"


# What generation_config.json may say of how to sample, in the names of Hugging Face; null is silence. `export` writes
# no value outside, so that no bundle is refused for it when it is loaded.
SAMPLING: Mapping[str, Bounds] = {
    "temperature": Bounds(0, 1000),  # far beyond, fp32 does not hold what it is multiplied with
    "top_k": Bounds(0, 1 << 31, whole=True),
    "top_p": Bounds(0, 1),  # 0 keeps the likeliest alone
    "min_p": Bounds(0, 1),
    "repetition_penalty": Bounds(0.01, 1000),  # far beyond, a logit that it multiplies overflows fp32
}


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and hex sha256 of one file of the bundle; the manifest itself is not listed."""

    size: int
    sha256: str


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one role that share a scheme: how many weights they hold and what they cost on disk, in bytes.

    `scheme` is for people ("fp32", "int4-block64", "int4-block32 (published)"): the fields after it tell what it means.
    """

    name: GroupName
    scheme: str
    bits: int  # a weight, scales and zero points aside: 32, 8 or 4
    block: int  # weights that share a scale; 0: unquantized
    parameters: int
    bytes: int
    scales: ScaleDtype = "float32"  # what they are kept in

    @property
    def read_as_it_lies(self) -> bool:
        """Whether its kernel reads the file's own pages: that of four-bit floats, whose scales have eight bits."""
        return self.scales in ("float8e4m3fn", "float8e8m0")

    @property
    def kernel_bits(self) -> int:
        """Bits of the codes that ONNX Runtime reads: those of 5 and 6 take a byte each once it has loaded them."""
        return 8 if self.bits in (5, 6) else self.bits

    @property
    def table_bytes(self) -> int:
        """Bytes of it once loaded where rows are looked up in it."""
        return self.bytes if self.kernel_bits == self.bits else self.parameters

    @property
    def joining_bytes(self) -> int:
        """Bytes beside it that ONNX Runtime takes for a moment to make bytes of its codes of 5 or 6 bits.

        Seven a weight, measured with onnxruntime 1.32: results of all nodes stay until the whole graph is folded.
        """
        return 0 if self.kernel_bits == self.bits else 7 * self.parameters

    @property
    def cast_bytes(self) -> int:
        """Bytes of fp32 scales that ONNX Runtime casts others to at load, in memory of the process.

        Those in fp32 are pages of the file, and those of four-bit floats no kernel casts.
        """
        cast = self.block and self.scales != "float32" and not self.read_as_it_lies
        return 4 * self.parameters // self.block if cast else 0


@dataclass(frozen=True)
class CacheTensor:
    """One cache buffer that the runtime owns and the graph reads and extends, fp32 but for layout `native`.

    rows: the graph input `past` is a view [1, t, width] of the first t rows; the graph output `present` is the
    new rows [1, s, width], which the runtime binds to buffer[t : t + s]. `shape` is (width,). With a `window` the
    graph reads only the last rows: `past` is [1, window, width], zeros where there are fewer before the new ones.
    shared: `past` and `present` are one buffer [1, heads, capacity, head_dim], extended in place by
    GroupQueryAttention. `shape` is (heads, head_dim). With a `window` its older rows weigh nothing.
    native: `past` and `present` are one buffer of bytes [slots, kv_heads, capacity, row_bytes], extended in place by
    moedge's kernels. `shape` is (kv_heads, width). What numbers a row is made of is the runtime's choice, unless it is
    `exact`: fp32 then. With a `window` only its last rows are read, the new tokens' own included.
    state: what a recurrent layer keeps, of one size whatever the length: `past` [1, *shape] is what it was, `present`
    what it has become.
    states: the same of many timelines, `past` and `present` one buffer [states, *shape] of which the graph input
    `states` tells which state of a timeline is read and which is written.
    """

    past: str
    present: str
    layout: CacheLayout
    shape: tuple[int, ...]
    window: int = 0
    exact: bool = False

    @property
    def is_state(self) -> bool:
        """Whether its size is the same whatever the length."""
        return self.layout in ("state", "states")


@dataclass(frozen=True)
class ExpertKernel:
    """What decides which kernel of experts runs; an empty block size means unquantized experts."""

    plan: ExpertPlan
    bits: int  # that the kernel reads: 32, 8 or 4, in the native plan 6 and 5 too
    block_size: int  # 0: unquantized
    zero_point: bool
    codes: CodeKind = "integers"


@dataclass(frozen=True)
class ModelFacts:
    """What the model is, whatever its scheme. Parameters are counts of weights."""

    model_type: str
    hidden_size: int
    vocab_size: int
    num_hidden_layers: int
    num_attention_heads: int  # of the layer that has most; 0: no layer attends
    moe_layers: int
    num_experts: int
    num_experts_per_tok: int
    total_parameters: int
    active_parameters: int
    context_length: int  # the longest sequence that this bundle serves, in tokens
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    chat_format: ChatFormat
    rotary_switch: int = 0  # LongRoPE: the length above which new tokens get other angles; 0: none, and not written


@dataclass(frozen=True)
class Manifest:
    """All that the runtime must know before it opens the graph."""

    schema_version: int
    name: str
    scheme: str
    experts: ExpertKernel
    model: ModelFacts
    cache: tuple[CacheTensor, ...]
    tensors: tuple[TensorGroup, ...]
    files: dict[str, FileEntry]
    tools: dict[str, str]  # name of a package to the version that made this bundle
    chat_template: str | None = None  # None: the checkpoint's own; moedge's by name, or a file's name


def pick_sampling(generation_config: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling values that a generation_config.json states."""
    return {name: generation_config[name] for name in SAMPLING if generation_config.get(name) is not None}


def render(manifest: Manifest) -> bytes:
    """The one JSON text of a manifest; its last key `sha256` is the hash of the text without that key."""
    data = unstructure(manifest)
    if not manifest.model.rotary_switch:  # so that bundles without one are what they always were
        del data["model"]["rotary_switch"]
    digest = hashlib.sha256(_json(data)).hexdigest()
    return _json(data | {"sha256": digest})


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `folder`/manifest.json."""
    (folder / MANIFEST_NAME).write_bytes(render(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/manifest.json; raise MoedgeError if it is missing, not JSON, of another schema, or altered."""
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
        data = json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        raise MoedgeError(
            f"{folder} is not a bundle (it has no {MANIFEST_NAME}): make one with `moedge export`."
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise MoedgeError(f"{path} cannot be read ({error}): export the bundle again.") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise MoedgeError(
            f"{path} has schema version {version!r}, this moedge reads {SCHEMA_VERSION}: export it again."
        )
    data.pop("sha256", None)
    manifest = structure(data, Manifest, str(path))
    if render(manifest) != content:  # the manifest vouches for all other files, and its own hash for itself
        raise MoedgeError(
            f"{path} is not as it was written (its sha256 does not match): copy or export the bundle again."
        )
    if min(manifest.model.hidden_size, manifest.model.vocab_size, manifest.model.context_length) < 1:
        raise MoedgeError(f"{path} tells of a model without a size or a context: export the bundle again.")
    return manifest
