"""What `moedge profile` prints for people: the figures that matter, settings that changed, where the files lie."""

from collections.abc import Iterator

from rich.console import Console

from moedge.runtime.profiling.company import BUSY
from moedge.runtime.profiling.findings import Findings
from moedge.runtime.profiling.measured_profile import measured_rates
from moedge.runtime.profiling.report_words import MEANINGS, UNITS
from moedge.runtime.profiling.writing_results import Places


def print_findings(findings: Findings, places: Places, console: Console) -> None:
    """A line a fact."""
    for line in _lines(findings, places):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _lines(findings: Findings, places: Places) -> Iterator[str]:
    machine = findings.machine
    name = machine.board or machine.cpu or machine.architecture
    yield f"{name}, {machine.cores} cores, kernels: {findings.kernels or 'none'}; measured in {findings.seconds:.0f} s"
    if findings.others > BUSY:
        yield f"note: other programs kept {findings.others:.1f} cores busy meanwhile: measure again on an idle machine"
    for each in findings.bandwidth:
        yield f"memory, {each.threads} threads: {each.bytes_per_s.median / 1e9:.1f} GB/s"
    for rate, (measured, _) in measured_rates(findings).items():
        unit, text = next(value for suffix, value in UNITS.items() if rate.endswith(suffix))
        low, median, high = (each / unit for each in (measured.low, measured.median, measured.high))
        yield f"{MEANINGS[rate]}: {median:.3g} {text} ({low:.3g}–{high:.3g})"
    storage = findings.storage.of_experts
    yield f"storage: {storage.median / 1e6:.0f} MB/s in pieces of an expert" if storage else findings.storage.note
    for trial in findings.trials:
        if trial.kept:
            yield f"{trial.setting}: {trial.tried} instead of {trial.usual}, {trial.reason}"
    if not any(trial.kept for trial in findings.trials):
        judged = any(trial.gain for trial in findings.trials) and findings.others <= BUSY
        why = "nothing that was tried gains 3 %" if judged else "others were not judged, see the report"
        yield f"settings stay as those of {findings.usual.name}: {why}"
    if model := findings.model:
        for prompt in model.prompts:
            yield f"{model.name}, prompt of {prompt.tokens}: {prompt.tokens_per_s.median:.1f} tok/s"
        for step in model.decode:
            yield f"{model.name}, decode at depth {step.depth}: {step.tokens_per_s.median:.1f} tok/s"
        for told in model.predicted:
            yield f"{told.what}: {told.ratio:.2f} times the {told.predicted:.1f} tok/s that are predicted"
    yield from findings.discarded
    yield from findings.left_out
    yield f"profile: {places.profile} (use it with --device {places.profile})"
    yield f"report: {places.page}"
