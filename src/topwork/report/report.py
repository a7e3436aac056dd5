"""The report of a training: the verdict in words first, then what it rests on. One file, which loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from topwork.checks.check import DataCheck
from topwork.classifier.predictions import Predictions
from topwork.classifier.record import Training
from topwork.evaluation.confidence import Reliability
from topwork.evaluation.metrics import Evaluation
from topwork.report.charts import Chart, Line
from topwork.report.page import render, unbroken
from topwork.report.pictures import copy_pairs, label_issues, most_confident_mistakes, strange_images
from topwork.report.verdict import headline, sentences

_LARGEST_MATRIX = 30
"""Classes beyond which a confusion matrix can't be read; the commonest confusions stand in its place."""

_CHOICES = {
    "epoch": "There the loss on validation images was lowest.",
    "l2": "It is the strongest L2 whose loss on held-out images can't be told from the lowest.",
}
_ENOUGH = 20
"""Images below which the share of right answers in a bin is mostly chance."""


def report_html(
    training: Training,
    test: Evaluation,
    predictions: Predictions,
    record: dict[str, Any],
    uncalibrated: Reliability | None,
    check: DataCheck | None,
) -> str:
    """The report as an HTML page.

    Args:
        training: how the classifier came about.
        test: how good it is on the test images.
        predictions: its answers on them.
        record: of the run, as in `run.json`.
        uncalibrated: its reliability on them before the temperature; None for tops without one.
        check: what may be wrong with the images; None where it wasn't looked for.
    """
    return render(
        "report.html",
        title=f"{record['data']['origin']}: {100 * test.accuracy.value:.1f} %",
        headline=unbroken(headline(test)),
        sentences=[unbroken(sentence) for sentence in sentences(test)],
        test=test,
        learned=training.n_of_class,
        tested="images" if test.n_folds else "test images",
        record=record,
        history=_history_chart(training),
        held_out=_held_out_words(training),
        choice=_CHOICES["epoch" if training.history and "epoch" in training.history[0] else "l2"],
        reliability=_reliability_chart(test.reliability, uncalibrated),
        uncalibrated=uncalibrated,
        temperature=training.temperature,
        risk=_risk_chart(test),
        matrix=_matrix(test) if len(test.class_names) <= _LARGEST_MATRIX else None,
        mistakes=most_confident_mistakes(training.dataset, predictions),
        bad=training.bad,
        check=check,
        issues=label_issues(training.dataset, check) if check else (),
        pairs=copy_pairs(training.dataset, check) if check else (),
        strange=strange_images(training.dataset, check) if check else (),
    )


def _held_out_words(training: Training) -> str:
    if training.held_out and training.held_out.n_folds > 1:
        return "what it said of each training image before it had learned from it (cross-validation)"
    return "the validation images"


def _history_chart(training: Training) -> str:
    """Loss by epoch, or by L2; nothing for tops that keep no history."""
    rows = training.history
    if len(rows) < 2 or training.best is None:
        return ""
    x_name, x_label = ("epoch", "epoch") if "epoch" in rows[0] else ("l2", "L2 (weaker to the left)")
    x = [row[x_name] for row in rows]
    held_out = "cross-validated" if training.held_out and training.held_out.n_folds > 1 else "validation"
    chart = Chart(
        title=f"Loss on the images that were learned from and on those held out, by {x_name}; the choice is marked.",
        x_label=x_label,
        y_label="log loss",
        lines=[
            Line("training", x, [row["loss"] for row in rows], "plain"),
            Line(held_out, x, [row["val_loss"] for row in rows], "accent"),
        ],
        log_x=x_name == "l2" and min(x) > 0,
        y_range=(0.0, 1.05 * max(max(row["loss"], row["val_loss"]) for row in rows)),
        marker=rows[training.best][x_name],
    )
    return chart.svg()


def _reliability_chart(after: Reliability, before: Reliability | None) -> str:
    lines = [Line("believable", [0, 1], [0, 1], "faint")]
    if before is not None:
        lines.append(Line("before calibration", *_points(before), "plain"))
    lines.append(Line("as it answers", *_points(after), "accent", marks=True))
    return Chart(
        title="How often answers are right, by how probable they were called.",
        x_label="probability it gives",
        y_label="share that is right",
        lines=lines,
        x_range=(0, 1),
        y_range=(0, 1),
        percent="xy",
    ).svg()


def _points(found: Reliability) -> tuple[list[float], list[float]]:
    """Confidence and accuracy of the bins that hold enough images to tell; of all, where none does."""
    told = found.n >= min(_ENOUGH, found.n.max())
    return found.confidence[told].tolist(), found.accuracy[told].tolist()


def _risk_chart(test: Evaluation) -> str:
    curve = test.risk_coverage
    return Chart(
        title="The share of wrong answers when only the surest images are answered.",
        x_label="share of images answered, the surest first",
        y_label="share of wrong answers",
        lines=[Line("", curve.coverage.tolist(), curve.risk.tolist(), "accent")],
        x_range=(0, 1),
        y_range=(0, max(0.01, 1.1 * float(np.max(curve.risk)))),
        percent="xy",
    ).svg()


def _matrix(test: Evaluation) -> Sequence[Sequence[tuple[int, float, bool]]]:
    """For each cell its count, its share of the row, and whether it's on the diagonal."""
    shares = test.confusion / np.maximum(test.confusion.sum(axis=1, keepdims=True), 1)
    return [
        [(int(n), float(share), i == j) for j, (n, share) in enumerate(zip(counts, row, strict=True))]
        for i, (counts, row) in enumerate(zip(test.confusion, shares, strict=True))
    ]
