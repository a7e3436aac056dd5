"""What our two tops share: checked input, validation examples, and prediction in NumPy."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from topwork.errors import DataError, ShapeError
from topwork.progress import Row
from topwork.tops.dense_stack import DenseStack
from topwork.types import FloatArray, IntArray

ClassWeight: TypeAlias = str | dict[Any, float] | None
"""'balanced', a weight for each label, or None for equal weights."""
OnRow: TypeAlias = Callable[[Row], None]
"""Hears each row of the history as training goes."""

HELD_OUT = 0.1


class DenseTop(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A scikit-learn classifier whose fitted form is a `DenseStack`; abstract.

    Attributes:
        classes_: `(K,)`, the labels it knows, sorted.
        stack_: what was learned.
        val_logits_: `(M, K)`, of the validation examples, by what was learned before they were learned from too.
        history_: one dict a step of training; the columns are the subclass's.
    """

    seed: int
    class_weight: ClassWeight
    classes_: NDArray[Any]
    stack_: DenseStack
    val_logits_: FloatArray
    history_: list[Row]

    @abstractmethod
    def check_options(self) -> None:
        """Raise an `OptionError` if a parameter has a value that it can't have."""

    @abstractmethod
    def _fit(
        self,
        X: FloatArray,
        y: IntArray,
        X_val: FloatArray,
        y_val: IntArray,
        weights: FloatArray,
        on_row: OnRow,
    ) -> tuple[DenseStack, FloatArray]:
        """Learn from features already standardised and labels 0..K-1; `weights` is `(K,)`, one for each class.

        Returns:
            What was learned, and `val_logits_`.
        """

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        on_row: OnRow | None = None,
    ) -> DenseTop:
        """Learn from features and labels.

        Args:
            X: `(N, D)` features.
            y: `(N,)` labels: integers or strings.
            X_val: `(M, D)` validation features; without them a tenth of `X` is held out for validation.
            y_val: `(M,)` their labels.
            on_row: called with each row of `history_` as it comes.

        Raises:
            DataError: fewer than two classes, or a validation label that `y` lacks.
        """
        self.check_options()
        if (X_val is None) != (y_val is None):
            raise ShapeError("Expected both X_val and y_val, or neither.")
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_min_samples=2)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "The number of unique classes"
            )  # few images of many classes are our trade
            check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"Expected two classes at least; all labels are of one class, {self.classes_.tolist()[0]!r}."
            )
        self.history_ = []
        train_x, train_y, val_x, val_y = self._with_validation(np.asarray(X), codes, X_val, y_val)
        mean, scale = _standardisation(train_x)
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        stack, self.val_logits_ = self._fit(
            (train_x - mean) / scale, train_y, (val_x - mean) / scale, val_y, weights, self._recorder(on_row)
        )
        self.stack_ = _fold(stack, mean, scale)
        return self

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """`(N, K)` probabilities of the classes in `classes_`, rows sum to 1."""
        check_is_fitted(self)
        return self.stack_.probabilities(validate_data(self, X, dtype=np.float32, reset=False))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """`(N,)`, the most probable label of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _with_validation(
        self, X: FloatArray, codes: IntArray, X_val: ArrayLike | None, y_val: ArrayLike | None
    ) -> tuple[FloatArray, IntArray, FloatArray, IntArray]:
        if X_val is not None:
            val_x, val_labels = validate_data(self, X_val, y_val, dtype=np.float32, reset=False)
            unknown = np.setdiff1d(val_labels, self.classes_)
            if len(unknown):
                raise DataError(f"Validation has the label {unknown.tolist()[0]!r}, which training lacks.")
            return X, codes, val_x, np.searchsorted(self.classes_, val_labels)
        n_held = max(round(HELD_OUT * len(X)), len(self.classes_))
        if np.bincount(codes).min() < 2 or len(X) - n_held < len(self.classes_):
            return X, codes, X, codes  # too few to hold any out: validation then flatters
        parts = train_test_split(X, codes, test_size=n_held, stratify=codes, random_state=self.seed)
        return parts[0], parts[2], parts[1], parts[3]

    def _recorder(self, on_row: OnRow | None) -> OnRow:
        def record(row: Row) -> None:
            self.history_.append(row)
            if on_row is not None:
                on_row(row)

        return record


def _standardisation(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each feature, float32; a constant feature has the deviation 1."""
    scale = X.std(axis=0, dtype=np.float64)
    mean = X.mean(axis=0, dtype=np.float64)
    scale[scale <= 1e-7 * np.maximum(np.abs(mean), 1e-30)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)


def _fold(stack: DenseStack, mean: FloatArray, scale: FloatArray) -> DenseStack:
    """The stack for plain features that equals `stack` for standardised ones."""
    kernel = stack.kernels[0].astype(np.float64) / scale[:, None]
    bias = stack.biases[0] - mean.astype(np.float64) @ kernel
    kernels = (kernel, *stack.kernels[1:])
    biases = (bias, *stack.biases[1:])
    return DenseStack(tuple(k.astype(np.float32) for k in kernels), tuple(b.astype(np.float32) for b in biases))
