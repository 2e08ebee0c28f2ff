"""The verb `profile`: parses, asks for the run, writes three files, prints. Imports stand inside, as in other verbs."""

from pathlib import Path
from typing import Annotated

import typer

MOST_IMPORTS = 5.0  # seconds before the verb began that count as its own, as far as they are this program's start


def profile(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="A bundle folder, to measure that model too.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The profile, a .toml; JSON and HTML go beside it."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="In 30 seconds instead of three minutes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")] = False,
) -> None:
    """Measure this machine, and a model on it: writes a device profile for --device, JSON, and a page with pictures."""
    import time

    import psutil

    from moedge.devices.detect import detect
    from moedge.devices.profile_file import user_folder
    from moedge.runtime.profiling.course import Request
    from moedge.runtime.profiling.measured_profile import NAME, usual_profile
    from moedge.runtime.profiling.profiling import run_profile
    from moedge.runtime.profiling.results_text import print_findings
    from moedge.runtime.profiling.timing import TimeBudget
    from moedge.runtime.profiling.writing_results import places_of, to_json, write_results
    from moedge.runtime.progress import steps_progress

    places = places_of(output or user_folder() / f"{NAME}.toml")
    machine = detect()
    usual = usual_profile(machine)
    request = Request(bundle, places.profile.parent, quick)
    imports = min(MOST_IMPORTS, time.time() - psutil.Process().create_time())
    budget = TimeBudget(request.seconds, begun=time.monotonic() - imports)
    with steps_progress("profile", request.stages) as on_step:
        findings = run_profile(request, usual, machine, budget, on_step)
    write_results(findings, places)
    if as_json:
        typer.echo(to_json(findings))
        return
    from rich.console import Console

    print_findings(findings, places, Console())
