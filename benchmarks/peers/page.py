"""The results as Markdown, and their place in README.md, which is a marked region that nobody writes by hand."""

from collections.abc import Sequence
from pathlib import Path

from peers.figures import EngineFacts, Figure
from peers.measuring import CLOCK
from peers.shapes import SHAPES

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
COLUMNS = ("prompt 128", "prompt 512", "prompt 2048", "decode at 0", "decode at 512", "decode at 4096")


def table(found: Sequence[Figure], facts: Sequence[EngineFacts]) -> str:
    """A row an engine and shape: tokens/s, in brackets how many times as fast moedge is, or its spread."""
    by = {(each.shape, each.engine, each.figure): each for each in found}
    lines = [
        f"| model, layers | engine | bits a weight | KL, error | {' | '.join(COLUMNS)} | load | memory: own, files |",
        "|---" * (len(COLUMNS) + 6) + "|",
    ]
    for fact in sorted(facts, key=lambda each: (list(SHAPES).index(each.shape), each.engine != CLOCK)):
        shape = SHAPES[fact.shape]
        name = f"{shape.title}, {shape.layers} of {shape.published_layers}" if fact.engine == CLOCK else ""
        cells = [_cell(by.get((fact.shape, fact.engine, column))) for column in COLUMNS]
        memory = f"{fact.anonymous / 1e9:.1f}, {fact.file_backed / 1e9:.1f} GB"
        bits, lost = f"{fact.bits:.2f}", f"{fact.kl:.3f}, {fact.error:.1%}"
        lines.append(f"| {' | '.join([name, fact.engine, bits, lost, *cells, f'{fact.load_s:.1f} s', memory])} |")
    return "\n".join(lines)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    rate = f"{figure.median:.0f}" if figure.median >= 20 else f"{figure.median:.1f}"
    if figure.engine == CLOCK or figure.ratio != figure.ratio:
        return f"{rate} ({figure.low:.0f}–{figure.high:.0f})"
    return f"{rate} ({figure.ratio:.2f} ×, {figure.ratio_low:.2f}–{figure.ratio_high:.2f})"


def replace_region(text: str, content: str) -> str:
    """The text with `content` between its two marks; ValueError if they are not there, once each and in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"there must be one line {BEGIN} and after it one line {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.partition(END)[2]}"


def write_region(page: Path, content: str) -> None:
    """The same of a file."""
    page.write_text(replace_region(page.read_text(encoding="utf-8"), content), encoding="utf-8")
