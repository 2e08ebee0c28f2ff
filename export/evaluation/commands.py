"""The verb `moedge eval`: options in, a progress bar while it works, a table or JSON at the end."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from moedge.export.evaluation.evaluate import EvalProgress, Evaluation


def eval(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle folder, as `moedge export` made it.")],
    against: Annotated[
        Path, typer.Option(metavar="CHECKPOINT", help="Folder of the checkpoint that it was exported from.")
    ],
    text: Annotated[Path, typer.Option(metavar="FILE", help="UTF-8 text that both are to read.")],
    tokens: Annotated[int, typer.Option(help="How many tokens of the text are read.")] = 4096,
    window: Annotated[int, typer.Option(help="In windows of so many tokens, spread evenly over it.")] = 256,
    allow_slow: Annotated[bool, typer.Option("--allow-slow", help="Run even without a fast expert kernel.")] = False,
    allow_low_memory: Annotated[
        bool, typer.Option("--allow-low-memory", help="Run though memory may not hold the model and a full context.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure how well a bundle keeps to its checkpoint: KL divergence, perplexity, experts, bits."""
    from moedge.export.evaluation.evaluate import EvalOptions, evaluate

    options = EvalOptions(tokens, window, allow_slow, allow_low_memory)
    with _bar() as progress:
        figures = evaluate(bundle, against, text, options, progress)
    if as_json:
        said = {"bundle": str(bundle), "against": str(against), "text": str(text)}
        print(json.dumps(said | figures.as_json(), indent=1))
    else:
        _print_table(bundle, figures)


@contextmanager
def _bar() -> "Iterator[EvalProgress]":
    """A bar of the steps on a terminal's stderr, silent elsewhere; before it one of the hashes."""
    from moedge.export.evaluation.evaluate import EvalProgress
    from moedge.runtime.progress import bytes_progress

    if not sys.stderr.isatty():
        with bytes_progress("check") as on_hashed:
            yield EvalProgress(on_hashed)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("reading", total=None)

    def begin(total: int) -> None:
        bar.update(task, total=total)
        bar.start()

    try:
        with bytes_progress("check") as on_hashed:
            yield EvalProgress(on_hashed, begin, lambda what: bar.update(task, advance=1, description=what))
    finally:
        if bar.live.is_started:
            bar.stop()


def _print_table(bundle: Path, figures: "Evaluation") -> None:
    from rich.console import Console
    from rich.table import Table

    told, memory = figures.fidelity, figures.bits_per_weight_in_memory
    spread = "" if told.kl_se is None else f" ± {told.kl_se:.4f}"
    rows = {
        "KL(fp32 || bundle), nats a token": f"{told.kl_mean:.4f}{spread}",
        "  median": f"{told.kl_median:.4f}",
        "  99th percentile": f"{told.kl_p99:.4f}",
        "same likeliest token": f"{told.top1:.1%}",
        "perplexity": f"{told.perplexity:.3f}",
        "  of the fp32 model": f"{told.reference_perplexity:.3f}",
        "bits a weight on disk": f"{figures.bits_per_weight:.2f}",
        "  in memory": "not estimated" if memory is None else f"about {memory:.2f}",
    }
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for row in rows.items():
        table.add_row(*row)
    console = Console()
    print(f"{bundle}: {figures.positions} positions, in {figures.windows} windows of {figures.window} tokens")
    console.print(table)
    if figures.layers is None:
        print("The graph of this bundle does not show its layers: export it again for figures of each.")
        return
    layers = Table("layer", "hidden state off by", "same experts")
    for layer in figures.layers:
        agreement = "-" if layer.expert_agreement is None else f"{layer.expert_agreement:.1%}"
        layers.add_row(str(layer.layer), f"{layer.hidden_error:.2%}", agreement)
    console.print(layers)
