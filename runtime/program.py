"""What runs: today one graph of onnxruntime. It binds a timeline's tokens, cache and logits to the graph and runs it.

What the graph is told of a run is `feed.py`'s, whose tokens they are and what the cache holds `session.py`'s. A program
of several graphs would take this one's place.
"""

import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile
from moedge.runtime.cache import Arena, Cache
from moedge.runtime.device_plan import work_of
from moedge.runtime.distribution import Logits
from moedge.runtime.expert_counts import ExpertCounts, expert_counts_of
from moedge.runtime.feed import Feed, MaskFeed, Segment, SegmentFeed, StatesFeed
from moedge.runtime.kernels.library import Library, open_library
from moedge.runtime.manifest import LAST_LOGITS, MODEL_NAME, ExpertPlan, Manifest
from moedge.runtime.pace import Pace, unit_of


class Interrupted(Exception):  # noqa: N818 - it was asked for, it is no error
    """The caller asked a run to stop; the session holds what was complete before and can go on."""


@dataclass(eq=False)
class Way:
    """What runs of one kind are given anew each time, and the wish to stop them."""

    binding: onnxruntime.IOBinding
    feed: Feed
    options: onnxruntime.RunOptions

    def interrupt(self) -> None:
        """From another thread: end the run in progress, or else the next one, with Interrupted."""
        self.options.terminate = True

    def interrupted(self) -> bool:
        """Whether an interruption has ended no run yet."""
        return bool(self.options.terminate)

    def clear_interrupt(self) -> None:
        """Forget an interruption that ended no run."""
        self.options.terminate = False


@dataclass(eq=False)
class Lane(Way):
    """What the runs of one timeline read and write: its cache and its logits."""

    cache: Cache
    logits: Logits  # [1, vocab], after the last token


@dataclass(eq=False)
class Road(Way):
    """What the runs of several timelines at once read and write, all of one arena; the logits are given at each."""

    arena: Arena | None = None  # that is bound
    logits: NDArray[np.float32] | None = None  # [n, vocab], likewise


