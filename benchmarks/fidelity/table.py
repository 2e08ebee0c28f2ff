"""What was measured as a Markdown table, ratios to one method with their intervals."""

from collections.abc import Sequence

from fidelity.figures import Ratio, ratio
from fidelity.measuring import Measured

HEAD = "| method | bits a weight | file | KL (se) | p99 | top-1 | perplexity | KL over {} | what |"


def ratios(measured: Sequence[Measured], against: str) -> dict[tuple[str, str], Ratio]:
    """By mixture and method, KL over that of `against` on the same mixture, where that was measured."""
    peers = {each.mixture: each for each in measured if each.method == against}
    return {
        (each.mixture, each.method): ratio(each.rows, peers[each.mixture].rows)
        for each in measured
        if each.mixture in peers
    }


def table(measured: Sequence[Measured], against: str) -> str:
    """One table a mixture, the smallest KL first."""
    lines, found = [], ratios(measured, against)
    for mixture in dict.fromkeys(each.mixture for each in measured):
        own = sorted((m for m in measured if m.mixture == mixture), key=lambda m: m.figures.kl_mean)
        first = own[0].figures
        lines += [
            f"**{mixture}**: {first.positions} positions, the reference's perplexity {first.reference_perplexity:.2f}",
            "",
            HEAD.format(against),
            "|---" * HEAD.count(" | ") + "|---|",
            *(line(each, found.get((mixture, each.method))) for each in own),
            "",
        ]
    return "\n".join(lines)


def line(measured: Measured, compared: Ratio | None) -> str:
    """One method's row."""
    f = measured.figures
    size = f"{measured.file_bytes / 1e6:.1f} MB" if measured.file_bytes else "–"
    against = f"{compared.value:.3f} ({compared.low:.3f} – {compared.high:.3f})" if compared else "–"
    cells = [
        measured.method,
        f"{measured.bits_per_weight:.2f}",
        size,
        f"{f.kl_mean:.4f} ({f.kl_error:.4f})",
        f"{f.kl_p99:.3f}",
        f"{f.top1:.1%}",
        f"{f.perplexity:.2f}",
        against,
        measured.note,
    ]
    return f"| {' | '.join(cells)} |"
