"""Sessions of the graphs that are measured, opened as `program.py` opens a bundle's, and timed."""

import gc
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.profile import Profile
from moedge.runtime.kernels.library import Library
from moedge.runtime.profiling.drawn_weights import Bytes, Drawing, Floats
from moedge.runtime.profiling.probe_graphs import LayerShape, layers_graph
from moedge.runtime.profiling.written_graphs import PLACE, WrittenGraph
from moedge.runtime.program import session_options


@dataclass(eq=False)
class Probe:
    """An open graph and the arrays that it reads."""

    session: onnxruntime.InferenceSession
    kept: list[Any]  # onnxruntime's handles of the constants
    library: Library | None

    def seconds(self, feeds: dict[str, Any]) -> tuple[float, NDArray[Any]]:
        """Of one run, and its first output."""
        name = self.session.get_outputs()[0].name
        begun = time.perf_counter()
        [out] = self.session.run([name], feeds)
        return time.perf_counter() - begun, out


def open_probe(graph: WrittenGraph, profile: Profile, library: Library | None, optimized: bool = True) -> Probe:
    """A session whose kernels share as many threads as the profile says."""
    options = session_options(profile, library)
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    kept = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.constants.values()]
    for name, value in zip(graph.constants, kept, strict=True):
        options.add_initializer(name, value)  # read where it lies; onnxruntime's other ways to give one copy it
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(PLACE.parent))
    with library.lent(profile.threads, profile.awake_us) if library else nullcontext():
        session = onnxruntime.InferenceSession(graph.to_bytes(), options, providers=["CPUExecutionProvider"])
    return Probe(session, kept, library)


@dataclass(eq=False)
class LayersProbe:
    """Decoder layers with caches, run like a model's steps; new activations in every run."""

    shape: LayerShape
    count: int
    graph: WrittenGraph
    probe: Probe
    caches: list[Bytes]  # keys and values of layer 0, of layer 1, …: [1, kv_heads, capacity, row bytes]
    rng: np.random.Generator

    def seconds(self, tokens: int, past: int = 0, x: Floats | None = None) -> tuple[float, NDArray[Any]]:
        """Of running `tokens` after `past` others, and what came out."""
        rows = self.rng.standard_normal((tokens, self.shape.hidden), np.float32) if x is None else x
        binding = self.probe.session.io_binding()
        binding.bind_cpu_input("x", rows)
        binding.bind_cpu_input("segments", np.array([[0, past, tokens]], np.int64))
        binding.bind_output("out", "cpu")
        bind_caches(binding, self.caches)
        begun = time.perf_counter()
        self.probe.session.run_with_iobinding(binding)
        taken = time.perf_counter() - begun
        return taken, binding.get_outputs()[0].numpy()

    def like(self, profile: Profile) -> "LayersProbe":
        """The same weights under another profile."""
        probe = open_probe(self.graph, profile, self.probe.library)
        return LayersProbe(self.shape, self.count, self.graph, probe, self.caches, self.rng)


def open_layers(
    shape: LayerShape, count: int, capacity: int, profile: Profile, library: Library, drawing: Drawing
) -> LayersProbe:
    """Draws the weights and opens the session."""
    graph = layers_graph(shape, count, drawing)
    rows = (1, shape.kv_heads, capacity, 2 * shape.dim)
    caches = [drawing.halves(rows) for _ in range(2 * count)]
    probe = open_probe(graph, profile, library)
    return LayersProbe(shape, count, graph, probe, caches, np.random.default_rng(0))


def bind_caches(binding: onnxruntime.IOBinding, caches: list[Bytes]) -> None:
    """Keys and values in turn, each an input and the output over the same memory."""
    for at, cache in enumerate(caches):
        name = f"{('key', 'value')[at % 2]}{at // 2}"
        binding.bind_cpu_input(name, cache)
        binding.bind_output(f"present_{name}", "cpu", 0, np.uint8, cache.shape, cache.ctypes.data)


def forget() -> None:
    """Give memory of closed probes back before the next ones are made."""
    gc.collect()