class Program:
    """One graph. Safe to share between threads as long as each has a lane of its own."""

    def __init__(
        self,
        graph: onnxruntime.InferenceSession,
        manifest: Manifest,
        profile: Profile,
        slots: int = 1,
        library: Library | None = None,
        expert_counts: ExpertCounts | None = None,
    ) -> None:
        """`slots`: how many timelines share an arena, where there are several; `library` is that of its operators."""
        self.library = library
        self.expert_counts = expert_counts
        self.vocab_size = manifest.model.vocab_size
        self.context_length = manifest.model.context_length
        # its operators are all told of segments, and it has no cache of another layout
        self.batches = manifest.experts.plan == "native"
        self.rotary_switch = manifest.model.rotary_switch
        self._graph = graph
        self._cache_tensors = manifest.cache
        self._cache_type = profile.cache_type
        work = work_of(manifest, profile) if self.batches else None
        seconds = profile.prefill_chunk_ms / 1e3
        latent = any(tensor.past.endswith(".latent") for tensor in manifest.cache)
        self.cut_unit = 1 if work is None else unit_of(work, profile.rates, seconds, latent)
        # how prompts are cut beside others; None where cuts change what they give
        self.pace = None if work is None else Pace(work, profile.rates, seconds)
        self._threads = profile.prefill_threads, profile.decode_threads
        self._feed = _feed_of(manifest)
        self._slots = slots if self.batches else 1
        self._arenas = weakref.WeakSet[Arena]()  # each lives as long as a cache in it
        self._opening = Lock()

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, profile: Profile, slots: int = 1) -> "Program":
        """The graph of a bundle; MoedgeError if onnxruntime cannot load it, or if it is not the manifest's."""
        library = library_of(manifest.experts.plan)
        options = session_options(profile, library)
        counts = expert_counts_of(manifest, library)
        try:
            lent = library.lent(profile.threads, profile.awake_us) if library else nullcontext()
            with lent, counts.kept() if counts else nullcontext():
                graph = onnxruntime.InferenceSession(folder / MODEL_NAME, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise MoedgeError(f"onnxruntime {onnxruntime.__version__} cannot load {folder}: {error}") from error
        _check_names(folder, manifest, graph)
        return cls(graph, manifest, profile, slots, library, counts)

    def open_cache(self) -> Cache:
        """An empty cache for a timeline, in an arena that has a slot or in a new one; NoRoom if there is no memory."""
        with self._opening:
            shape = self._cache_tensors, self.context_length, self._cache_type
            arena = next((arena for arena in self._arenas if arena.free), None) or Arena(*shape, self._slots)
            self._arenas.add(arena)
            return Cache(*shape, arena)

    def open_lane(self, cache: Cache) -> Lane:
        """The way for a timeline whose rows this cache holds."""
        logits = np.empty((1, self.vocab_size), np.float32)
        return Lane(self._bind(logits), self._feed(self.context_length), _run_options(), cache, logits)

    def open_road(self) -> Road:
        """The way for several timelines at once, where the program `batches`; for one thread."""
        return Road(self._graph.io_binding(), self._feed(self.context_length), _run_options())

    def run(self, lane: Lane, token_ids: Sequence[int], past: int, logits: NDArray[np.float32] | None = None) -> None:
        """Run tokens after the `past` ones of a lane: their rows go to its cache, the last one's logits to the lane.

        `logits` [n, vocab] takes those of the last n tokens instead. Raises Interrupted if the lane was.
        """
        binding = lane.binding if logits is None else self._bind(logits)
        wanted = 1 if logits is None else len(logits)
        segment = Segment(lane.cache.slot, past, token_ids, wanted, lane.cache.turn(past, len(token_ids)))
        lane.feed.bind(binding, [segment])
        lane.cache.bind(binding, past, len(token_ids))
        self._run(binding, lane, len(token_ids) == 1)

    def run_segments(self, road: Road, arena: Arena, segments: Sequence[Segment], logits: NDArray[np.float32]) -> None:
        """Run tokens of several slots of an arena at once; `logits` [n, vocab] takes those that the segments want.

        Raises Interrupted if the road was.
        """
        if road.arena is not arena:
            arena.bind(road.binding)
            road.arena = arena  # whose memory stays as long as it is bound
        if road.logits is None or (road.logits.shape, road.logits.ctypes.data) != (logits.shape, logits.ctypes.data):
            _bind_logits(road.binding, logits)
            road.logits = logits
        road.feed.bind(road.binding, segments)
        self._run(road.binding, road, all(len(segment.token_ids) == 1 for segment in segments))

    def _run(self, binding: onnxruntime.IOBinding, way: Way, decodes: bool) -> None:
        if self.library is not None and self._threads[0] != self._threads[1]:
            self.library.limit(self._threads[decodes])
        try:
            self._graph.run_with_iobinding(binding, way.options)
        except Exception:
            if not way.options.terminate:
                raise
            way.clear_interrupt()
            raise Interrupted from None

    def _bind(self, logits: NDArray[np.float32]) -> onnxruntime.IOBinding:
        """What stays bound from step to step."""
        binding = self._graph.io_binding()
        _bind_logits(binding, logits)
        return binding


def _bind_logits(binding: onnxruntime.IOBinding, logits: NDArray[np.float32]) -> None:
    binding.bind_output("logits", "cpu", 0, np.float32, (1, *logits.shape), logits.ctypes.data)


def _run_options() -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    # what fails is raised; logged too, each interruption inside an `If` would be an error on the terminal
    options.log_severity_level = 4
    # stated, as it is where unstated: onnxruntime's Python asks for it at each run, and an exception inside of it
    # takes a twelfth of a millisecond
    options.add_run_config_entry("gpu_graph_id", "0")
    return options


def library_of(plan: ExpertPlan) -> Library | None:
    """The kernels that graphs of that plan need, None for onnxruntime's own; MoedgeError if they are not here."""
    return open_library() if plan == "native" else None


def session_options(profile: Profile, library: Library | None) -> onnxruntime.SessionOptions:
    """How onnxruntime runs a graph on this device, with the operators of a library."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = profile.threads
    options.inter_op_num_threads = 1
    # a memory pattern is stored for every combination of shapes: with a growing cache that is one a step, forever
    options.enable_mem_pattern = False
    # its threads would wait in a loop after requests too, and let a busy neighbour halve the rate
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(str(library.path))
    return options


def _feed_of(manifest: Manifest) -> type[Feed]:
    """What the graphs of a bundle's plan are told."""
    if manifest.experts.plan != "native":
        return MaskFeed
    return StatesFeed if any(tensor.is_state for tensor in manifest.cache) else SegmentFeed


def _check_names(folder: Path, manifest: Manifest, graph: onnxruntime.InferenceSession) -> None:
    """The graph must take and give what docs/graph.md says."""
    inputs = {node.name for node in graph.get_inputs()}
    outputs = {node.name for node in graph.get_outputs()} - {LAST_LOGITS}
    optional = {node.name for node in graph.get_overridable_initializers()}
    feed = _feed_of(manifest)
    missing = [
        *sorted({*feed.names, *(tensor.past for tensor in manifest.cache)} ^ inputs),
        *sorted({"logits", *(tensor.present for tensor in manifest.cache)} ^ outputs),
        *sorted(feed.optional - optional),
    ]
    if missing:
        names = ", ".join(missing[:5])
        raise MoedgeError(f"{folder / MODEL_NAME} and its manifest disagree about {names}: export the bundle again.")
