"""What our two tops share: checked input, validation examples, and prediction in NumPy."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from topwork.errors import DataError, ShapeError
from topwork.memory import Rows, blocks, new_array
from topwork.progress import Row
from topwork.tops.dense_stack import DenseStack
from topwork.types import FloatArray, IntArray

ClassWeight: TypeAlias = str | dict[Any, float] | None
"""'balanced', a weight for each label, or None for equal weights."""
OnRow: TypeAlias = Callable[[Row], None]
"""Hears each row of the history as training goes."""

HELD_OUT = 0.1
LEAST_SPREAD = 0.01
"""No feature is divided by less than this part of the features' spread as a whole (the root mean square)."""
_PRECISIONS = (np.float32, np.float64)
"""What features are taken as they are in."""


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
        train: slice,
        validation: slice,
        weights: FloatArray,
        on_row: OnRow,
    ) -> tuple[DenseStack, FloatArray]:
        """Learn from features already standardised and labels 0..K-1.

        Args:
            X: `(N, D)`, training examples, then those for validation; it may be written over.
            y: `(N,)`.
            train: which of them are for training.
            validation: which are for validation; all of them are for both where there are too few.
            weights: `(K,)`, one for each class.
            on_row: hears each row of the history.

        Returns:
            What was learned, and `val_logits_`.
        """

    def fit(
        self,
        X: ArrayLike | Rows,
        y: ArrayLike,
        *,
        X_val: ArrayLike | Rows | None = None,
        y_val: ArrayLike | None = None,
        on_row: OnRow | None = None,
    ) -> DenseTop:
        """Learn from features and labels.

        Takes memory for one float32 copy of all these features, and little else. Where that has no room, the copy
        lies in a file of the cache folder, and all takes as long as reading it again and again does.

        Args:
            X: `(N, D)` features; `Rows` of a larger array are not copied out of it first.
            y: `(N,)` labels: integers or strings.
            X_val: `(M, D)` validation features; without them a tenth of `X` is held out for validation.
            y_val: `(M,)` their labels.
            on_row: called with each row of `history_` as it comes.

        Raises:
            DataError: fewer than two classes, or a validation label that `y` lacks.
            StorageError: neither memory nor the disk has room for the copy.
        """
        self.check_options()
        if (X_val is None) != (y_val is None):
            raise ShapeError("Expected both X_val and y_val, or neither.")
        X, y = self._checked(X, y)
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
        parts = self._with_validation(X, codes, X_val, y_val)
        mean, scale = standardisation(parts[0][0])
        standard = _standardised([features for features, _ in parts], mean, scale)
        labels = np.concatenate([labels for _, labels in parts])
        train = slice(0, len(parts[0][1]))
        validation = slice(train.stop, len(labels)) if len(parts) > 1 else train
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        stack, self.val_logits_ = self._fit(standard, labels, train, validation, weights, self._recorder(on_row))
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

    def _checked(
        self, X: ArrayLike | Rows, y: ArrayLike, *, reset: bool = True
    ) -> tuple[FloatArray | Rows, NDArray[Any]]:
        """Features and labels as scikit-learn wants them, and not copied if they are so already."""
        if not isinstance(X, Rows):
            return validate_data(  # type: ignore[no-any-return]
                self, X, y, dtype=_PRECISIONS, reset=reset, ensure_min_samples=2 if reset else 1
            )
        labels = np.asarray(y)
        if labels.shape != (len(X),):
            raise ShapeError(f"Expected {len(X):,} labels for as many rows; got labels of shape {labels.shape}.")
        for rows in blocks(X):  # of the larger array, only these: there may be many times as many others
            validate_data(self, X[rows], dtype=_PRECISIONS, reset=reset)
        return X, labels

    def _with_validation(
        self, X: FloatArray | Rows, codes: IntArray, X_val: ArrayLike | Rows | None, y_val: ArrayLike | None
    ) -> list[tuple[FloatArray | Rows, IntArray]]:
        """Features and labels for training, and those for validation, unless there are too few to hold any out."""
        if X_val is not None and y_val is not None:
            val, val_labels = self._checked(X_val, y_val, reset=False)
            unknown = np.setdiff1d(val_labels, self.classes_)
            if len(unknown):
                raise DataError(f"Validation has the label {unknown.tolist()[0]!r}, which training lacks.")
            return [(X, codes), (val, np.searchsorted(self.classes_, val_labels))]
        n_held = max(round(HELD_OUT * len(X)), len(self.classes_))
        if np.bincount(codes).min() < 2 or len(X) - n_held < len(self.classes_):
            return [(X, codes)]  # validation then flatters
        halves = train_test_split(np.arange(len(X)), test_size=n_held, stratify=codes, random_state=self.seed)
        values, rows = (X.values, X.rows) if isinstance(X, Rows) else (X, np.arange(len(X)))
        return [(Rows(values, rows[half]), codes[half]) for half in map(np.sort, halves)]  # to be read in one go

    def _recorder(self, on_row: OnRow | None) -> OnRow:
        def record(row: Row) -> None:
            self.history_.append(row)
            if on_row is not None:
                on_row(row)

        return record


def standardisation(X: FloatArray | Rows) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each of D features, each `(D,)` float32; of `(N, D)`.

    The deviation is at least `LEAST_SPREAD` of the root mean square of all. What varies less varies mostly by
    rounding, and divided by its own deviation would drown what the others say. Where nothing varies it is 1.

    Block by block (Chan, Golub, LeVeque 1983, doi 10.1080/00031305.1983.10483115).
    """
    n, mean, squares = 0, np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for rows in blocks(X):
        block = X[rows].astype(np.float64)
        block_mean = block.mean(axis=0)
        block -= block_mean
        share = len(block) / (n + len(block))
        squares += np.einsum("nd,nd->d", block, block) + n * share * (block_mean - mean) ** 2
        mean += share * (block_mean - mean)
        n += len(block)
    scale = np.sqrt(squares / n)
    scale[scale <= 1e-7 * np.maximum(np.abs(mean), 1e-30)] = 0.0
    least = LEAST_SPREAD * np.sqrt(np.mean(scale**2))
    scale = np.maximum(scale, least) if least > 0 else np.ones_like(scale)
    return mean.astype(np.float32), scale.astype(np.float32)


def _standardised(parts: Sequence[FloatArray | Rows], mean: FloatArray, scale: FloatArray) -> FloatArray:
    """All parts, one after another, as the one copy that fitting works on."""
    result = new_array((sum(map(len, parts)), len(mean)))
    start = 0
    for part in parts:
        target = result[start : start + len(part)]
        for rows in blocks(part):
            np.subtract(part[rows], mean, out=target[rows])
            target[rows] /= scale
        start += len(part)
    return result


def _fold(stack: DenseStack, mean: FloatArray, scale: FloatArray) -> DenseStack:
    """The stack for plain features that equals `stack` for standardised ones."""
    kernel = stack.kernels[0].astype(np.float64) / scale[:, None]
    bias = stack.biases[0] - mean.astype(np.float64) @ kernel
    kernels = (kernel, *stack.kernels[1:])
    biases = (bias, *stack.biases[1:])
    return DenseStack(tuple(k.astype(np.float32) for k in kernels), tuple(b.astype(np.float32) for b in biases))
