"""The verb `bench`: parses, asks for the rounds, prints. Imports stand inside, as in the other verbs."""

from pathlib import Path
from typing import Annotated

import typer


def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle folder, as `moedge export` made it.")],
    prompts: Annotated[
        str, typer.Option("-p", "--prompts", metavar="LENGTHS", help="Prompts, in tokens.")
    ] = "128,512,2048",
    steps: Annotated[int, typer.Option("-n", "--steps", help="Tokens to decode, one by one, a round.")] = 128,
    depths: Annotated[
        str, typer.Option("-d", "--depths", metavar="LENGTHS", help="Tokens in the cache before those.")
    ] = "0,512,4096",
    batch: Annotated[
        str, typer.Option("-b", "--batch", metavar="COUNTS", help="Sessions that decode at once, such as 1,2,4,8.")
    ] = "",
    threads: Annotated[int | None, typer.Option("-t", "--threads", help="Default: the profile's.")] = None,
    rounds: Annotated[int, typer.Option("-r", "--rounds", help="Rounds, after one that warms up.")] = 5,
    device: Annotated[
        str,
        typer.Option("--device", "--profile", help="A device's profile, by name or path, or auto for this machine."),
    ] = "auto",
    allow_slow: Annotated[bool, typer.Option("--allow-slow", help="Run even without a fast expert kernel.")] = False,
    allow_low_memory: Annotated[
        bool, typer.Option("--allow-low-memory", help="Run though memory may not hold the model and a full context.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")] = False,
) -> None:
    """Measure how fast a bundle runs here: prompts, tokens, loads, memory, and the share of what memory allows."""
    import time

    import psutil

    from moedge.devices.profile import load_profile
    from moedge.devices.structure import unstructure
    from moedge.runtime.bench.asking import fit, parse_batches, parse_lengths, refuse_below
    from moedge.runtime.bench.bench import count_steps, run_bench
    from moedge.runtime.integrity import open_bundle
    from moedge.runtime.progress import steps_progress

    imports = time.time() - psutil.Process().create_time()
    for option, number in (("-n", steps), ("-r", rounds), *([] if threads is None else [("-t", threads)])):
        refuse_below(option, number, 1)
    lengths = parse_lengths("-p", prompts, 1), steps, parse_lengths("-d", depths, 0)
    manifest = open_bundle(bundle, check_hashes=False)
    question = fit(*lengths, rounds, manifest.model.context_length, parse_batches(batch, manifest))
    profile = load_profile(device)
    if threads is not None:
        profile = profile.with_threads(threads, "-t")
    with steps_progress("bench", count_steps(question)) as on_step:
        results = run_bench(bundle, manifest, profile, question, imports, allow_slow, allow_low_memory, on_step)
    if as_json:
        import json

        typer.echo(json.dumps(unstructure(results), indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    from moedge.runtime.bench.table import print_results

    print_results(results, Console())
