"""What runs: today one graph of onnxruntime. It binds a timeline's tokens, mask and cache to the graph and runs it.

Whose tokens they are and what the cache holds is `session.py`. A program of several graphs would take this one's place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile
from moedge.runtime.cache import Cache
from moedge.runtime.kernels.library import open_library
from moedge.runtime.manifest import LAST_LOGITS, MODEL_NAME, ExpertPlan, Manifest
from moedge.runtime.sampling import Logits

_FIRST_MASK = 256  # tokens; it doubles as the timeline grows


class Interrupted(Exception):  # noqa: N818 - it was asked for, it is no error
    """The caller asked a run to stop; the session holds what was complete before and can go on."""


@dataclass(eq=False)
class Lane:
    """What the runs of one timeline read and write: its cache, and here its mask, its logits and its wish to stop."""

    cache: Cache
    binding: onnxruntime.IOBinding
    mask: NDArray[np.int64]  # [1, at least the tokens so far], ones
    logits: Logits  # [1, vocab], after the last token
    options: onnxruntime.RunOptions

    def interrupt(self) -> None:
        """From another thread: end the run in progress, or else the next one, with Interrupted."""
        self.options.terminate = True

    def clear_interrupt(self) -> None:
        """Forget an interruption that ended no run."""
        self.options.terminate = False


class Program:
    """One graph. Safe to share between threads as long as each has a lane of its own."""

    def __init__(self, graph: onnxruntime.InferenceSession, manifest: Manifest) -> None:
        self.cache_tensors = manifest.cache
        self.vocab_size = manifest.model.vocab_size
        self.context_length = manifest.model.context_length
        self._graph = graph

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, profile: Profile) -> "Program":
        """The graph of a bundle; MoedgeError if onnxruntime cannot load it, or if it is not the manifest's."""
        options = session_options(profile, manifest.experts.plan)
        try:
            graph = onnxruntime.InferenceSession(folder / MODEL_NAME, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise MoedgeError(f"onnxruntime {onnxruntime.__version__} cannot load {folder}: {error}") from error
        _check_names(folder, manifest, graph)
        return cls(graph, manifest)

    def open_lane(self, cache: Cache) -> Lane:
        """The way for a timeline whose rows this cache holds."""
        options = onnxruntime.RunOptions()
        # what fails is raised; logged too, each interruption inside an `If` would be an error on the terminal
        options.log_severity_level = 4
        logits = np.empty((1, self.vocab_size), np.float32)
        mask = np.ones((1, min(_FIRST_MASK, self.context_length)), np.int64)
        return Lane(cache, self._bind(logits), mask, logits, options)

    def run(self, lane: Lane, token_ids: Sequence[int], past: int, logits: NDArray[np.float32] | None = None) -> None:
        """Run tokens after the `past` ones of a lane: their rows go to its cache, the last one's logits to the lane.

        `logits` [n, vocab] takes those of the last n tokens instead. Raises Interrupted if the lane was.
        """
        total = past + len(token_ids)
        if total > lane.mask.shape[1]:
            lane.mask = np.ones((1, min(2 * total, self.context_length)), np.int64)
        binding = lane.binding if logits is None else self._bind(logits)
        binding.bind_cpu_input("input_ids", np.array([token_ids], np.int64))  # [1, s]
        binding.bind_cpu_input("attention_mask", lane.mask[:, :total])  # [1, t + s]
        lane.cache.bind(binding, past, len(token_ids))
        if logits is not None:  # bound by address: onnxruntime finds no overridable initializer by value
            keep = np.array(len(logits), np.int64)
            binding.bind_input("logits_to_keep", "cpu", 0, np.int64, (), keep.ctypes.data)
        try:
            self._graph.run_with_iobinding(binding, lane.options)
        except Exception:
            if not lane.options.terminate:
                raise
            lane.clear_interrupt()
            raise Interrupted from None

    def _bind(self, logits: NDArray[np.float32]) -> onnxruntime.IOBinding:
        """What stays bound from step to step."""
        binding = self._graph.io_binding()
        binding.bind_output("logits", "cpu", 0, np.float32, (1, *logits.shape), logits.ctypes.data)
        return binding


def session_options(profile: Profile, plan: ExpertPlan) -> onnxruntime.SessionOptions:
    """How onnxruntime runs a graph of that plan on this device; MoedgeError if it needs a library that is not here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = profile.intra_op_threads
    options.inter_op_num_threads = 1
    # a memory pattern is stored for every combination of shapes: with a growing cache that is one a step, forever
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(profile.allow_spinning)))
    options.log_severity_level = 3
    if plan == "native":
        options.register_custom_ops_library(str(open_library().path))
    return options


def _check_names(folder: Path, manifest: Manifest, graph: onnxruntime.InferenceSession) -> None:
    """The graph must take and give what docs/graph.md says."""
    inputs = {node.name for node in graph.get_inputs()}
    outputs = {node.name for node in graph.get_outputs()} - {LAST_LOGITS}
    optional = {node.name for node in graph.get_overridable_initializers()}
    missing = [
        *sorted({"input_ids", "attention_mask", *(tensor.past for tensor in manifest.cache)} ^ inputs),
        *sorted({"logits", *(tensor.present for tensor in manifest.cache)} ^ outputs),
        *sorted({"logits_to_keep"} - optional),
    ]
    if missing:
        names = ", ".join(missing[:5])
        raise MoedgeError(f"{folder / MODEL_NAME} and its manifest disagree about {names}: export the bundle again.")
