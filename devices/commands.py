"""The verb `devices`: what was detected here, the profile that `auto` makes of it, and all profiles, or one of them."""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any

import typer

from moedge.devices.detect import Machine, detect
from moedge.devices.errors import MoedgeError
from moedge.devices.profile import Profile, load_profile
from moedge.devices.profile_file import profile_names, read_spec, user_folder
from moedge.devices.structure import unstructure

_PLAIN = ("name", "description", "architecture", "rates", "sources")  # what needs words of its own


def devices(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A profile, by name or path, or auto: all that it says.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")] = False,
) -> None:
    """List device profiles and what was detected here, or show one with the source of every value."""
    machine = detect()
    if name is not None:
        profile = load_profile(name, machine)
        lines = list(_profile_lines(profile))
        typer.echo(_json(unstructure(profile)) if as_json else "\n".join([f"Profile {profile.name}", *lines]))
        return
    try:
        chosen, reason = load_profile("auto", machine), ""
    except MoedgeError as error:  # no profile for this architecture: say so, and still show the machine
        chosen, reason = None, str(error)
    specs = {each: read_spec(each)[1] for each in profile_names()}
    if as_json:
        typer.echo(_json(list(_listed(machine, chosen, specs))))
        return
    typer.echo("\n".join(["This machine", *_machine_lines(machine), ""]))
    if chosen:
        typer.echo("\n".join([f"Profile chosen by `auto`: {chosen.name}", *_profile_lines(chosen)]))
    else:
        typer.echo(reason)
    width = max(len(each) for each in specs)
    typer.echo("\nProfiles (--device NAME, or a path to a .toml)")
    typer.echo("\n".join(f"  {each:{width}}  {spec.description}" for each, spec in specs.items()))
    typer.echo(f"Your own profiles belong into {user_folder()}.")


def _listed(machine: Machine, chosen: Profile | None, specs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`auto` first, with the machine it was made for, then each profile as its file states it."""
    found = unstructure(machine) | {"usable_memory_bytes": machine.usable_memory_bytes}
    nearest = chosen.name if chosen else None
    auto = unstructure(chosen) if chosen else {}
    yield auto | {"name": "auto", "nearest": nearest, "machine": found}
    for name, spec in specs.items():
        yield {"name": name, "nearest": name == nearest} | unstructure(spec)


def _json(data: object) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False)


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
        f"  pages         {machine.page_bytes // 1024} KiB",
    ]


def _profile_lines(profile: Profile) -> Iterator[str]:
    yield f"  {profile.description} ({profile.architecture})"
    for each in fields(profile):
        if each.name in _PLAIN:
            continue
        value = getattr(profile, each.name)
        source = profile.sources.get(each.name)
        yield f"  {each.name:27} {_spell(each.name, value)}" + (f"  [{source}]" if source else "")
    for each in fields(profile.rates):
        value = getattr(profile.rates, each.name)
        yield f"  {each.name:27} {_spell(each.name, value)}  [{profile.sources[each.name]}]"


def _spell(name: str, value: Any) -> str:
    if name == "clusters":
        clocks = (f"{c.count} x {c.core or 'unknown'}" + (f" at {c.mhz} MHz" if c.mhz else "") for c in value)
        return " + ".join(clocks)
    if name.endswith("bytes_per_s"):
        return f"{value / 1e9:.2f} GB/s"
    if name.endswith("macs_per_s"):
        return f"{value / 1e9:.0f} GMAC/s"
    if name.endswith("_s"):
        return f"{1e6 * value:.0f} µs"
    if name.endswith("_bytes"):
        return f"{value} ({_gib(value)})"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
