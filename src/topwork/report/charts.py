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
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 14, 30, 46
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
class Chart:
    """Lines over two axes.

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

    def svg(self) -> str:
        """The chart as an `<svg>` element."""
        x_ends = self.x_range or _ends([x for line in self.lines for x in line.x], log=self.log_x)
        y_ends = self.y_range or _ends([y for line in self.lines for y in line.y])
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
        return "\n".join([*parts, *self._legend(), "</svg>"])

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
    return [10.0**i for i in range(first, last + 1, every)]


def _label(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.3g} %"
    if value and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:,.6g}"
