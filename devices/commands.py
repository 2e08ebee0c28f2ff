"""The verb `devices`: what was detected here, the profile that `auto` makes of it, and the profiles to choose from."""

import json
from typing import Annotated, Any

import typer

from moedge.devices.detect import Machine, detect
from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile, load_profile, profile_names, read_spec
from moedge.devices.structure import unstructure


def devices(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")] = False,
) -> None:
    """List device profiles and what was detected here."""
    machine = detect()
    specs = {name: read_spec(name)[1] for name in profile_names()}
    try:
        chosen, reason = load_profile("auto", machine), ""
    except MoedgeError as error:  # no profile for this architecture: say so, and still show the machine
        chosen, reason = None, str(error)
    if as_json:
        found = unstructure(machine) | {"usable_memory_bytes": machine.usable_memory_bytes}
        listed = {name: unstructure(spec) for name, spec in specs.items()}
        auto: Any = unstructure(chosen) if chosen else None
        typer.echo(json.dumps({"machine": found, "auto": auto, "profiles": listed}, indent=1, ensure_ascii=False))
        return
    typer.echo("\n".join(["This machine", *_machine_lines(machine), ""]))
    typer.echo("\n".join(_profile_lines(chosen) if chosen else [reason]))
    width = max(len(name) for name in specs)
    typer.echo("\nProfiles (--profile NAME, or a path to a .toml)")
    typer.echo("\n".join(f"  {name:{width}}  {spec.description}" for name, spec in specs.items()))


def _machine_lines(machine: Machine) -> list[str]:
    limit, quota = machine.memory_limit_bytes, machine.cpu_quota
    slower = machine.cores - machine.fast_cores
    cores = f"{machine.cores} of {machine.logical_cpus} logical CPUs"
    cores += f", {slower} of them slow" if slower else ""
    return [
        *([f"  board         {machine.board}"] if machine.board else []),
        f"  CPU           {machine.cpu or 'unknown'} ({machine.architecture})",
        f"  instructions  {' '.join(machine.isa) or 'unknown'}",
        f"  cores         {cores}" + ("" if quota is None else f", limited to {quota:g} CPUs of time"),
        f"  memory        {_gib(machine.memory_bytes)}" + ("" if limit is None else f", limited to {_gib(limit)}"),
    ]


def _profile_lines(profile: Profile) -> list[str]:
    values = {
        "cores": str(profile.cores),
        "memory_bytes": f"{profile.memory_bytes} ({_gib(profile.memory_bytes)})",
        "intra_op_threads": str(profile.intra_op_threads),
        "prefill_chunk": f"{profile.prefill_chunk} tokens",
        "awake_us": f"{profile.awake_us} µs",
        "cache_type": profile.cache_type,
    }
    lines = [f"  {name:17} {value}  [{profile.sources[name]}]" for name, value in values.items()]
    return [f"Profile chosen by `auto`: {profile.name}", *lines]


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
