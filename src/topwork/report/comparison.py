"""A comparison of networks as a page."""

from __future__ import annotations

import math

from topwork.evaluation.comparison import Comparison
from topwork.progress import duration
from topwork.report.charts import Chart, Line, Point
from topwork.report.page import render, unbroken


def comparison_html(comparison: Comparison, origin: str, following: str) -> str:
    """The page: the advice, accuracy against time, and the numbers.

    Args:
        comparison: what was measured.
        origin: what the user named as data.
        following: the command to go on with.
    """
    return render(
        "comparison.html",
        title=f"{origin}: which network",
        origin=origin,
        advice=unbroken(comparison.advice),
        comparison=comparison,
        stayed=[backbone for backbone in comparison.backbones if not backbone.dropped_for],
        dropped=[backbone for backbone in comparison.backbones if backbone.dropped_for],
        chart=_chart(comparison),
        took=duration(comparison.seconds),
        saved=duration(comparison.seconds_saved),
        following=following,
    )


def _chart(comparison: Comparison) -> str:
    stayed = [backbone for backbone in comparison.backbones if not backbone.dropped_for]
    front = sorted((b for b in stayed if b.is_on_front), key=lambda backbone: backbone.milliseconds)
    times = [backbone.milliseconds for backbone in stayed]
    return Chart(
        title="Accuracy of each network against the time it takes for an image.",
        x_label="milliseconds an image, on this machine",
        y_label="cross-validated accuracy",
        lines=[Line("", [b.milliseconds for b in front], [b.accuracy.value for b in front], "faint")],
        points=[
            Point(
                backbone.title,
                backbone.milliseconds,
                backbone.accuracy.value,
                backbone.accuracy.low,
                backbone.accuracy.high,
                "accent" if backbone is comparison.recommended else "plain",
            )
            for backbone in stayed
        ],
        log_x=True,
        x_range=(_round_down(0.8 * min(times)), 1.3 * max(times)),
        percent="y",
    ).svg()


def _round_down(value: float) -> float:
    step = 10.0 ** math.floor(math.log10(value))
    return step * math.floor(value / step)
