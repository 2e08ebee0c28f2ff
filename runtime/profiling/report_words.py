"""Small parts of a report's page: cards, tables, figures in words."""

from collections.abc import Sequence
from html import escape

from moedge.runtime.profiling.timing import Measured

GIGA = 1e9
ROOMY = 4  # columns, from which on a table is not squeezed into a telephone
UNITS = {"bytes_per_s": (1e9, "GB/s"), "macs_per_s": (1e9, "GMAC/s"), "_s": (1e-6, "µs")}
MEANINGS = {
    "weights_bytes_per_s": "weights a token reads",
    "prompt_macs_per_s": "a prompt's products",
    "cache_bytes_per_s": "keys and values a token reads",
    "attention_macs_per_s": "attention of one token",
    "prompt_attention_macs_per_s": "attention of a prompt",
    "layer_s": "a layer beside its products",
    "step_s": "choosing a token",
    "fused_weights_bytes_per_s": "weights a token reads, ONNX Runtime",
    "fused_prompt_macs_per_s": "a prompt's products, ONNX Runtime",
}
SETTINGS = {
    "decode_threads": "threads to decode",
    "prefill_threads": "threads for prompts",
    "affinity": "cores",
    "awake_us": "µs a thread waits awake",
}


def card(title: str, content: str, note: str = "") -> str:
    """A section of the page; `content` and `note` are HTML."""
    said = f'<p class="note">{note}</p>' if note else ""
    return f'<section class="card"><h2>{escape(title)}</h2>{content}{said}</section>'


def tile(figure: str, what: str) -> str:
    """A figure and what it is."""
    return f"<div><b>{escape(figure)}</b><span>{escape(what)}</span></div>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    """Texts, of which those in the columns `numbers` stand to the right."""

    def cell(tag: str, at: int, text: str) -> str:
        kind = "n" if at in numbers else "yes" if text == "kept" else ""
        return f"<{tag}{f' class={kind}' if kind else ''}>{escape(text)}</{tag}>"

    top = f"<tr>{''.join(cell('th', at, text) for at, text in enumerate(heads))}</tr>" if heads else ""
    body = "".join(f"<tr>{''.join(cell('td', at, text) for at, text in enumerate(row))}</tr>" for row in rows)
    roomy = ' class="roomy"' if rows and len(rows[0]) > ROOMY else ""
    return f'<div class="scroll"><table{roomy}>{top}{body}</table></div>'


def spelt_range(measured: Measured, unit: float, text: str) -> str:
    """Median, least and most."""
    return f"{measured.median / unit:.1f} {text} ({measured.low / unit:.1f}–{measured.high / unit:.1f})"


def told(value: float | None, unit: str) -> str:
    """A number, if there is one."""
    return "not told" if value is None else f"{value:.0f} {unit}"


def spelt_size(nbytes: int) -> str:
    """Bytes."""
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"
