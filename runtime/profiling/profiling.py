"""One run of `moedge profile` from beginning to end, within its time: the machine first, then a bundle if there is one.

What is measured, and how, is in the files beside this one; here is the order, and how long each may take.
"""

import platform
from dataclasses import replace
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

from moedge.devices.detect import Machine
from moedge.devices.errors import MoedgeError
from moedge.devices.memory import detect_memory, return_freed_memory
from moedge.devices.profile import Profile
from moedge.runtime.bench.bandwidth import PASSES, choose_buffer, last_cache_bytes, measure_bandwidth
from moedge.runtime.bench.bench_rounds import OnStep
from moedge.runtime.kernels.library import Library, open_library
from moedge.runtime.profiling.choosing_settings import apply
from moedge.runtime.profiling.company import Company
from moedge.runtime.profiling.course import RESERVE, Course, Request, weights_memory
from moedge.runtime.profiling.drawn_weights import Drawing
from moedge.runtime.profiling.energy import Energy, measure_idle
from moedge.runtime.profiling.expert_usage import ExpertUsage, measure_usage
from moedge.runtime.profiling.findings import Findings, ThreadBandwidth
from moedge.runtime.profiling.heat import HeatWatch
from moedge.runtime.profiling.layer_rates import measure_between_steps
from moedge.runtime.profiling.measured_profile import measured_profile
from moedge.runtime.profiling.model_rates import ModelRates, measure_energy, measure_model, open_model, question_for
from moedge.runtime.profiling.native_stages import measure_native
from moedge.runtime.profiling.operator_times import OperatorTimes, measure_operators
from moedge.runtime.profiling.power_readers import JouleReader, WattReader, find_reader
from moedge.runtime.profiling.probe_graphs import LayerShape
from moedge.runtime.profiling.stock_rates import (
    OperatorRate,
    StockRates,
    measure_experts,
    measure_overhead,
    measure_products,
)
from moedge.runtime.profiling.storage_rates import StorageRates, measure_storage
from moedge.runtime.profiling.timing import Measured, TimeBudget

LEAST_SECONDS = 2.0  # with less, a model's operators are not measured
PACKAGES = ("moedge", "onnxruntime", "numpy")


