"""A learning curve as a page."""

from __future__ import annotations

from topwork.backbones.backbone import Backbone
from topwork.evaluation.learning_curve import LearningCurve
from topwork.report.charts import Chart, Line
from topwork.report.page import render, unbroken


def curve_html(curve: LearningCurve, backbone: Backbone, origin: str) -> str:
    """The page: the advice, the curve drawn on to four times the images, and its numbers."""
    facts = curve.as_dict()
    rows = [{**row, "expected": False} for row in facts["measured"]]
    rows += [{**row, "expected": True} for row in facts["expected"]]
    return render(
        "curve.html",
        title=f"{origin}: learning curve",
        origin=origin,
        backbone=backbone,
        advice=unbroken(curve.advice),
        curve=curve,
        chart=_chart(curve),
        rows=rows,
    )


def _chart(curve: LearningCurve) -> str:
    n, accuracy = curve.n.tolist(), curve.accuracy.tolist()
    ahead = list(curve.ahead.items())
    later = [n[-1], *(n for n, _ in ahead)]
    low = [*curve.low.tolist(), *(interval.low for _, interval in ahead)]
    high = [*curve.high.tolist(), *(interval.high for _, interval in ahead)]
    everywhere = [*n, *later[1:]]
    return Chart(
        title="Test accuracy by number of training images, and where it points.",
        x_label="training images",
        y_label="test accuracy",
        lines=[
            Line("", everywhere, low, "faint"),
            Line("", everywhere, high, "faint"),
            Line("expected", later, [accuracy[-1], *(interval.value for _, interval in ahead)], "plain"),
            Line("measured", n, accuracy, "accent", marks=True),
        ],
        log_x=True,
        percent="y",
    ).svg()
