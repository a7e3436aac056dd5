"""What a classifier asks of its fitted top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from topwork.errors import TopworkError
from topwork.tops.dense_stack import DenseStack
from topwork.types import FloatArray


class Top(Protocol):
    """A fitted top: `DenseStack`, or a scikit-learn classifier behind one method."""

    def probabilities(self, features: FloatArray) -> FloatArray:
        """`(N, K)`, rows sum to 1, of `(N, D)` features."""


@dataclass(frozen=True, eq=False)
class SklearnTop:
    """A fitted scikit-learn classifier as a top; it can predict, but not be saved without pickle."""

    estimator: Any

    def probabilities(self, features: FloatArray) -> FloatArray:
        """`(N, K)`, rows sum to 1, of `(N, D)` features."""
        if len(features) == 0:  # scikit-learn refuses to answer nothing
            return np.empty((0, len(self.estimator.classes_)))
        return np.asarray(self.estimator.predict_proba(features), dtype=np.float64)


def dense_top(top: Top, done: str, error: type[TopworkError]) -> DenseStack:
    """A top as arrays: the only kind that can be 'saved' or 'exported', whichever is to be `done`.

    Raises:
        error: it is another scikit-learn classifier.
    """
    if not isinstance(top, DenseStack):
        kind = type(getattr(top, "estimator", top)).__name__
        raise error(
            f"A {kind} can't be {done} without pickle, which could run code where it is loaded. "
            f"LinearTop, MLPTop and scikit-learn's LogisticRegression can be {done}."
        )
    return top
