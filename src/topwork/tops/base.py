"""What our two tops share: checked input, the examples that are held out, and prediction in NumPy."""

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
from topwork.memory import Rows, blocks, new_array, select
from topwork.progress import Row
from topwork.tops.calibration import fit_temperature
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
        n_folds_: how many folds were cross-validated; 1 for a single validation split, 0 where nothing was held out.
        held_out_rows_: `(M,)`, the examples that judged, as rows of `X` and, after these, `X_val`: each one once.
        held_out_logits_: `(M, K)`, what they got from what was learned without them.
        temperature_: dividing logits by it makes probabilities of what comes mean what they say; `stack_` and
            `predict_proba` do without.
        history_: one dict a step of training; the columns are the subclass's. `val_loss` is of the held-out examples.
    """

    temperature_spread = 0.5
    """See `fit_temperature`."""
    seed: int
    class_weight: ClassWeight
    classes_: NDArray[Any]
    stack_: DenseStack
    n_folds_: int
    held_out_rows_: IntArray
    held_out_logits_: FloatArray
    temperature_: float
    history_: list[Row]

    @abstractmethod
    def check_options(self) -> None:
        """Raise an `OptionError` if a parameter has a value that it can't have."""

    @abstractmethod
    def _fit(
        self, X: FloatArray, y: IntArray, folds: IntArray, weights: FloatArray, on_row: OnRow
    ) -> tuple[DenseStack, FloatArray]:
        """Learn from features already standardised and labels 0..K-1.

        Args:
            X: `(N, D)`; it may be written over.
            y: `(N,)`.
            folds: `(N,)`, the fold in which each example is held out; -1 for never. With one fold, those of -1 come
                first. All -1: there are too few to hold any out.
            weights: `(K,)`, one for each class.
            on_row: hears each row of the history.

        Returns:
            What was learned, and `held_out_logits_`.
        """

    def _folds(self, y: IntArray, n_train: int, n_features: int, wanted: IntArray | None) -> IntArray:
        """`(N,)`, the fold in which each of the N examples is held out; -1 for never.

        Here it is one fold: the examples after the first `n_train`; else, of `X` alone, the first of the folds that
        `fit` was given (`wanted`), or a tenth drawn by `seed`.
        """
        folds = np.full(len(y), -1)
        n_classes = int(y.max()) + 1
        n_held = max(round(HELD_OUT * len(y)), n_classes)
        if n_train < len(y):
            folds[n_train:] = 0
        elif wanted is not None:
            folds[numbered_folds(y, wanted) == 0] = 0
        elif np.bincount(y).min() >= 2 and len(y) - n_held >= n_classes:
            held = train_test_split(np.arange(len(y)), test_size=n_held, stratify=y, random_state=self.seed)[1]
            folds[held] = 0
        return folds

    def fit(
        self,
        X: ArrayLike | Rows,
        y: ArrayLike,
        *,
        X_val: ArrayLike | Rows | None = None,
        y_val: ArrayLike | None = None,
        folds: ArrayLike | None = None,
        on_row: OnRow | None = None,
    ) -> DenseTop:
        """Learn from features and labels.

        Takes memory for one float32 copy of all these features, and little else. Where that has no room, the copy
        lies in a file of the cache folder, and all takes as long as reading it again and again does.

        Args:
            X: `(N, D)` features; `Rows` of a larger array are not copied out of it first.
            y: `(N,)` labels: integers or strings.
            X_val: `(M, D)` validation features. A top that cross-validates takes them as more examples; for others a
                tenth of `X` is held out for validation where there are none.
            y_val: `(M,)` their labels.
            folds: `(N + M,)`, integers, the fold of each example of `X` and `X_val`: examples that must be held out
                together, such as copies, share one. A top that cross-validates deals stratified folds where none are
                given; others have no use for them.
            on_row: called with each row of `history_` as it comes.

        Raises:
            DataError: fewer than two classes, or a validation label that `y` lacks.
            ShapeError: as many labels or folds as examples are not given.
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
        validation = self._validation(X_val, y_val)
        labels = np.concatenate([codes, *(labels for _, labels in validation)])
        if folds is not None and np.shape(folds) != labels.shape:
            raise ShapeError(f"Expected {len(labels):,} folds for as many examples; got shape {np.shape(folds)}.")
        held_in = self._folds(labels, len(codes), X.shape[1], None if folds is None else np.asarray(folds))
        self.n_folds_ = int(held_in.max()) + 1
        order = np.arange(len(labels))
        if self.n_folds_ == 1 and not validation:  # those held out last, in the one copy that is made
            order = np.argsort(held_in, kind="stable")
            X = select(X, order)
        labels, held_in = labels[order], held_in[order]
        parts = [X, *(features for features, _ in validation)]
        mean, scale = standardisation(*(parts if self.n_folds_ > 1 else parts[:1]))
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[labels])
        stack, self.held_out_logits_ = self._fit(
            _standardised(parts, mean, scale), labels, held_in, weights, self._recorder(on_row)
        )
        self.held_out_rows_ = order[held_in >= 0] if self.n_folds_ else order
        self.temperature_ = fit_temperature(
            self.held_out_logits_, labels[held_in >= 0] if self.n_folds_ else labels, spread=self.temperature_spread
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

    def _validation(
        self, X_val: ArrayLike | Rows | None, y_val: ArrayLike | None
    ) -> list[tuple[FloatArray | Rows, IntArray]]:
        """Features and labels for validation, where there are some."""
        if X_val is None or y_val is None:
            return []
        val, val_labels = self._checked(X_val, y_val, reset=False)
        unknown = np.setdiff1d(val_labels, self.classes_)
        if len(unknown):
            raise DataError(f"Validation has the label {unknown.tolist()[0]!r}, which training lacks.")
        return [(val, np.searchsorted(self.classes_, val_labels))]

    def _recorder(self, on_row: OnRow | None) -> OnRow:
        def record(row: Row) -> None:
            self.history_.append(row)
            if on_row is not None:
                on_row(row)

        return record


def numbered_folds(y: IntArray, folds: IntArray) -> IntArray:
    """Folds as 0, 1, …; -1 for examples of a class that lies in one fold alone: no fit would know it then."""
    _, folds = np.unique(folds, return_inverse=True)
    pairs = np.unique(np.stack([y, folds], axis=1), axis=0)
    n_folds_of_class = np.bincount(pairs[:, 0])
    folds = np.where(n_folds_of_class[y] > 1, folds, -1)
    there, numbers = np.unique(folds, return_inverse=True)
    return np.asarray(numbers - (there[0] < 0))


def standardisation(*parts: FloatArray | Rows) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each of D features, each `(D,)` float32; of `(N, D)` in several parts.

    The deviation is at least `LEAST_SPREAD` of the root mean square of all. What varies less varies mostly by
    rounding, and divided by its own deviation would drown what the others say. Where nothing varies it is 1.

    Block by block (Chan, Golub, LeVeque 1983, doi 10.1080/00031305.1983.10483115).
    """
    n, mean, squares = 0, np.zeros(parts[0].shape[1]), np.zeros(parts[0].shape[1])
    for block in (part[rows].astype(np.float64) for part in parts for rows in blocks(part)):
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
