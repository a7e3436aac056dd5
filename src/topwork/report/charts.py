"""Numbers as SVG: lines that take their colours from the page, so that they read in light, in dark and in print.

Drawn by hand, not by a plotting library: the text stays text, a chart is three kilobytes, and no training waits for a
library that takes a second to load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 30, 30, 46
_LETTER = 7.2  # about the width of one, in the page's 13 pixels


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, its points, and the class of its stroke in the page's style.

    `marks` draws a dot at each point; `name` may be empty for a line that needs no entry in the legend.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str
    marks: bool = False


@dataclass(frozen=True)
class Point:
    """One named point of a chart, with the ends of its vertical interval."""

    name: str
    x: float
    y: float
    low: float
    high: float
    style: str


@dataclass(frozen=True)
class Chart:
    """Lines and points over two axes.

    Attributes:
        title: what the chart shows, in a sentence, for those who can't see it.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        lines: what is drawn.
        log_x: whether the horizontal axis is logarithmic.
        x_range: the ends of the horizontal axis; None takes those of the data.
        y_range: of the vertical axis, likewise.
        percent: which axes ('x', 'y') hold shares, to be shown as per cent.
        marker: an x to mark with a vertical line, such as the best epoch.
        points: named points, over the lines.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    percent: str = ""
    marker: float | None = None
    points: Sequence[Point] = ()

    def svg(self) -> str:
        """The chart as an `<svg>` element."""
        x_ends = self.x_range or _ends(
            [x for line in self.lines for x in line.x] + [point.x for point in self.points], log=self.log_x
        )
        y_ends = self.y_range or _ends([y for line in self.lines for y in line.y] + _reach(self.points))
        place_x = _scale(x_ends, _LEFT, _WIDTH - _RIGHT, log=self.log_x)
        place_y = _scale(y_ends, _HEIGHT - _BOTTOM, _TOP, log=False)
        parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.title)}">',
            f"<title>{escape(self.title)}</title>",
            *self._axes(x_ends, y_ends, place_x, place_y),
        ]
        if self.marker is not None:
            x = place_x(self.marker)
            parts.append(f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        for line in self.lines:
            points = [(place_x(x), place_y(y)) for x, y in zip(line.x, line.y, strict=True)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline class="{line.style}" points="{path}"/>')
            if line.marks:
                parts += [f'<circle class="{line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]
        parts += self._points(place_x, place_y)
        return "\n".join([*parts, *self._legend(), "</svg>"])

    def _points(self, place_x: Callable[[float], float], place_y: Callable[[float], float]) -> list[str]:
        parts, labels = [], _Labels()
        for point in self.points:
            labels.keep_off(place_x(point.x), place_y(point.y))
        for point in sorted(self.points, key=lambda point: -point.y):
            x, y = place_x(point.x), place_y(point.y)
            ends = f'y1="{place_y(point.low):.1f}" y2="{place_y(point.high):.1f}"'
            parts.append(
                f'<line class="{point.style}" x1="{x:.1f}" x2="{x:.1f}" {ends} style="stroke-dasharray: none"/>'
            )
            parts.append(f'<circle class="{point.style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
            left, baseline = labels.place(x, y, point.name)
            parts.append(f'<text x="{left:.1f}" y="{baseline:.1f}">{escape(point.name)}</text>')
        return parts

    def _axes(
        self,
        x_ends: tuple[float, float],
        y_ends: tuple[float, float],
        place_x: Callable[[float], float],
        place_y: Callable[[float], float],
    ) -> list[str]:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        parts = []
        for tick in _ticks(y_ends):
            y = place_y(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            text = _label(tick, "y" in self.percent)
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for tick in _decades(x_ends) if self.log_x else _ticks(x_ends):
            text = _label(tick, "x" in self.percent)
            parts.append(f'<text x="{place_x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
        middle = (_TOP + bottom) / 2
        parts += [
            f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>',
            f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(self.x_label)}</text>',
            f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(self.y_label)}</text>',
        ]
        return parts

    def _legend(self) -> list[str]:
        named = [line for line in self.lines if line.name]
        if len(named) < 2:
            return []
        parts, x = [], float(_LEFT)
        for line in named:
            parts.append(f'<line class="{line.style}" x1="{x:.0f}" x2="{x + 24:.0f}" y1="12" y2="12"/>')
            parts.append(f'<text x="{x + 30:.0f}" y="16">{escape(line.name)}</text>')
            x += 54 + _LETTER * len(line.name)
        return parts


class _Labels:
    """Where names of points go: beside their point, on the side with room, off other names and points."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float, float, float]] = []

    def keep_off(self, x: float, y: float) -> None:
        self._taken.append((x - 5, y - 5, x + 5, y + 5))

    def place(self, x: float, y: float, name: str) -> tuple[float, float]:
        """The left end and the baseline of the name of the point at (x, y)."""
        width = _LETTER * len(name)
        for rise in (0, 14, -14, 28, -28, 42, -42, 56, -56):
            for left in (x + 8, x - 8 - width):
                box = (left, y - 6 - rise, left + width, y + 6 - rise)
                inside = (
                    left >= _LEFT and left + width <= _WIDTH and box[1] >= _TOP - 10 and box[3] <= _HEIGHT - _BOTTOM
                )
                if inside and not any(_overlap(box, other) for other in self._taken):
                    self._taken.append(box)
                    return left, y + 4 - rise
        return x + 8, y + 4


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _reach(points: Sequence[Point]) -> list[float]:
    return [end for point in points for end in (point.low, point.high)]


def _ends(values: Sequence[float], *, log: bool = False) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high > low:
        return low, high
    return (low / 2, 2 * high) if log else (low - 0.5, high + 0.5)


def _scale(ends: tuple[float, float], start: float, stop: float, *, log: bool) -> Callable[[float], float]:
    low, high = (math.log10(end) for end in ends) if log else ends

    def place(value: float) -> float:
        return start + (stop - start) * ((math.log10(value) if log else value) - low) / (high - low)

    return place


def _ticks(ends: tuple[float, float]) -> list[float]:
    """About six round numbers between two ends."""
    low, high = ends
    raw = (high - low) / 6
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(ends: tuple[float, float]) -> list[float]:
    first, last = math.ceil(math.log10(ends[0]) - 1e-9), math.floor(math.log10(ends[1]) + 1e-9)
    every = max(1, (last - first) // 6)
    decades = [10.0**i for i in range(first, last + 1, every)]
    if len(decades) > 1:
        return decades
    low, high = ends[0] * (1 - 1e-9), ends[1] * (1 + 1e-9)
    return [v for i in range(first - 1, last + 1) for f in (1, 2, 5) if low <= (v := f * 10.0**i) <= high]


def _label(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.3g} %"
    if value and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:,.6g}"
