"""One Attention node: what it is given, its rows of a cache, and the same in double precision with numpy.

Rows are written and read here by their formula alone, without the library.
"""

from dataclasses import dataclass, field

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from moedge.runtime.kernels.library import find_library

ROW_TYPES = ("float32", "float16", "int8")


def row_bytes(kind, width):
    """Bytes of a cache's row."""
    return {"float32": 4 * width, "float16": 2 * width, "int8": -(-width // 4) * 4 + 4 * -(-width // 32)}[kind]


def write_rows(x, kind):
    """fp32 numbers [..., width] as rows, uint8 [..., row bytes]."""
    if kind != "int8":
        bound = np.inf if kind == "float32" else 65504
        return np.ascontiguousarray(np.clip(x, -bound, bound).astype(kind)).view(np.uint8)
    *lead, width = x.shape
    blocks = np.zeros((*lead, -(-width // 32), 32), np.float32)
    blocks.reshape(*lead, -1)[..., :width] = x
    most = np.abs(blocks).max(-1, keepdims=True)
    codes = np.rint(blocks * np.where(most > 1e-36, np.float32(127) / np.maximum(most, 1e-36), 0)).astype(np.int8)
    out = np.zeros((*lead, row_bytes(kind, width)), np.uint8)
    out[..., :width] = codes.reshape(*lead, -1)[..., :width].view(np.uint8)
    out[..., -(-width // 4) * 4 :] = np.ascontiguousarray(most[..., 0] / np.float32(127)).view(np.uint8)
    return out


def read_rows(rows, kind, width):
    """What they stand for, fp32 [..., width]."""
    rows = np.ascontiguousarray(rows)
    if kind != "int8":
        return rows.view(kind).astype(np.float32)
    scales = np.ascontiguousarray(rows[..., -(-width // 4) * 4 :]).view(np.float32)
    return rows[..., :width].view(np.int8) * np.repeat(scales, 32, -1)[..., :width]


@dataclass(frozen=True)
class Case:
    """A node's attributes, and the cache's sizes."""

    heads: int = 4
    kv_heads: int = 2
    dim: int = 16
    rotary: int = 16
    scale: float = 0.25
    window: int = 0
    norm: str = "none"
    eps: float = 1e-5
    clip: float = 0.0
    switch: int = 0
    activation_bits: int = 8
    kind: str = "float32"
    slots: int = 3
    capacity: int = 64
    sinks: bool = False
    value: str | None = None  # None, as the next one: the node has no such attribute
    value_norm: int | None = None
    seed: int = 0
    size: float = 1.0  # of the projections
    tables: dict[str, np.ndarray] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        angles = rng.random((self.capacity + self.switch, self.rotary // 2)) * 6
        made = {"cos": np.cos(angles), "sin": np.sin(angles)} if self.rotary else {}
        if self.norm != "none":
            sizes = (self.heads, self.kv_heads) if self.norm == "whole" else (1, 1)
            made |= {f"{n}_norm": rng.random(s * self.dim) + 0.5 for n, s in zip("qk", sizes, strict=True)}
        if self.sinks:
            made["sinks"] = rng.standard_normal(self.heads) * 2
        object.__setattr__(self, "tables", {name: array.astype(np.float32) for name, array in made.items()})

    def projections(self, tokens, seed=1):
        """Joined ones [tokens, (heads + 2 kv_heads) * dim], or without values of their own [tokens, (heads + ...)]."""
        shape = tokens, (self.heads + (1 if self.value == "key" else 2) * self.kv_heads) * self.dim
        return (np.random.default_rng(seed).standard_normal(shape) * self.size).astype(np.float32)

    def caches(self, seed=2):
        """Keys and values as rows, of made-up tokens."""
        shape = 2, self.slots, self.kv_heads, self.capacity, self.dim
        return [*write_rows(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), self.kind)]

    def open(self, threads=1):
        """A session of the node."""
        names = ["cos", "sin", "q_norm", "k_norm", "sinks"]
        inputs = ["qkv", "past_key", "past_value", "segments", *(n if n in self.tables else "" for n in names)]
        told = {
            name: getattr(self, name)
            for name in ("heads", "kv_heads", "dim", "rotary", "scale", "window", "norm", "eps", "clip", "switch")
        }
        told |= {"activation_bits": self.activation_bits, "layer": 0}
        told |= {n: getattr(self, n) for n in ("value", "value_norm") if getattr(self, n) is not None}
        node = helper.make_node(
            "Attention", inputs, ["context", "present_key", "present_value"], domain="moedge", **told
        )
        kinds = {"past_key": TensorProto.UINT8, "past_value": TensorProto.UINT8, "segments": TensorProto.INT64}
        given = [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in inputs if name
        ]
        outs = [helper.make_tensor_value_info("context", TensorProto.FLOAT, None)]
        outs += [helper.make_tensor_value_info(n, TensorProto.UINT8, None) for n in ("present_key", "present_value")]
        graph = helper.make_graph([node], "one", given, outs)
        domains = [helper.make_opsetid("", 21), helper.make_opsetid("moedge", 1)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.register_custom_ops_library(str(find_library()))
        model = helper.make_model(graph, opset_imports=domains, ir_version=10)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(session, case, qkv, caches, segments, others=None):
    """The context; new rows are written into `caches`. `others` are given instead of the case's own."""
    binding = session.io_binding()
    feeds = {"qkv": qkv, "past_key": caches[0], "past_value": caches[1]} | case.tables | (others or {})
    feeds["segments"] = np.array(segments, np.int64).reshape(-1, 3)
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("context", "cpu")
    for name, cache in zip(("present_key", "present_value"), caches, strict=True):
        binding.bind_output(name, "cpu", 0, np.uint8, cache.shape, cache.ctypes.data)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


def expect(case, qkv, caches, segments):
    """Context [tokens, heads * dim] in double precision, over rows as they are rounded; written into `caches` too."""
    parts = np.split(qkv.astype(np.float64), np.cumsum([case.heads, case.kv_heads]) * case.dim, axis=1)
    if case.value == "key":
        parts[2] = parts[1]
    heads = case.heads, case.kv_heads, case.kv_heads

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + case.eps) * case.tables[name]

    if case.norm == "whole":
        parts[:2] = norm(parts[0], "q_norm"), norm(parts[1], "k_norm")
    if case.clip:
        parts = [np.clip(part, -case.clip, case.clip) for part in parts]
    q, k, v = (part.reshape(len(qkv), n, case.dim) for part, n in zip(parts, heads, strict=True))
    if case.norm == "head":
        q, k = norm(q, "q_norm"), norm(k, "k_norm")
    if case.value_norm:
        v = v / np.sqrt((v**2).mean(-1, keepdims=True) + case.eps)
    out, at = np.zeros(q.shape), 0
    for slot, past, new in segments:
        own, total = slice(at, at + new), past + new
        own_q, own_k = q[own], k[own]
        if case.rotary:
            place = np.arange(past, total) + (case.switch if case.switch and total > case.switch else 0)
            cos, sin = (case.tables[n][place][:, None] for n in ("cos", "sin"))
            own_q, own_k = (_rotate(x, cos, sin, case.rotary // 2) for x in (own_q, own_k))
        for cache, new_rows in zip(caches, (own_k, v[own]), strict=True):
            cache[slot, :, past:total] = write_rows(new_rows.astype(np.float32), case.kind).swapaxes(0, 1)
        keys, values = (
            read_rows(cache[slot, :, :total], case.kind, case.dim)
            .astype(np.float64)
            .repeat(case.heads // case.kv_heads, 0)
            for cache in caches
        )
        out[own] = attend(own_q * case.scale, keys, values, past, case.window, case.tables.get("sinks"))
        at += new
    return out.reshape(len(qkv), -1)


def attend(q, keys, values, past, window=0, sinks=None):
    """q [new, heads, dim], keys and values [heads, past + new, dim]: [new, heads, dim] in double precision."""
    out = np.zeros((*q.shape[:2], values.shape[-1]))
    for i, row in enumerate(q):
        end = past + i + 1
        seen = slice(max(end - window, 0) if window else 0, end)
        scores = np.einsum("hd,htd->ht", row, keys[:, seen])
        top = scores.max(-1, keepdims=True)
        if sinks is not None:
            top = np.maximum(top, sinks[:, None])
        p = np.exp(scores - top)
        total = p.sum(-1, keepdims=True) + (0 if sinks is None else np.exp(sinks[:, None] - top))
        out[i] = np.einsum("ht,htd->hd", p / total, values[:, seen])
    return out


def _rotate(x, cos, sin, half):
    a, b, rest = np.split(x, [half, 2 * half], axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)


def error(found, right):
    """Root mean square of the difference over that of what is right."""
    return float(np.sqrt(((found - right) ** 2).mean() / (right**2).mean()))
