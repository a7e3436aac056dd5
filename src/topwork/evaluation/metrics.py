"""How good predictions are: metrics of labels and probabilities, with their intervals. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork.errors import DataError, ShapeError
from topwork.evaluation.confidence import Reliability, RiskCoverage, reliability, risk_coverage
from topwork.evaluation.intervals import (
    CROSS_VALIDATED,
    Interval,
    Proportion,
    balanced_accuracy,
    mean_interval,
    proportion,
    roc_auc,
)
from topwork.types import FloatArray, IntArray

TOP_K = (2, 3, 5)
_LARGEST_CONFUSION = 200
"""Classes beyond which JSON leaves the confusion matrix out: a million zeros."""


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
        top_k: k -> the share whose class is among the k most probable, for k of 2, 3, 5 below K.
        log_loss: mean negative log-probability of the true class, in nats; lower is better.
        roc_auc: mean area under the ROC curve, each class against the rest; None where one class alone occurs.
        classes: one result a class that occurs.
        confusion: `(K, K)`, images of class i (row) called class j (column).
        class_names: K names.
        reliability: whether the probabilities may be believed.
        risk_coverage: how often answers are wrong when only the surest are given.
        n_folds: in how many folds they were tested, each image by a top that had learned from the other folds; 0 where
            one top, which had seen none of them, tested all.
        n_bad: images left out because they could not be read.
    """

    n: int
    accuracy: Proportion
    balanced_accuracy: Interval
    top_k: dict[int, Proportion]
    log_loss: Interval
    roc_auc: Interval | None
    classes: tuple[ClassResult, ...]
    confusion: IntArray
    class_names: tuple[str, ...]
    reliability: Reliability
    risk_coverage: RiskCoverage
    n_folds: int = 0
    n_bad: int = 0

    @property
    def tested_on(self) -> str:
        """Which images, and that nothing had learned from them, in words that end a sentence."""
        if not self.n_folds:
            return f"{self.n:,} images that training never saw"
        by = f"each answered by a top that had not learned from it ({self.n_folds}-fold cross-validation)"
        return f"{self.n:,} images, {by}"

    @property
    def most_confused(self) -> tuple[tuple[str, str, int], ...]:
        """(true class, class it was called, how many images), the most frequent mistakes first; ten at most."""
        mistakes = self.confusion.copy()
        np.fill_diagonal(mistakes, 0)
        order = np.argsort(-mistakes, axis=None, kind="stable")[:10]
        pairs = zip(*np.unravel_index(order, mistakes.shape), strict=True)
        return tuple(
            (self.class_names[i], self.class_names[j], int(mistakes[i, j])) for i, j in pairs if mistakes[i, j]
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "n": self.n,
            "n_folds": self.n_folds,
            "accuracy": self.accuracy.as_dict(),
            "balanced_accuracy": self.balanced_accuracy.as_dict(),
            "top_k": {str(k): value.as_dict() for k, value in self.top_k.items()},
            "log_loss": self.log_loss.as_dict(),
            "roc_auc": self.roc_auc.as_dict() if self.roc_auc else None,
            "reliability": self.reliability.as_dict(),
            "risk_coverage": self.risk_coverage.as_dict(),
            "classes": [
                {
                    "name": result.name,
                    "n": result.n,
                    "recall": result.recall.as_dict(),
                    "precision": result.precision.as_dict() if result.precision else None,
                    "f1": result.f1,
                }
                for result in self.classes
            ],
            "most_confused": [list(pair) for pair in self.most_confused],
            "confusion": self.confusion.tolist() if len(self.class_names) <= _LARGEST_CONFUSION else None,
            "class_names": list(self.class_names),
            "n_bad": self.n_bad,
        }


def evaluate_probabilities(
    labels: IntArray, probabilities: FloatArray, class_names: tuple[str, ...], *, n_folds: int = 0, n_bad: int = 0
) -> Evaluation:
    """Metrics of predictions on N images; on images the top was trained on they are too high.

    Args:
        labels: `(N,)`, integers in 0..K-1.
        probabilities: `(N, K)`, rows sum to 1.
        class_names: K names.
        n_folds: 0 where one top was tested; of a cross-validated test how many folds there were: its intervals are
            wider, since the folds' tops share most of what they learned from.
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
    inflation = CROSS_VALIDATED if n_folds else 1.0
    every_class = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predicted, labels=every_class)
    results = tuple(
        _class_result(name, i, confusion, inflation) for i, name in enumerate(class_names) if confusion[i].sum()
    )
    true = probabilities[np.arange(len(labels)), labels]
    n_of_class = confusion.sum(axis=1)
    occurs = n_of_class > 0
    tied_before = (probabilities == true[:, None]) & (every_class < labels[:, None])  # argmax takes the first
    place = np.sum((probabilities > true[:, None]) | tied_before, axis=1)  # classes more probable than the true one
    return Evaluation(
        n=len(labels),
        accuracy=proportion(int(np.trace(confusion)), len(labels), inflation=inflation),
        balanced_accuracy=balanced_accuracy(np.diag(confusion)[occurs], n_of_class[occurs], inflation=inflation),
        top_k={
            k: proportion(int(np.sum(place < k)), len(labels), inflation=inflation)
            for k in TOP_K
            if k < len(class_names)
        },
        log_loss=mean_interval(-np.log(np.maximum(true, np.finfo(np.float64).tiny)), inflation=inflation),
        roc_auc=roc_auc(labels, probabilities, inflation=inflation),
        classes=results,
        confusion=confusion,
        class_names=class_names,
        reliability=reliability(labels, probabilities),
        risk_coverage=risk_coverage(predicted == labels, probabilities.max(axis=1)),
        n_folds=n_folds,
        n_bad=n_bad,
    )


def _class_result(name: str, i: int, confusion: IntArray, inflation: float) -> ClassResult:
    right, n, called = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
    return ClassResult(
        name=name,
        n=n,
        recall=proportion(right, n, inflation=inflation),
        precision=proportion(right, called, inflation=inflation) if called else None,
        f1=2 * right / (n + called),
    )
