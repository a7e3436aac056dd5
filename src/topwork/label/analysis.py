"""What was worked out from the labels at some moment: predictions, how good they are, what to label next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topwork.label.choosing import choose, margin_uncertainty
from topwork.label.learning import Lesson, accuracy_of, is_right, learn
from topwork.label.review import Finding, findings_of_labels
from topwork.memory import Rows
from topwork.types import FloatArray, IntArray
from topwork.words import counted

DRAWN = 10
"""One in so many labels is of an image drawn by chance."""
QUEUE = 16
FEWEST_TO_TELL = 10
"""Labels from which on an accuracy is shown."""
FEWEST_FOR_UNCERTAINTY = 100
"""Labels from which on uncertainty counts. CIFAR-10 with the starter, two or three draws, after 200 and 400 labels:
68.6 and 71.5 %; never 67.7 and 71.0; from 50 labels on 66.9 and 71.4."""
DRAWN_WHY = "drawn by chance, for an honest estimate"
_TYPICAL = "typical of many images, and unlike those with a label"
_UNCERTAIN = "the present classifier is unsure of it and of images like it"
_SURE = 0.9


@dataclass(frozen=True)
class Suggestion:
    """An image to label next."""

    id: int
    why: str
    is_drawn: bool = False


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was worked out from the labels at some moment, for images 0..N-1 of then.

    Attributes:
        class_names: K names.
        predicted: `(N,)`, the most probable class of each image; -1 where there is none.
        certainty: `(N,)`, its probability.
        queue: which images to label next.
        accuracy: the estimate, for `/api/state`; None where it can't be told.
        findings: of labels.
    """

    class_names: tuple[str, ...] = ()
    predicted: Any = field(default_factory=lambda: np.empty(0, np.int64))
    certainty: Any = field(default_factory=lambda: np.empty(0, np.float32))
    queue: tuple[Suggestion, ...] = ()
    accuracy: dict[str, Any] | None = None
    findings: tuple[Finding, ...] = ()

    def of(self, place: int) -> tuple[str | None, float | None]:
        """The predicted class of an image and its probability, or None twice."""
        if place >= len(self.predicted) or self.predicted[place] < 0:
            return None, None
        return self.class_names[self.predicted[place]], float(self.certainty[place])


def analyse(
    features: FloatArray, ready: IntArray, is_open: IntArray, lesson: Lesson, *, n_drawn: int, order: IntArray
) -> Analysis:
    """Fit a top on the labels, ask it about every image, and choose what to label next.

    Args:
        features: `(N, D)` float32.
        ready: the rows whose features are there.
        is_open: those of them that want a label.
        lesson: the labels.
        n_drawn: how many labelled images were drawn by chance.
        order: `(M,)`, images in the order in which they are drawn.
    """
    n, n_labelled = len(features), len(lesson.rows)
    predicted, certainty = np.full(n, -1), np.zeros(n, np.float32)
    uncertainty, accuracy = None, None
    findings: tuple[Finding, ...] = ()
    if lesson.is_enough:
        learned = learn(features, lesson)
        probabilities = learned.probabilities(Rows(features, ready))
        predicted[ready], certainty[ready] = probabilities.argmax(axis=1), probabilities.max(axis=1)
        if n_labelled >= FEWEST_TO_TELL:
            accuracy = _estimate(is_right(learned, lesson), lesson)
        findings = tuple(findings_of_labels(lesson, learned.held_out, _SURE))
        if n_labelled >= FEWEST_FOR_UNCERTAINTY:
            uncertainty = np.zeros(n, np.float32)
            uncertainty[ready] = margin_uncertainty(probabilities)
    chosen = choose(features, is_open, lesson.rows, QUEUE, uncertainty=uncertainty)
    why = _TYPICAL if uncertainty is None else _UNCERTAIN
    queue = [Suggestion(int(place), why) for place in chosen]
    by_chance = (int(i) for i in order[np.isin(order, is_open)])
    for at in range(len(queue)):
        if (n_labelled + at) // DRAWN > n_drawn:
            drawn = next(by_chance, None)
            if drawn is None:
                break
            queue = [one for one in queue if one.id != drawn]
            queue.insert(at, Suggestion(drawn, DRAWN_WHY, True))
            n_drawn += 1
    return Analysis(lesson.class_names, predicted, certainty, tuple(queue), accuracy, findings)


def most_alike(features: FloatArray, is_ready: Any, place: int) -> Any:
    """The other ready rows, those first whose difference from the mean points most as that of `place` does."""
    sample = np.flatnonzero(is_ready)[:: max(1, int(is_ready.sum()) // 2000)]
    mean = features[sample].mean(axis=0)
    mine = features[place] - mean
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are not ready hold anything
        length = np.einsum("nd,nd->n", features, features) - 2 * (features @ mean) + mean @ mean
        likeness = (features @ mine - mean @ mine) / np.sqrt(np.maximum(length, 1e-12))
    likeness = np.where(is_ready, likeness, -np.inf)
    order = np.argsort(-likeness, kind="stable")[: int(is_ready.sum())]
    return order[order != place]


def _estimate(right: Any, lesson: Lesson) -> dict[str, Any]:
    every, n_drawn = accuracy_of(right), int(lesson.is_drawn.sum())
    drawn = accuracy_of(right[lesson.is_drawn]) if n_drawn else None
    note = (
        "Cross-validated. The page chose most of these images for what they teach, so the figure may be too low or too "
        f"high; {counted(n_drawn, 'image')} drawn by chance tell honestly, as far as so few can."
    )
    values = {"accuracy": every.value, "low": every.low, "high": every.high, "images": every.n}
    random = None if drawn is None else {"accuracy": drawn.value, "low": drawn.low, "high": drawn.high}
    return {**values, "random_images": n_drawn, "random": random, "note": note}