def run_profile(request: Request, usual: Profile, machine: Machine, budget: TimeBudget, on_step: OnStep) -> Findings:
    """Measure; `usual` is what `auto` says of this machine. MoedgeError if the bundle cannot be loaded."""
    heat = HeatWatch(longest_wait=0.15 * budget.seconds)
    course = Course(request, usual, machine, budget, on_step, None, Drawing(usual.cores), heat)
    on_step("what is there")
    course.library = _library(course)
    reader, why = find_reader()
    idle = None if reader is None else measure_idle(reader)
    heat.look("before")
    company = Company()
    storage = _storage(course)
    bandwidth = _bandwidth(course)
    stock = _stock(course)
    layers, attention, trials, neighbour = measure_native(course)
    on_step("between two steps")
    between = measure_between_steps(course.library, course.drawing, course.seconds(0.3, 1))
    settings = apply(usual, trials)
    findings = Findings(
        date=date.today().isoformat(),
        versions={name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        machine=machine,
        kernels=course.library.isa if course.library else "",
        usual=usual,
        settings=settings,
        bandwidth=bandwidth,
        storage=storage,
        stock=stock,
        layers=layers,
        attention=attention,
        between_steps=between,
        trials=tuple(trials),
        neighbour=neighbour,
        heat=(),
        discarded=(),
        energy=None,
        model=None,
        operators=None,
        usage=None,
        others=company.cores(),
        seconds=0,
        left_out=(),
    )
    if request.bundle is not None:
        profile = measured_profile(findings)
        model, operators, usage, energy = _model(course, request.bundle, profile, reader, idle)
        findings = replace(findings, model=model, operators=operators, usage=usage, energy=energy)
    elif reader is not None:
        why = "a bundle is needed: energy is told a token"
    if findings.energy is None:
        course.left_out.append(f"energy: not measured: {why or 'the reader fell silent'}")
    heat.look("after")
    return replace(
        findings,
        heat=tuple(heat.moments),
        discarded=tuple(heat.discarded),
        seconds=budget.taken,
        left_out=tuple(course.left_out),
    )


def _library(course: Course) -> Library | None:
    try:
        return open_library()
    except MoedgeError as error:
        course.left_out.append(f"moedge's own operators: {error}")
        return None


def _storage(course: Course) -> StorageRates:
    course.on_step("storage")
    found = measure_storage(course.request.folder, course.drawing, course.seconds(2, 6))
    if not found.points:
        course.left_out.append(f"storage: {found.note}")
    return found


def _bandwidth(course: Course) -> tuple[ThreadBandwidth, ...]:
    """By numbers of threads: one, two, four, … and all cores."""
    course.on_step("memory")
    caches, cores = last_cache_bytes(), course.machine.cores
    size = choose_buffer(detect_memory().available_bytes, caches)
    counts = sorted({cores, *(2**power for power in range(cores.bit_length()) if 2**power < cores)})
    found = list[ThreadBandwidth]()
    quick = course.request.quick
    passes = 4 if quick else 2 * PASSES
    for count in sorted({counts[0], counts[-1]}) if quick else counts:
        measured = course.heat.steady(
            f"memory, {count} threads", partial(measure_bandwidth, count, size, caches, passes)
        )
        spread = measured.bytes_per_s
        found.append(ThreadBandwidth(count, Measured(spread.median, spread.low, spread.high, passes), measured.note))
    return tuple(found)


def _stock(course: Course) -> StockRates:
    """ONNX Runtime's; experts only where there is time."""
    course.on_step("ONNX Runtime's operators")
    memory, quick = weights_memory(), course.request.quick
    if quick and course.request.bundle is not None:
        course.on_step("ONNX Runtime's experts")
        course.left_out.append("ONNX Runtime's own operators: not with --quick and a bundle")
        return StockRates((), None)
    overhead = measure_overhead(course.usual, course.seconds(0.2, 1))
    operators: list[OperatorRate] = measure_products(
        course.usual, course.drawing, memory // 8 if quick else memory, course.seconds(0.5, 5)
    )
    course.on_step("ONNX Runtime's experts")
    if quick:
        course.left_out.append("ONNX Runtime's experts, and with them the `fused` plan's rates: not with --quick")
    else:
        found = course.heat.steady(
            "ONNX Runtime's experts",
            lambda: measure_experts(LayerShape(), course.usual, course.drawing, memory, course.seconds(0, 5)),
        )
        operators += found
    return_freed_memory()
    return StockRates(tuple(operators), overhead)


def _model(
    course: Course, bundle: Path, profile: Profile, reader: JouleReader | WattReader | None, idle: float | None
) -> tuple[ModelRates, OperatorTimes | None, ExpertUsage | None, Energy | None]:
    """One bundle; most of the time that is left goes to its rounds."""
    course.on_step("load the bundle")
    engine = open_model(bundle, profile)
    course.on_step("prompts and tokens")
    kept = (2.0 if course.request.quick else 12.0) + RESERVE * course.budget.seconds
    question = question_for(engine, course.budget.share(100, kept))
    course.left_out += question.left_out
    model = course.heat.steady("the model", lambda: measure_model(engine, profile, question))
    course.on_step("operators and experts")
    operators, usage = None, None
    if course.budget.left > LEAST_SECONDS:
        operators = measure_operators(engine)
        usage = measure_usage(engine, 64 if course.request.quick else 400)
    else:
        course.left_out.append("where the time goes: no time was left for it")
    if usage is None and operators is not None:
        course.left_out.append("which experts are used: counted in the `native` plan only")
    course.on_step("energy")
    energy = None
    if reader is not None and idle is not None:
        energy = measure_energy(engine, reader, idle, course.seconds(2, 10))
    return model, operators, usage, energy
