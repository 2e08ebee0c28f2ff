"""Pictures of a report as inline SVG: axes, lines, bars, a heat map. Numbers go in, elements come out.

Colours are the page's (report_style.py), by class, so that pictures follow light and dark. A picture is as wide as a
telephone and is never scaled below what can be read there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40
LINE = 15  # from one line of text to the next


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` over so many pixels from `start`, in powers of ten or evenly."""

    label: str
    low: float
    high: float
    start: float
    end: float
    powers: bool = False

    def place(self, value: float) -> float:
        """Pixels."""
        low, high, at = self.low, self.high, value
        if self.powers:
            low, high, at = (math.log10(max(each, 1e-12)) for each in (low, high, value))
        return self.start + (at - low) / (high - low or 1) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Values that are written beside it."""
        if not self.powers:
            step = _step(self.high - self.low)
            first = math.ceil(self.low / step) * step
            return [first + step * n for n in range(int((self.high - first) / step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        marks = [each * 10.0**power for power in powers for each in (1, 2, 5)]
        marks = [mark for mark in marks if self.low <= mark <= self.high]
        return marks if len(marks) <= 7 else [mark for mark in marks if f"{mark:e}"[0] == "1"]


@dataclass(frozen=True)
class Point:
    """Of a roofline: where it lies, its number in the legend, and which colour of the page's it has."""

    x: float
    y: float
    number: int
    kind: str  # "own", "stock" or "model"


@dataclass(frozen=True)
class Bar:
    """A name, a length, what is written behind it."""

    name: str
    value: float
    text: str


def roofline(
    points: Sequence[Point], bytes_per_s: float, macs_per_s: float, unit: float, labels: tuple[str, str]
) -> str:
    """Products a second by products a byte; nothing is above either roof by more than its spread."""
    xs, ys = [p.x for p in points], [p.y / unit for p in points]
    knee = macs_per_s / bytes_per_s
    left, right = min([0.5, *(0.7 * x for x in xs)]), max([2 * knee, *(1.6 * x for x in xs)])
    x = Axis(labels[0], left, right, LEFT, WIDTH - RIGHT, powers=True)
    low = min([0.7 * bytes_per_s * left / unit, *(0.6 * y for y in ys)])
    y = Axis(labels[1], low, 2 * max([macs_per_s / unit, *ys]), HEIGHT - BOTTOM, TOP, powers=True)
    corner = x.place(knee), y.place(macs_per_s / unit)
    start = x.place(left), y.place(bytes_per_s * left / unit)
    parts = _axes(x, y)
    parts.append(_line([start, corner, (x.place(right), corner[1])], "roof"))
    taken = list[tuple[float, float]]()
    for point in points:
        at = x.place(point.x), y.place(point.y / unit)
        parts.append(f'<circle class="dot {point.kind}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4.5"/>')
        label = _apart((at[0] + 7, at[1] - 6), taken)
        taken.append(label)
        parts.append(_text(*label, str(point.number), "number"))
    return _svg(parts, HEIGHT, f"{labels[1]} by {labels[0]}")


