"""The parts of a report that are tables; "" for what was not measured."""

from html import escape

from moedge.runtime.profiling.findings import Findings
from moedge.runtime.profiling.measured_profile import measured_rates
from moedge.runtime.profiling.report_words import (
    GIGA,
    MEANINGS,
    SETTINGS,
    UNITS,
    card,
    spelt_size,
    table,
    told,
)


def predicted_part(findings: Findings) -> str:
    """Measured beside predicted."""
    if findings.model is None or not findings.model.predicted:
        return ""
    rows = [
        (each.what, f"{each.measured:.1f}", f"{each.predicted:.1f}", f"{each.ratio:.2f}")
        for each in findings.model.predicted
    ]
    note = "What `moedge plan` says with the measured profile, in tokens a second."
    return card("Measured and predicted", table(("", "measured", "predicted", "ratio"), rows, numbers=(1, 2, 3)), note)


def settings_part(findings: Findings) -> str:
    """What was tried, kept or not."""
    rows = list[tuple[str, ...]]()
    for trial in findings.trials:
        gain = "–" if trial.gain is None else f"{trial.gain.median:.2f} ({trial.gain.low:.2f}–{trial.gain.high:.2f})"
        what = f"{trial.usual} → {trial.tried}" if trial.tried else trial.usual
        said = "kept" if trial.kept else trial.usual + " stays" if trial.tried else ""
        rows.append((SETTINGS.get(trial.setting, trial.setting), what, gain, said, trial.reason))
    if not rows:
        return ""
    note = "Paired runs in turn; a setting is kept for a gain of 3 % or more with the same output, bit for bit."
    heads = ("setting", "tried", "times as fast", "", "why")
    return card("Settings", table(heads, rows, numbers=()), note)


def neighbour_part(findings: Findings) -> str:
    """Waiting awake beside somebody who computes."""
    rows = [
        (f"{each.awake_us} µs", f"{1e3 * each.idle_s:.2f} ms", f"{1e3 * each.busy_s:.2f} ms")
        for each in findings.neighbour
    ]
    if not rows:
        return ""
    note = "A token's step, alone and while another process keeps one core busy."
    return card("Waiting awake", table(("threads wait", "alone", "busy neighbour"), rows, numbers=(1, 2)), note)


def storage_part(findings: Findings) -> str:
    """A row a size of block, a column a number of reads at once."""
    storage = findings.storage
    if not storage.points:
        return card("Storage", f'<p class="note">{escape(storage.note)}</p>')
    queues = sorted({each.queue for each in storage.points})
    found = {(each.block, each.queue): each.bytes_per_s.median for each in storage.points}
    rows = [
        (spelt_size(block), *(f"{found[block, queue] / 1e6:.0f}" for queue in queues))
        for block in sorted({each.block for each in storage.points})
    ]
    heads = ("MB/s", *(f"{queue} at once" for queue in queues))
    note = f"Random places of a file of {spelt_size(storage.file_bytes)}, {escape(storage.note)}."
    return card("Storage", table(heads, rows, numbers=range(1, len(heads))), note)


def rates_part(findings: Findings) -> str:
    """What the profile says of speed."""
    rows = list[tuple[str, ...]]()
    for name, (measured, _) in measured_rates(findings).items():
        unit, text = next(value for suffix, value in UNITS.items() if name.endswith(suffix))
        rows.append(
            (
                MEANINGS[name],
                f"{measured.median / unit:.3g} {text}",
                f"{measured.low / unit:.3g}–{measured.high / unit:.3g}",
                str(measured.runs),
            )
        )
    note = "What the planner computes with; medians of the runs."
    return card("Rates", table(("", "median", "from–to", "runs"), rows, numbers=(1, 2, 3)), note)


def stock_part(findings: Findings) -> str:
    """ONNX Runtime's operators."""
    rows = [
        (
            each.operator,
            each.numbers,
            str(each.rows),
            f"{each.macs_per_s.median / GIGA:.3g}",
            f"{each.bytes_per_s.median / GIGA:.3g}",
        )
        for each in findings.stock.operators
    ]
    overhead = findings.stock.operator_s
    note = f"An operator that computes next to nothing takes {1e6 * overhead.median:.2f} µs." if overhead else ""
    rates = table(("", "numbers", "rows", "GMAC/s", "GB/s of weights"), rows, numbers=(2, 3, 4))
    return card("ONNX Runtime's operators", rates, note)


def heat_part(findings: Findings) -> str:
    """Clock and temperature before, during and after."""
    moments = findings.heat
    if all(each.mhz is None and each.celsius is None for each in moments):
        text = "Neither clocks nor temperatures are told here, as in most virtual machines."
        return card("Clock and temperature", f'<p class="note">{text}</p>')
    rows = [(each.when, told(each.mhz, "MHz"), told(each.celsius, "°C"), each.throttled or "no") for each in moments]
    return card("Clock and temperature", table(("after", "clock", "hottest", "throttled"), rows, numbers=(1, 2)))
