"""The results as Markdown, and their places in pages: marked regions that nobody writes by hand."""

from collections.abc import Sequence
from pathlib import Path

from peers.figures import EngineFacts, Figure, Verdict
from peers.measuring import CLOCK
from peers.shapes import SHAPES

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
PROMPTS = ("prompt 128", "prompt 512", "prompt 2048", "prompt 8192")
COLUMNS = (*PROMPTS, "decode at 0", "decode at 512", "decode at 2048", "decode at 4096")
Q4_0, Q4_K_M = "llama.cpp:Q4_0", "llama.cpp:Q4_K_M"


def summary(found: Sequence[Figure], facts: Sequence[EngineFacts]) -> str:
    """A row a shape: moedge's rates, how many times as fast as each engine that is, and what formats lose."""
    by = {(each.shape, each.engine, each.figure): each for each in found}
    lost = {(each.shape, each.engine): each.kl for each in facts}
    lines = [
        "| model, layers | prompt of 512, tokens/s | faster than Q4_0, Q4_K_M | decode after 512, tokens/s "
        "| faster than Q4_0, Q4_K_M | after 4,096: than Q4_0 | both, faster than | KL: moedge, Q4_0, Q4_K_M |",
        "|---" * 8 + "|",
    ]
    for shape in SHAPES.values():
        if (shape.name, CLOCK, "prompt 512") not in by:
            continue
        cells = [f"{shape.title}, {shape.layers} of {shape.published_layers}"]
        for figure in ("prompt 512", "decode at 512"):
            cells.append(f"{by[shape.name, CLOCK, figure].median:.0f}")
            cells.append(", ".join(_times(by.get((shape.name, engine, figure))) for engine in (Q4_0, Q4_K_M)))
        cells.append(_times(by.get((shape.name, Q4_0, "decode at 4096"))))
        others = [each for one, each in lost if one == shape.name and each.startswith(("genai", "transformers"))]
        beside = []
        for engine in others:
            both = (_times(by.get((shape.name, engine, figure))) for figure in ("prompt 512", "decode at 512"))
            beside.append(f"{engine} {', '.join(both)}")
        cells.append("; ".join(beside) or "–")
        known = [lost.get((shape.name, engine)) for engine in (CLOCK, Q4_0, Q4_K_M)]
        cells.append(", ".join("–" if kl is None else f"{kl:.3f}" for kl in known))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def targets(verdicts: Sequence[Verdict]) -> str:
    """What was aimed at and what came of it, a row each; what was not measured is left out."""
    lines = ["| model | target | at least | reached | |", "|---" * 5 + "|"]
    for each in verdicts:
        if each.words != "not measured":
            lines.append(f"| {each.shape} | {each.what} | {each.target:.2f} | {each.reached:.2f} | {each.words} |")
    return "\n".join(lines)


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


def together_table(found: Sequence[Figure]) -> str:
    """Tokens/s of all of so many sessions of moedge that decode at once; empty where nobody measured it."""
    rates = {
        int(count): each for each in found for count, _, words in [each.figure.partition(" ")] if words == "at once"
    }
    if not rates:
        return ""
    counts = sorted(rates)
    shape = SHAPES[rates[counts[0]].shape].title
    return (
        f"| {CLOCK}, {shape}: sessions at once | {' | '.join(map(str, counts))} |\n{'|---' * (len(counts) + 1)}|\n"
        f"| tokens/s of all | {' | '.join(_cell(rates[count]) for count in counts)} |"
    )


def _times(figure: Figure | None) -> str:
    return "–" if figure is None or figure.ratio != figure.ratio else f"{figure.ratio:.2f} ×"


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
