"""What the labels teach so far: a top, what it says of every image, how good it is, and what more labels bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from topwork.data.splits import deal_folds, find_units
from topwork.evaluation.intervals import CROSS_VALIDATED, Proportion, proportion
from topwork.memory import Rows, blocks
from topwork.tops.dense_stack import softmax
from topwork.types import DigestArray, FloatArray, IntArray

_SIZES = (10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000)
"""Numbers of labels at which the curve is drawn."""
_FEWEST_SIZES = 4
_FARTHEST = 20
"""Times the labels that there are, beyond which the curve is not drawn on."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Labelled images, in the order in which they were labelled; of copies one.

    Attributes:
        rows: `(L,)`, of the features.
        labels: `(L,)`, integers in 0..K-1.
        digests: `(L,)`, of the images.
        is_drawn: `(L,)` booleans, whether the image was drawn by chance.
        class_names: K names.
    """

    rows: IntArray
    labels: IntArray
    digests: DigestArray
    is_drawn: IntArray
    class_names: tuple[str, ...]

    def first(self, n: int) -> Lesson:
        """What was known after `n` labels."""
        return Lesson(self.rows[:n], self.labels[:n], self.digests[:n], self.is_drawn[:n], self.class_names)

    @property
    def is_enough(self) -> bool:
        """Whether two classes have an image."""
        return len(np.unique(self.labels)) > 1


@dataclass(frozen=True, eq=False)
class Learned:
    """A top on a lesson.

    Attributes:
        kernel: `(D, K)` float32; of a class without images all 0.
        bias: `(K,)` float32; of a class without images minus infinity.
        held_out: `(L, K)`, what tops that had not learned from an image said of it; 0 where none could.
    """

    kernel: FloatArray
    bias: FloatArray
    held_out: FloatArray

    def probabilities(self, features: FloatArray | Rows) -> FloatArray:
        """`(N, K)` float32, calibrated, of `(N, D)` features."""
        result = np.empty((len(features), len(self.bias)), np.float32)
        for rows in blocks(features):
            result[rows] = softmax(features[rows] @ self.kernel + self.bias)
        return result


def learn(features: FloatArray, lesson: Lesson) -> Learned:
    """A linear top on a lesson in which two classes have an image."""
    # scikit-learn takes a second or more to load: the page is up before
    from topwork.tops.linear import COARSE_L2_VALUES, COARSE_TOLERANCE, FOLDS, LinearTop

    folds = deal_folds(lesson.labels, find_units(lesson.digests), FOLDS)
    top = LinearTop(COARSE_L2_VALUES, tol=COARSE_TOLERANCE)
    top.fit(Rows(features, lesson.rows), lesson.labels, folds=folds)
    stack, n_classes = top.stack_.divided_by(top.temperature_), len(lesson.class_names)
    kernel = np.zeros((features.shape[1], n_classes), np.float32)
    bias = np.full(n_classes, -np.inf, np.float32)
    kernel[:, top.classes_], bias[top.classes_] = stack.kernels[0], stack.biases[0]
    held_out = np.zeros((len(lesson.rows), n_classes))
    if top.n_folds_:
        found = softmax(top.held_out_logits_ / top.temperature_)
        held_out[top.held_out_rows_[:, None], top.classes_[None]] = found
    return Learned(kernel, bias, held_out)


def is_right(learned: Learned, lesson: Lesson) -> IntArray:
    """`(L,)` booleans, of each labelled image, whether tops that had not learned from it were right."""
    there = learned.held_out.any(axis=1)
    return np.asarray((learned.held_out.argmax(axis=1) == lesson.labels) & there)


def accuracy_of(right: IntArray) -> Proportion:
    """The share of right answers, of one image at least, with its interval."""
    return proportion(int(right.sum()), len(right), inflation=CROSS_VALIDATED)


def draw_curve(features: FloatArray, lesson: Lesson, stops: Callable[[], bool]) -> list[tuple[int, float]] | None:
    """Numbers of labels, and the accuracy that they gave on all that are labelled now; None if `stops` says so.

    Images that a top learned from are judged as in `is_right`, the others by the top.
    """
    n, points = len(lesson.rows), []
    for size in [*(size for size in _SIZES if size < n), n]:
        part = lesson.first(size)
        if stops():
            return None
        if not part.is_enough:
            continue
        learned = learn(features, part)
        later = learned.probabilities(Rows(features, lesson.rows[size:])).argmax(axis=1) == lesson.labels[size:]
        points.append((size, float((is_right(learned, part).sum() + later.sum()) / n)))
    return points


def advice_of(points: list[tuple[int, float]]) -> str | None:
    """How many more labels would bring a point, in a sentence; None where there is no curve yet."""
    if len(points) < _FEWEST_SIZES:
        return None
    from topwork.evaluation.learning_curve import fit_power_law

    sizes, accuracy = np.array([n for n, _ in points]), np.array([value for _, value in points])
    curve = fit_power_law(sizes, accuracy, np.sqrt(sizes / sizes[-1]) * 100)
    n, now = int(sizes[-1]), curve(float(sizes[-1]))
    more = next((m for m in np.geomspace(n * 1.01, n * _FARTHEST, 200) if curve(m) >= now + 0.01), None)
    if more is None:
        return "More labels would hardly help: another backbone may."
    needed = max(1, int(more) - n)
    step = 10 ** max(0, len(str(needed)) - 2)
    return f"About {-(-needed // step) * step:,} more labels for +1 point."