def lines(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    ranges: Sequence[tuple[float, float, float]],
    labels: tuple[str, str],
) -> str:
    """Lines through points, each with a class of the page's; ranges are (x, low, high). The y axis begins at 0."""
    every = [point for _, points in series for point in points]
    xs, ys = [x for x, _ in every], [y for _, y in every] + [high for _, _, high in ranges]
    x = Axis(labels[0], min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT, WIDTH - RIGHT - 8)
    y = Axis(labels[1], 0, 1.08 * max(ys) or 1, HEIGHT - BOTTOM, TOP)
    parts = _axes(x, y, sorted(set(xs)) if len(set(xs)) <= 6 else None)
    for at, low, high in ranges:
        parts.append(_line([(x.place(at), y.place(low)), (x.place(at), y.place(high))], "range"))
    for kind, points in series:
        placed = [(x.place(a), y.place(b)) for a, b in points]
        parts.append(_line(placed, f"series {kind}"))
        parts += [f'<circle class="dot {kind}" cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in placed]
    return _svg(parts, HEIGHT, f"{labels[1]} by {labels[0]}")


def bars(rows: Sequence[Bar], kind: str) -> str:
    """One below the other, the name above each."""
    most = max((bar.value for bar in rows), default=0) or 1
    parts, high = list[str](), 34
    for at, bar in enumerate(rows):
        top = at * high
        width = max(1.0, bar.value / most * (WIDTH - 2))
        parts.append(_text(1, top + 13, bar.name, "name"))
        parts.append(_text(WIDTH - 2, top + 13, bar.text, "value"))
        parts.append(f'<rect class="track" x="0" y="{top + 18}" width="{WIDTH}" height="8" rx="4"/>')
        parts.append(f'<rect class="bar {kind}" x="0" y="{top + 18}" width="{width:.1f}" height="8" rx="4"/>')
    return _svg(parts, high * len(rows), ", ".join(f"{bar.name} {bar.text}" for bar in rows[:8]))


def heat_map(names: Sequence[str], counts: Sequence[Sequence[int]], labels: tuple[str, str]) -> str:
    """A row a layer, a column an expert; the darker the more of the layer's choices. Shares go by each layer's most."""
    columns = max(map(len, counts))
    left, wide = 34, WIDTH - 34 - 10  # half of the last number stands beyond the last column
    tall = max(4.0, min(22.0, 240 / len(counts)))
    each, parts = wide / columns, list[str]()
    for row, (name, layer) in enumerate(zip(names, counts, strict=True)):
        most, top = max(layer) or 1, row * tall
        if tall >= 11 or row % math.ceil(11 / tall) == 0:
            parts.append(_text(left - 5, top + tall / 2 + 4, name, "tick end"))
        for column, count in enumerate(layer):
            shade = f' fill-opacity="{0.06 + 0.94 * count / most:.2f}"' if count else ' class="cold"'
            parts.append(
                f'<rect x="{left + column * each:.2f}" y="{top:.2f}" width="{each:.2f}" height="{tall:.2f}"{shade}/>'
            )
    bottom = len(counts) * tall
    for column in sorted({0, columns // 4, columns // 2, 3 * columns // 4, columns - 1}):
        parts.append(_text(left + (column + 0.5) * each, bottom + 14, str(column), "tick middle"))
    parts.append(_text(left + wide / 2, bottom + 31, labels[0], "label middle"))
    return _svg([f'<g class="heat">{"".join(parts)}</g>'], bottom + 36, f"{labels[1]} by {labels[0]}")


def _axes(x: Axis, y: Axis, marks: Sequence[float] | None = None) -> list[str]:
    parts = list[str]()
    for value in y.ticks:
        at = y.place(value)
        parts.append(_line([(x.start, at), (x.end, at)], "rule"))
        parts.append(_text(x.start - 6, at + 4, _short(value), "tick end"))
    last = -math.inf
    for value in x.ticks if marks is None else marks:
        at = x.place(value)
        parts.append(_line([(at, y.start), (at, y.start + 4)], "axis"))
        if at - last >= 30:  # else the one would be written over the other
            parts.append(_text(at, y.start + LINE + 2, _short(value), "tick middle"))
            last = at
    parts.append(_line([(x.start, y.start), (x.end, y.start)], "axis"))
    parts.append(_text((x.start + x.end) / 2, y.start + 34, x.label, "label middle"))
    middle = (y.start + y.end) / 2
    parts.append(
        f'<text class="label middle" transform="translate(12 {middle:.0f}) rotate(-90)">{escape(y.label)}</text>'
    )
    return parts


def _apart(wanted: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """A place for a number that is not on another one: further up until there is room."""
    x, y = wanted
    while any(abs(x - a) < 12 and abs(y - b) < 12 for a, b in taken):
        y -= 12
    return x, max(y, 10)


def _step(span: float) -> float:
    """Between two ticks: 1, 2 or 5 of a power of ten, for about five of them."""
    rough = (span or 1) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= rough)


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{round(value, 6):g}"


def _line(points: Sequence[tuple[float, float]], kind: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, told: str) -> str:
    """`told` is what is read aloud."""
    view = f'viewBox="0 0 {WIDTH} {height:.0f}"'
    return f'<svg {view} role="img" aria-label="{escape(told)}">{"".join(parts)}</svg>'
