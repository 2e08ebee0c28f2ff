"""What was measured as a device profile: the file that `--device` takes, and the same as it is used at once.

It extends the generic profile of the architecture, names this machine so that `auto` takes it here, and states every
value with its source. What was not measured stays as `auto` has it.
"""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from moedge.devices.detect import Machine
from moedge.devices.errors import MoedgeError
from moedge.devices.nearest import nearest
from moedge.devices.profile import Profile, hold_to, resolve
from moedge.devices.profile_file import FOLDER, SettingsSpec, read_spec
from moedge.runtime.profiling.company import BUSY
from moedge.runtime.profiling.findings import Findings
from moedge.runtime.profiling.timing import Measured

NAME = "measured"
GENERIC = {"x86_64": "generic-x86-64", "aarch64": "generic-aarch64"}
TRIED = ("prefill_threads", "decode_threads", "affinity", "awake_us")


def usual_profile(machine: Machine) -> Profile:
    """What `auto` says here without any profile of the user's own, so that a second run starts where the first did."""
    specs = {path.stem: read_spec(str(path))[1] for path in FOLDER.glob("*.toml")}
    chosen = nearest(machine, specs)
    if chosen is None:
        raise MoedgeError(
            f"moedge has no device profile for {machine.architecture or 'this machine'} to start from: "
            "write one (CONTRIBUTING.md)."
        )
    return resolve(chosen, hold_to(specs[chosen], machine), machine)


def measured_profile(findings: Findings) -> Profile:
    """The settings that were kept and the rates that were measured, as `load_profile` gives them from the file."""
    rates = {name: rounded(measured.median) for name, (measured, _) in measured_rates(findings).items()}
    storage = findings.storage.of_experts
    profile = replace(findings.settings, rates=replace(findings.usual.rates, **rates))
    return replace(
        profile,
        name=NAME,
        memory_bytes_per_s=rounded(findings.best_bandwidth.median),
        storage_bytes_per_s=rounded(storage.median) if storage else profile.storage_bytes_per_s,
    )


def measured_rates(findings: Findings) -> dict[str, tuple[Measured, str]]:
    """By names of `Rates`: what was measured, and of what."""
    found: dict[str, tuple[Measured, str]] = {}
    if layers := findings.layers:
        found["weights_bytes_per_s"] = layers.weights, "weights of layers of 64 experts, top 8, more than caches hold"
        found["prompt_macs_per_s"] = (
            layers.prompt,
            f"the same layers with {layers.chunk} tokens, their reading left out",
        )
        found["layer_s"] = layers.layer, "a layer's operators, their weights left out"
    if attention := findings.attention:
        found["cache_bytes_per_s"] = attention.cache, "4,096 tokens of 16 key heads of 128, float16"
        found["attention_macs_per_s"] = attention.attention, "4,096 tokens, 32 heads over 4 key heads of 128"
        found["prompt_attention_macs_per_s"] = attention.prompt, "a chunk of a prompt after 1,024 tokens"
    found["step_s"] = findings.between_steps, "a token chosen from 128,000"
    experts = {each.rows == 1: each for each in findings.stock.operators if each.operator == "QMoE"}
    if experts:
        token, prompt = experts[True], experts[False]
        found["fused_weights_bytes_per_s"] = token.bytes_per_s, f"ONNX Runtime's QMoE, {token.shape}, a token"
        reading = prompt.macs_per_byte * token.bytes_per_s.median  # products a second if they took no time themselves
        what = f"ONNX Runtime's QMoE, {prompt.shape}, {prompt.rows} tokens, their reading left out"
        found["fused_prompt_macs_per_s"] = without(prompt.macs_per_s, reading), what
    return found


def without(rate: Measured, other: float) -> Measured:
    """Of work that takes as long as two kinds of it one after the other, the rate of the one, by that of the other."""
    median, low, high = (each / (1 - min(0.75, each / other)) for each in (rate.median, rate.low, rate.high))
    return Measured(median, low, high, rate.runs)


def rounded(value: float) -> float:
    """Four digits: more are noise."""
    return float(f"{value:.4g}")


def profile_text(findings: Findings) -> str:
    """The file's content."""
    return "\n".join(_lines(findings)) + "\n"


def _lines(findings: Findings) -> Iterator[str]:
    machine, profile, date = findings.machine, findings.settings, findings.date
    yield f"# Written by `moedge profile` on {date}. `moedge devices` shows it; --device takes its path."
    if findings.others > BUSY:
        yield f"# Other programs kept {findings.others:.1f} cores busy meanwhile: measure again on an idle machine."
    yield f"description = {_text(f'{machine.cpu or machine.board or machine.architecture}, measured {date}')}"
    yield f"architecture = {_text(machine.architecture)}"
    yield f"extends = {_text(GENERIC[machine.architecture])}"
    yield from ("", "[match]", *_match(machine))
    yield from ("", "[hardware]")
    clusters = ", ".join(f"{{ core = {_text(c.core)}, count = {c.count}, mhz = {c.mhz} }}" for c in profile.clusters)
    yield _fact("clusters", f"[{clusters}]", profile.sources["clusters"])
    yield _fact("isa", _value(list(profile.isa)), profile.sources["isa"])
    yield _fact("memory_bytes", str(profile.memory_bytes), profile.sources["memory_bytes"])
    best = max(findings.bandwidth, key=lambda each: each.bytes_per_s.median)
    what = f"read with {best.threads} threads" + (f" ({best.note})" if best.note else "")
    yield _fact("memory_bytes_per_s", _value(best.bytes_per_s.median), best.bytes_per_s.source(date, what))
    storage = findings.storage.of_experts
    if storage:
        source = storage.source(date, "reads of 1 MiB, 4 at once, at random places")
        yield _fact("storage_bytes_per_s", _value(storage.median), source)
    else:
        source = f"{profile.sources['storage_bytes_per_s']}; {findings.storage.note}"
        yield _fact("storage_bytes_per_s", _value(float(profile.storage_bytes_per_s)), source)
    yield from ("", "[settings]")
    for each in fields(SettingsSpec):
        yield _fact(each.name, _value(getattr(profile, each.name)), _setting_source(findings, each.name))
    yield from ("", "[rates]")
    for name, (measured, what) in measured_rates(findings).items():
        yield _fact(name, _value(measured.median), measured.source(date, what))


def _match(machine: Machine) -> Iterator[str]:
    if machine.board:
        yield f"board = {_value([machine.board])}"
    if machine.cpu:
        yield f"cores = {_value([machine.cpu])}"
    yield f"isa = {_value(list(machine.isa))}"
    yield f"system = {_text(machine.system)}"


def _setting_source(findings: Findings, name: str) -> str:
    trials = [trial for trial in findings.trials if trial.setting == name]
    kept = next((trial for trial in trials if trial.kept), None)
    if kept:
        return f"measured by moedge profile, {findings.date}: {kept.tried} instead of {kept.usual}, {kept.reason}"
    usual = findings.usual.sources[name]
    if name not in TRIED:
        return usual
    reasons = "; ".join(f"{trial.tried}: {trial.reason}" if trial.tried else trial.reason for trial in trials)
    return f"{usual}; tried by moedge profile, {findings.date}: {reasons}" if reasons else f"{usual}; not tried"


def _fact(name: str, value: str, source: str) -> str:
    return f"{name} = {{ value = {value}, source = {_text(source)} }}"


def _value(value: Any) -> str:
    """TOML of a number, a text or a list of texts."""
    if isinstance(value, float):
        return repr(rounded(value))
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    """A basic string: TOML's escapes are JSON's, and it forbids one letter more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
