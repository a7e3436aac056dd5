"""How good predictions are: metrics of labels and probabilities, with their intervals. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork.errors import DataError, ShapeError
from topwork.types import FloatArray, IntArray


@dataclass(frozen=True)
class Proportion:
    """A share of n with its 95 % interval, all in 0..1.

    The interval is Wilson's (1927, doi 10.1080/01621459.1927.10502953). It holds for new images drawn as these
    were; it knows nothing of images from elsewhere.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class ClassResult:
    """How one class came out. `precision` is None where nothing was called by its name."""

    name: str
    n: int
    recall: Proportion
    precision: Proportion | None
    f1: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a classifier is on some images.

    Attributes:
        n: the number of images.
        accuracy: the share answered right.
        balanced_accuracy: the mean recall of the classes that occur; what counts when classes are unequal.
        log_loss: mean negative log-probability of the true class, in nats.
        classes: one result a class that occurs.
        confusion: `(K, K)`, images of class i (row) called class j (column).
        class_names: K names.
        n_bad: images left out because they could not be read.
    """

    n: int
    accuracy: Proportion
    balanced_accuracy: float
    log_loss: float
    classes: tuple[ClassResult, ...]
    confusion: IntArray
    class_names: tuple[str, ...]
    n_bad: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "n": self.n,
            "accuracy": _proportion_dict(self.accuracy),
            "balanced_accuracy": self.balanced_accuracy,
            "log_loss": self.log_loss,
            "classes": [
                {
                    "name": result.name,
                    "n": result.n,
                    "recall": _proportion_dict(result.recall),
                    "precision": _proportion_dict(result.precision) if result.precision else None,
                    "f1": result.f1,
                }
                for result in self.classes
            ],
            "confusion": self.confusion.tolist(),
            "class_names": list(self.class_names),
            "n_bad": self.n_bad,
        }


def evaluate_probabilities(
    labels: IntArray, probabilities: FloatArray, class_names: tuple[str, ...], *, n_bad: int = 0
) -> Evaluation:
    """Metrics of predictions on N images; on images the top was trained on they flatter.

    Args:
        labels: `(N,)`, integers in 0..K-1.
        probabilities: `(N, K)`, rows sum to 1.
        class_names: K names.
        n_bad: images left out because they could not be read, for the record.

    Raises:
        DataError: no images.
        ShapeError: the arrays do not describe the same N images and K classes.
    """
    from sklearn import metrics

    if len(labels) == 0:
        raise DataError("There are no images to evaluate on.")
    if probabilities.shape != (len(labels), len(class_names)):
        raise ShapeError(
            f"Expected probabilities of shape {(len(labels), len(class_names))}, got {probabilities.shape}."
        )
    every_class = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predicted, labels=every_class)
    results = tuple(_class_result(name, i, confusion) for i, name in enumerate(class_names) if confusion[i].sum())
    true = probabilities[np.arange(len(labels)), labels]
    return Evaluation(
        n=len(labels),
        accuracy=proportion(int(np.trace(confusion)), len(labels)),
        balanced_accuracy=float(np.mean([result.recall.value for result in results])),
        log_loss=float(-np.mean(np.log(np.maximum(true, np.finfo(np.float64).tiny)))),
        classes=results,
        confusion=confusion,
        class_names=class_names,
        n_bad=n_bad,
    )


def proportion(n_right: int, n: int) -> Proportion:
    """`n_right` of `n` as a proportion with its interval."""
    from scipy.stats import binomtest

    interval = binomtest(n_right, n).proportion_ci(method="wilson")
    return Proportion(n_right / n, float(interval.low), float(interval.high), n)


def _class_result(name: str, i: int, confusion: IntArray) -> ClassResult:
    right, n, called = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    return ClassResult(
        name=name,
        n=n,
        recall=proportion(right, n),
        precision=proportion(right, called) if called else None,
        f1=2 * right / (n + called),
    )


def _proportion_dict(value: Proportion) -> dict[str, float]:
    return {"value": value.value, "low": value.low, "high": value.high, "n": value.n}
