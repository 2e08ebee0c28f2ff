"""The stages that measure moedge's own operators, and with them the settings that threads are run with."""

from dataclasses import replace

from moedge.devices.memory import return_freed_memory
from moedge.runtime.bench.bandwidth import TIMES_CACHES, last_cache_bytes
from moedge.runtime.kernels.library import Library
from moedge.runtime.profiling.attention_rates import AttentionRates, measure_attention
from moedge.runtime.profiling.choosing_settings import (
    NeighbourTime,
    effort_of,
    not_judged,
    try_affinity,
    try_awake,
    try_threads,
)
from moedge.runtime.profiling.company import BUSY, Company
from moedge.runtime.profiling.course import MODEL_SHARE, NATIVE_STAGES, RESERVE, SECONDS, Course, weights_memory
from moedge.runtime.profiling.layer_rates import LayerRates, measure_layers
from moedge.runtime.profiling.probe_graphs import LayerShape
from moedge.runtime.profiling.probe_runs import LayersProbe, open_layers
from moedge.runtime.profiling.setting_trials import SettingTrial

THIN_LAYERS = 32
LEAST_BYTES = 256 << 20  # of the weights of all wide layers, where memory allows
TRIAL_SECONDS = 3.0  # with less, no setting is tried
CAPACITY = 1024  # tokens, of the layers' caches


def measure_native(
    course: Course,
) -> tuple[LayerRates | None, AttentionRates | None, list[SettingTrial], tuple[NeighbourTime, ...]]:
    """moedge's own operators, and the settings that they are run with."""
    library, usual, chunk = course.library, course.usual, min(course.usual.prefill_chunk, 512)
    if library is None:
        for _ in range(NATIVE_STAGES):
            course.on_step("moedge's own operators are missing")
        return None, None, [], ()
    memory = weights_memory()
    course.on_step("weights of layers")
    wide, thin = _open_layers(course, library, memory)
    course.on_step("layers")
    layers = course.heat.steady("layers", lambda: measure_layers(wide, thin, chunk, course.seconds(3.5, 14)))
    course.on_step("attention")
    attention = course.heat.steady(
        "attention",
        lambda: measure_attention(usual, library, course.drawing, memory // 3, chunk, course.seconds(1.5, 8)),
    )
    if course.request.quick and course.request.bundle is not None:
        course.left_out.append("other settings: not tried with --quick and a bundle")
        for _ in range(3):
            course.on_step("settings stay")
        return layers, attention, [], ()
    kept = RESERVE * course.budget.seconds + (MODEL_SHARE * SECONDS if course.request.bundle else 0)
    effort = effort_of(course.request.quick, lambda: course.budget.share(course.budget.seconds, kept))
    if effort.seconds_left() < TRIAL_SECONDS:
        course.left_out.append("other settings: no time was left to try them")
        for _ in range(3):
            course.on_step("settings stay")
        return layers, attention, [], ()
    trials, company = list[SettingTrial](), Company()
    course.on_step("numbers of threads")
    trials += try_threads(wide, usual, course.machine, library, effort)
    course.on_step("cores")
    trials += try_affinity(wide, usual, course.machine, effort)
    others = company.cores()
    course.on_step("waiting awake, beside a busy neighbour too")
    awake, neighbour = try_awake(wide, usual, effort)
    course.heat.look("settings", loaded=True)
    trials += awake
    if others > BUSY:
        trials = not_judged(trials, others)
    return_freed_memory()
    return layers, attention, trials, neighbour


def _open_layers(course: Course, library: Library, memory: int) -> tuple[LayersProbe, LayersProbe]:
    """As many layers as it takes to be more than the CPU's caches hold; fewer experts where memory is short."""
    shape = LayerShape()
    experts = shape.experts
    while experts > 2 * shape.top_k and shape.dense_bytes + experts * shape.expert_bytes > memory:
        experts //= 2
    shape = replace(shape, experts=experts)
    one = shape.dense_bytes + experts * shape.expert_bytes
    wanted = min(memory, max(LEAST_BYTES, TIMES_CACHES * last_cache_bytes()))
    given = course.usual, library, course.drawing
    return open_layers(shape, max(1, wanted // one), CAPACITY, *given), open_layers(shape.thin, THIN_LAYERS, 64, *given)
