"""The page that `moedge profile` writes: one HTML file without any other, pictures inside, for a desk and a telephone.

What it says is put together here and in report_parts.py; how pictures are drawn is report_pictures.py's.
"""

from collections.abc import Iterator
from html import escape

from moedge.runtime.profiling.company import BUSY
from moedge.runtime.profiling.findings import Findings, provenance
from moedge.runtime.profiling.report_parts import (
    bandwidth_part,
    depth_part,
    expert_part,
    operator_part,
    roof_part,
    tiles,
)
from moedge.runtime.profiling.report_style import STYLE
from moedge.runtime.profiling.report_tables import (
    heat_part,
    neighbour_part,
    predicted_part,
    rates_part,
    settings_part,
    stock_part,
    storage_part,
)

# In their order on the page: those that stand side by side where there is room, and those that never do.
NARROW = (
    *(roof_part, depth_part, operator_part, expert_part, bandwidth_part, rates_part, predicted_part, storage_part),
    *(neighbour_part, heat_part),
)
WIDE = (settings_part, stock_part)


def report_html(findings: Findings) -> str:
    """The whole file."""
    title = escape(f"moedge on {findings.machine.board or findings.machine.cpu or findings.machine.architecture}")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style>"
    )
    body = "\n".join(_body(findings, title))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _body(findings: Findings, title: str) -> Iterator[str]:
    yield f"<h1>{title}</h1>"
    what = f"with {findings.model.name}" if findings.model else "without a model"
    yield f'<p class="lead">Measured on {findings.date} in {findings.seconds:.0f} s, {escape(what)}.</p>'
    if findings.others > BUSY:
        yield (
            f'<p class="warn">Other programs kept {findings.others:.1f} cores busy meanwhile, so figures are lower '
            "than this machine's own, and no setting was judged: measure again while nothing else runs.</p>"
        )
    for sentence in findings.discarded:
        yield f'<p class="warn">Throttled: {escape(sentence)}.</p>'
    yield f'<div class="tiles">{"".join(tiles(findings))}</div>'
    yield '<div class="columns">'
    yield from filter(None, (part(findings) for part in NARROW))
    yield "</div>"
    yield from filter(None, (part(findings) for part in WIDE))
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in provenance(findings).items() if v)
    yield f'<section class="card"><h2>The machine</h2><dl>{facts}</dl></section>'
    if findings.left_out:
        items = "".join(f"<li>{escape(each)}</li>" for each in findings.left_out)
        yield f'<section class="card"><h2>Not measured</h2><ul class="note">{items}</ul></section>'
