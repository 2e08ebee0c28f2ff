"""One LatentAttention or ShortConvolution node: what it is given, and the same in double precision with numpy."""

from dataclasses import dataclass, field

import numpy as np
import onnxruntime
from attention_cases import attend, read_rows, write_rows
from kernel_graphs import INT4, format_of
from onnx import TensorProto, helper, numpy_helper

from moedge.quant.blocks import dequantize, quantize
from moedge.quant.tiles import tile
from moedge.runtime.kernels.library import find_library

FLOAT, BYTES, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


def open_node(kind, given, constants, outputs, attributes, threads):
    """A session of one node; inputs are `given` (name to element type), then constants, of which None is absent."""
    names = [*given, *(name if array is not None else "" for name, array in constants.items())]
    while not names[-1]:
        names.pop()
    node = helper.make_node(kind, names, list(outputs), domain="moedge", **attributes)
    inputs = [helper.make_tensor_value_info(name, of, None) for name, of in given.items()]
    outs = [helper.make_tensor_value_info(name, of, None) for name, of in outputs.items()]
    values = [numpy_helper.from_array(array, name) for name, array in constants.items() if array is not None]
    graph = helper.make_graph([node], "one", inputs, outs, values)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("moedge", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(find_library()))
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_node(session, feeds, segments, cache):
    """Its first output; new rows are written into `cache`."""
    binding = session.io_binding()
    for name, array in (feeds | {"past": cache, "segments": np.array(segments, np.int64).reshape(-1, 3)}).items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("out", "cpu")
    binding.bind_output("present", "cpu", 0, np.uint8, cache.shape, cache.ctypes.data)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


@dataclass(frozen=True)
class Latent:
    """A LatentAttention node's attributes, its cache's sizes and kv_b's scheme; None: fp32."""

    heads: int = 4
    nope: int = 32
    rope: int = 16
    v: int = 32
    rank: int = 64
    switch: int = 0
    activation_bits: int = 8
    kind: str = "float32"
    slots: int = 3
    capacity: int = 64
    scheme: object = INT4
    seed: int = 0
    scale: float = 0.15
    eps: float = 1e-5
    tables: dict[str, np.ndarray] = field(init=False, repr=False, compare=False)
    weights: np.ndarray = field(init=False, repr=False, compare=False)  # fp32 [heads, nope + v, rank]

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        angles = rng.random((self.capacity + self.switch, self.rope // 2)) * 6
        made = {"cos": np.cos(angles), "sin": np.sin(angles), "norm": rng.random(self.rank) + 0.5}
        made = {name: array.astype(np.float32) for name, array in made.items()}
        rows = self.heads * (self.nope + self.v)
        plain = (rng.standard_normal((rows, self.rank)) / self.rank**0.5).astype(np.float32)
        if self.scheme is None:
            made |= {"tiles": None, "plain": plain}
        else:
            codes = quantize(plain, self.scheme)
            made["tiles"], plain = tile(codes, self.scheme), dequantize(codes)
        object.__setattr__(self, "tables", made)
        object.__setattr__(self, "weights", plain.reshape(self.heads, self.nope + self.v, self.rank))

    def given(self, tokens, seed=1):
        """Queries and latent rows of new tokens."""
        rng = np.random.default_rng(seed)
        shapes = (tokens, self.heads * (self.nope + self.rope)), (tokens, self.rank + self.rope)
        return {n: rng.standard_normal(s).astype(np.float32) for n, s in zip(("q", "row"), shapes, strict=True)}

    def cache(self, seed=2):
        """Rows of made-up tokens."""
        shape = self.slots, 1, self.capacity, self.rank + self.rope
        return write_rows(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), self.kind)

    def open(self, threads=1, **others):
        """A session of the node."""
        told = {n: getattr(self, n) for n in ("heads", "nope", "rope", "v", "rank", "switch", "scale", "eps")}
        told |= {"activation_bits": self.activation_bits, "layer": 0}
        told |= {"bits": 32} if self.scheme is None else format_of(self.scheme)
        given = {"q": FLOAT, "row": FLOAT, "past": BYTES, "segments": INT64}
        return open_node(
            "LatentAttention", given, self.tables, {"out": FLOAT, "present": BYTES}, told | others, threads
        )

    def expect(self, given, cache, segments):
        """The result in double precision, over rows as they are rounded; written into `cache` too."""
        tokens = len(given["q"])
        q = given["q"].astype(np.float64).reshape(tokens, self.heads, self.nope + self.rope)
        row = given["row"].astype(np.float64)
        c = row[:, : self.rank]
        c = c / np.sqrt((c**2).mean(-1, keepdims=True) + self.eps) * self.tables["norm"]
        weights = self.weights.astype(np.float64)
        out, at = np.zeros((tokens, self.heads, self.v)), 0
        for slot, past, new in segments:
            rows, total = slice(at, at + new), past + new
            place = np.arange(past, total) + (self.switch if self.switch and total > self.switch else 0)
            cos, sin = (self.tables[n][place] for n in ("cos", "sin"))
            k_rot = _rotate(row[rows, self.rank :], cos, sin)
            whole = np.concatenate([c[rows], k_rot], axis=1).astype(np.float32)
            cache[slot, 0, past:total] = write_rows(whole, self.kind)
            seen = read_rows(cache[slot, 0, :total], self.kind, self.rank + self.rope).astype(np.float64)
            up = np.einsum("hnr,tr->htn", weights, seen[:, : self.rank])
            shared = np.broadcast_to(seen[:, self.rank :], (self.heads, total, self.rope))
            keys = np.concatenate([up[..., : self.nope], shared], axis=-1)
            turned = _rotate(q[rows, :, self.nope :], cos[:, None], sin[:, None])
            queries = np.concatenate([q[rows, :, : self.nope], turned], axis=-1) * self.scale
            out[rows] = attend(queries, keys, up[..., self.nope :], past)
            at += new
        return out.reshape(tokens, -1)


def _rotate(x, cos, sin):
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


@dataclass(frozen=True)
class Convolution:
    """A ShortConvolution node, and its cache's sizes."""

    hidden: int = 48
    kernel: int = 3
    bias: bool = False
    slots: int = 3
    capacity: int = 64
    seed: int = 0

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        made = {"taps": rng.standard_normal((self.kernel, self.hidden)).astype(np.float32)}
        made["bias"] = rng.standard_normal(self.hidden).astype(np.float32) if self.bias else None
        object.__setattr__(self, "tables", made)

    def given(self, tokens, seed=1):
        """The joined projections of new tokens."""
        rng = np.random.default_rng(seed)
        return {"joined": rng.standard_normal((tokens, 3 * self.hidden)).astype(np.float32)}

    def cache(self):
        """Rows that hold garbage wherever no token was."""
        return write_rows(np.full((self.slots, 1, self.capacity, self.hidden), np.nan, np.float32), "float32")

    def open(self, threads=1, **others):
        """A session of the node."""
        told = {"hidden": self.hidden, "kernel": self.kernel, "layer": 0} | others
        given = {"joined": FLOAT, "past": BYTES, "segments": INT64}
        return open_node("ShortConvolution", given, self.tables, {"out": FLOAT, "present": BYTES}, told, threads)

    def expect(self, joined):
        """Of one timeline from its first token on, in double precision."""
        before, after, value = np.split(joined.astype(np.float64), 3, axis=1)
        rows = np.concatenate([np.zeros((self.kernel - 1, self.hidden)), before * value])
        total = sum(rows[j : j + len(joined)] * self.tables["taps"][j] for j in range(self.kernel))
        return after * (total + (self.tables["bias"] if self.bias else 0))
