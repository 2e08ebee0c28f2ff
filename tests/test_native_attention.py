"""The node Attention of every family against the twin's plain operators: one layer's attention, in pieces, by a cache.

Products are exact here as they are before the first router, and so is attention where it is said to be.
"""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import tiny_families
import tiny_models as tiny
from native import needs_kernels
from segments import RECIPE

from moedge.export.checkpoint.folder import Checkpoint
from moedge.export.graph.arithmetic import FLOAT
from moedge.export.graph.block import Block
from moedge.export.graph.builder import Builder
from moedge.export.graph.mixers import mix
from moedge.export.graph.native import NativeLowering
from moedge.export.graph.saving import save_graph
from moedge.export.graph.standard import StandardLowering
from moedge.export.model.config import GroupedQuery
from moedge.export.options import ExportOptions
from moedge.export.schemes import parse_plan
from moedge.export.understanding import understand
from moedge.export.writing.journal import Journal
from moedge.export.writing.weights_file import WeightsFile
from moedge.quant.rounding import NEAREST
from moedge.runtime.cache import Cache
from moedge.runtime.feed import MaskFeed, Segment, SegmentFeed
from moedge.runtime.kernels.library import open_library
from moedge.runtime.manifest import CacheTensor

CONTEXT, SCHEMES = 96, parse_plan("int8")
KINDS = {"if": (StandardLowering, MaskFeed), "native": (NativeLowering, SegmentFeed)}
PIECES = (1, 7, 30, 1, 1, 13, 2)


class Mixers:
    """The mixer of each layer of a checkpoint as a graph of its own, in a plan."""

    def __init__(self, config, folder):
        tiny.save_checkpoint(config, folder / "checkpoint", 0)
        self.opened, self.folder = ExitStack(), folder
        self.source = self.opened.enter_context(Checkpoint(folder / "checkpoint"))
        self.model = understand(self.source, ExportOptions(SCHEMES)).model

    def layers(self):
        """One of each kind of grouped-query attention."""
        mixers = self.model.mixers
        return [n for n, m in enumerate(mixers) if isinstance(m, GroupedQuery) and m not in mixers[:n]]

    def open(self, layer, plan, exact=True):
        """What begins a timeline, a function from the next hidden states [s, hidden] to what the mixer gives."""
        lower, feed = KINDS[plan]
        folder = self.folder / f"{plan}-{layer}-{exact}"
        folder.mkdir()
        with Journal(folder, RECIPE, False, True) as journal, WeightsFile(folder, journal) as weights:
            low = lower(Builder(weights), SCHEMES, NEAREST, [])
            low.exact_activations = exact
            shape = ir.Shape([1, "sequence_length", self.model.hidden_size])
            x = ir.Value(name="hidden_states", type=FLOAT, shape=shape)
            inputs = [x, *low.graph_inputs.open(low.builder, False, False)]
            where = low.positions(x, self.model.mixers[layer : layer + 1], CONTEXT)
            rows = low.builder.op("Squeeze", x, low.builder.ints(0))
            out = mix(Block(low, self.source, self.model, layer), rows, where)
            out.type, out.shape = FLOAT, ir.Shape(["sequence_length", self.model.hidden_size])
            ports = low.cache
            graph = low.builder.graph([*inputs, *(p.past for p in ports)], [out, *(p.present for p in ports)], "mixer")
        save_graph(graph, folder / "model.onnx")
        options = onnxruntime.SessionOptions()
        if plan == "native":
            options.register_custom_ops_library(str(open_library().path))
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        tensors = tuple(port.tensor for port in ports)

        def begin(wish="float32", free=False):
            """With `free`, also what is exact holds the numbers wished for."""
            held = tuple(replace(t, exact=t.exact and not free) for t in tensors)
            return Timeline(session, held, feed(CONTEXT), wish)

        return begin


