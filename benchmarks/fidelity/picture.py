"""KL against bits as an SVG: a point a method, KL on a logarithmic axis, one colour an engine."""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fidelity.measuring import Measured

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 560, 60, 130, 40, 50
COLOURS = {"moedge": "#c0392b", "llama.cpp": "#2c5f8a", "ggml": "#6fa8d6", "onnxruntime": "#7a8b3c"}
LETTER, LINE = 7, 13  # of a label, in pixels
# How far below its point's height a label may stand, the best place first.
SHIFTS = (0, LINE, -LINE, 2 * LINE, -2 * LINE, 3 * LINE, -3 * LINE)


@dataclass(frozen=True)
class Axis:
    """From a span of values to a span of pixels."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a value is."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def picture(measured: Sequence[Measured], title: str) -> str:
    """The SVG of one mixture's methods; ValueError if there is none."""
    if not measured:
        raise ValueError("nothing was measured, so there is nothing to draw")
    bits = [each.bits_per_weight for each in measured]
    kl = [math.log10(max(each.figures.kl_mean, 1e-9)) for each in measured]
    x = Axis(math.floor(4 * min(bits)) / 4, math.ceil(4 * max(bits) + 0.01) / 4, LEFT, WIDTH - RIGHT)
    y = Axis(min(kl) - 0.1, max(kl) + 0.1, HEIGHT - BOTTOM, TOP)
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, "#000", 15),
        text(LEFT, HEIGHT - 12, "bits a weight, all tensors; upwards: KL(fp32 || quantized), nats a token", "#444"),
    ]
    for tick in range(math.ceil(x.low), math.floor(x.high) + 1):
        shapes += [
            rule(x.place(tick), TOP, x.place(tick), HEIGHT - BOTTOM),
            text(x.place(tick) - 3, HEIGHT - BOTTOM + 16, str(tick), "#444"),
        ]
    for value in ticks(10**y.low, 10**y.high):
        height = y.place(math.log10(value))
        shapes += [rule(LEFT, height, WIDTH - RIGHT, height), text(8, height + 4, f"{value:g}", "#444")]
    points = [(x.place(bit), y.place(distance)) for bit, distance in zip(bits, kl, strict=True)]
    taken = [(px - 4, py - 4, px + 4, py + 4) for px, py in points]
    for each, (px, py) in zip(measured, points, strict=True):
        engine, _, name = each.method.partition(":")
        colour = COLOURS.get(engine, "#000")
        dx, dy = free_place(px, py, LETTER * len(name), taken)
        shapes.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"/>')
        shapes.append(text(px + dx, py + dy, name, colour))
    for row, (engine, colour) in enumerate(COLOURS.items()):
        shapes.append(text(WIDTH - RIGHT + 40, TOP + 16 * row, engine, colour))
    return "\n".join([*shapes, "</svg>", ""])


def ticks(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 times powers of ten between two numbers."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        yield from (part * 10.0**power for part in (1, 2, 5) if low <= part * 10.0**power <= high)


def free_place(x: float, y: float, width: float, taken: list[tuple[float, float, float, float]]) -> tuple[float, float]:
    """Where to put a label of that width beside a point so that it covers nothing in `taken`, which it joins."""
    places = [(dx, 4.0 + shift) for shift in SHIFTS for dx in (7, -7 - width)]
    boxes = [(x + dx, y + dy - LINE + 2, x + dx + width, y + dy + 2) for dx, dy in places]
    covered = [sum(overlap(box, other) for other in taken) for box in boxes]
    best = covered.index(min(covered))
    taken.append(boxes[best])
    return places[best]


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """The area that two boxes (left, top, right, bottom) share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def text(x: float, y: float, words: str, colour: str, size: int = 12) -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}">{html.escape(words)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'
