"""KL against bits as an SVG: a point a method, KL on a logarithmic axis, one colour an engine."""

import html
import math
from collections.abc import Sequence

from fidelity.measuring import Measured

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 560, 70, 150, 40, 50
COLOURS = {"moedge": "#c0392b", "llama.cpp": "#2c5f8a", "ggml": "#6fa8d6", "onnxruntime": "#7a8b3c"}


def picture(measured: Sequence[Measured], title: str) -> str:
    """The SVG of one mixture's methods; ValueError if there is none."""
    if not measured:
        raise ValueError("nothing was measured, so there is nothing to draw")
    bits = [each.bits_per_weight for each in measured]
    kl = [max(each.figures.kl_mean, 1e-9) for each in measured]
    low, high = math.floor(min(bits)), math.ceil(max(bits) + 0.01)
    bottom, top = math.floor(math.log10(min(kl))), math.ceil(math.log10(max(kl)) + 1e-9)

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (top - math.log10(value)) / max(top - bottom, 1) * (HEIGHT - TOP - BOTTOM)

    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, "#000", 15),
        text(LEFT, HEIGHT - 12, "bits a weight, all tensors; upwards: KL(fp32 || quantized), nats a token", "#444"),
    ]
    for tick in range(low, high + 1):
        shapes += [
            rule(x(tick), TOP, x(tick), HEIGHT - BOTTOM),
            text(x(tick) - 3, HEIGHT - BOTTOM + 16, str(tick), "#444"),
        ]
    for power in range(bottom, max(top, bottom + 1) + 1):
        height = y(10.0**power)
        shapes += [rule(LEFT, height, WIDTH - RIGHT, height), text(12, height + 4, f"{10.0**power:g}", "#444")]
    for each, bit, distance in zip(measured, bits, kl, strict=True):
        engine, _, name = each.method.partition(":")
        colour = COLOURS.get(engine, "#000")
        shapes.append(f'<circle cx="{x(bit):.1f}" cy="{y(distance):.1f}" r="4" fill="{colour}"/>')
        shapes.append(text(x(bit) + 7, y(distance) + 4, name, colour))
    for row, (engine, colour) in enumerate(COLOURS.items()):
        shapes.append(text(WIDTH - RIGHT + 60, TOP + 16 * row, engine, colour))
    return "\n".join([*shapes, "</svg>", ""])


def text(x: float, y: float, words: str, colour: str, size: int = 12) -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}">{html.escape(words)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'