class Timeline:
    """Runs of a mixer, one after the other."""

    def __init__(self, session, tensors, feed, wish):
        self.session, self.feed, self.length = session, feed, 0
        self.cache, self.binding = Cache(tensors, CONTEXT, wish), session.io_binding()
        self.names = {node.name for node in session.get_inputs()}

    def __call__(self, x):
        out = np.empty_like(x)
        self.feed.bind(Some(self.binding, self.names), [Segment(0, self.length, [0] * len(x), 1)])
        self.cache.bind(self.binding, self.length, len(x))
        self.binding.bind_cpu_input("hidden_states", x[None])
        name = self.session.get_outputs()[0].name
        self.binding.bind_output(name, "cpu", 0, np.float32, out.shape, out.ctypes.data)
        self.session.run_with_iobinding(self.binding)
        self.length += len(x)
        return out


class Some:
    """A binding of those inputs that a graph has."""

    def __init__(self, binding, names):
        self.binding, self.names = binding, names

    def bind_input(self, name, *rest):
        if name in self.names:
            self.binding.bind_input(name, *rest)

    def bind_cpu_input(self, name, array):
        if name in self.names:
            self.binding.bind_cpu_input(name, array)


def in_pieces(timeline, x):
    ends = np.cumsum(PIECES)[:-1]
    return np.concatenate([timeline(piece) for piece in np.split(x, ends)])


def states(model):
    return np.random.default_rng(1).standard_normal((sum(PIECES), model.hidden_size)).astype(np.float32)


LATENT = ("deepseek", "kimi", "glm4_moe_lite", "bailing_hybrid")
ATTENDING = [name for name in tiny_families.SHAPES if not name.startswith(LATENT)]


@needs_kernels
@pytest.mark.parametrize("shape", ATTENDING)
def test_one_node_equals_the_plain_operators(shape, tmp_path):
    mixers = Mixers(tiny_families.SHAPES[shape], tmp_path)
    x = states(mixers.model)
    assert mixers.layers()
    for layer in mixers.layers():
        exact, found = (in_pieces(mixers.open(layer, plan)(), x) for plan in ("if", "native"))
        assert np.abs(found - exact).max() < 2e-5 * np.abs(exact).max()


@needs_kernels
def test_longrope_switches_with_the_length(tmp_path):
    rope = tiny_families.LONGROPE | {"original_max_position_embeddings": 24}
    mixers = Mixers(tiny_families.small("phimoe", rope_parameters=rope), tmp_path)
    assert mixers.model.mixers[0].rope.switches(CONTEXT) == 24
    x = states(mixers.model)
    exact, found = (in_pieces(mixers.open(0, plan)(), x) for plan in ("if", "native"))
    assert np.abs(found - exact).max() < 2e-5 * np.abs(exact).max()


@needs_kernels
@pytest.mark.parametrize(
    ("wish", "least", "most"), [("float32", 0, 2e-5), ("float16", 2e-5, 1e-3), ("int8", 1e-3, 2e-2)]
)
@pytest.mark.parametrize("shape", ["gpt_oss", "olmoe-clip", "mixtral-window"])
def test_what_a_cache_holds_costs_so_much_and_exact_ones_hold_fp32(shape, wish, least, most, tmp_path):
    mixers = Mixers(tiny_families.SHAPES[shape], tmp_path)
    x = states(mixers.model)
    twin, native = (mixers.open(0, plan) for plan in ("if", "native"))
    exact = in_pieces(twin(), x)
    for free, low, high in ((False, 0, 2e-5), (True, least, most)):
        error = np.abs(in_pieces(native(wish, free), x) - exact).max() / np.abs(exact).max()
        assert low <= error < high


@needs_kernels
def test_caches_are_exact_up_to_the_first_router_and_windows_are_told(tmp_path):
    mixers = Mixers(tiny_families.SHAPES["gpt_oss"], tmp_path)
    sliding, full = mixers.layers()
    for layer, exact, window in ((sliding, True, 12), (full, False, 0)):
        tensors = mixers.open(layer, "native", exact)().cache._tensors
        names = [(f"past_key_values.{layer}.{n}", f"present.{layer}.{n}") for n in ("key", "value")]
        assert tensors == tuple(CacheTensor(*n, "native", (2, 32), window, exact) for n in names)
