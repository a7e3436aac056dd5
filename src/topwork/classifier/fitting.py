"""Fitting a top on features that are there: which views it learns from, which judge it, which test it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from topwork.data.dataset import ImageDataset
from topwork.data.splits import TRAIN, VALIDATION, deal_folds
from topwork.features.extraction import Features
from topwork.memory import Rows, Stacked
from topwork.progress import Reporter
from topwork.tops.answering import SklearnTop, Top
from topwork.tops.base import DenseTop, OnRow
from topwork.tops.dense_stack import DenseStack, softmax
from topwork.tops.linear import FOLDS
from topwork.types import FloatArray, IntArray

TEST_FOLDS = 5
"""Of a cross-validated test. Its tops learn from four fifths; what that costs, 0.6 points on average, is within the
interval."""


@dataclass(frozen=True, eq=False)
class Examples:
    """What a top may learn from: a view of every image of a dataset, then views of some seen flipped.

    Attributes:
        dataset: the images.
        values: `(V, D)`, the features of the views.
        images: `(V,)`, which image of the dataset each view is of.
        n_plain: how many views are plain; they come first, and are the rows of the features.
        train: `(T,)`, the views to learn from.
        validation: `(M,)`, the plain views that judge; `LinearTop` learns from them too in the end.
    """

    dataset: ImageDataset
    values: FloatArray | Stacked
    images: IntArray
    n_plain: int
    train: IntArray
    validation: IntArray

    @classmethod
    def of(cls, dataset: ImageDataset, features: Features, flipped: Features | None) -> Examples:
        """The examples of a split dataset; `flipped` are features of the images in `train_rows`."""
        splits = np.asarray(dataset.splits)[features.indices]
        train, validation = train_rows(dataset, features), np.flatnonzero(splits == VALIDATION)
        n = len(features.values)
        if flipped is None:
            return cls(dataset, features.values, features.indices, n, train, validation)
        return cls(
            dataset=dataset,
            values=Stacked([features.values, flipped.values]),
            images=np.concatenate([features.indices, features.indices[train[flipped.indices]]]),
            n_plain=n,
            train=np.concatenate([train, n + np.arange(len(flipped.values))]),
            validation=validation,
        )

    @property
    def learned(self) -> IntArray:
        """`(T + M,)`, the views for training and, after these, for validation: what a top is given, in its order."""
        return np.concatenate([self.train, self.validation])

    def labels(self, views: IntArray) -> IntArray:
        """The label of each of these views."""
        return self.dataset.labels[self.images[views]]

    def folds(self, views: IntArray, n_folds: int) -> IntArray:
        """The fold of each of these views: an image, its mirror image, its copies and its group share one."""
        return deal_folds(self.labels(views), self.dataset.units(self.images[views]), n_folds)

    def without(self, images: IntArray) -> Examples:
        """The examples but for all views of these images.

        Where a class has only images for validation left, they are for training.
        """
        stays = ~np.isin(self.images, images)
        train, validation = self.train[stays[self.train]], self.validation[stays[self.validation]]
        alone = ~np.isin(self.labels(validation), self.labels(train))
        return replace(self, train=np.concatenate([train, validation[alone]]), validation=validation[~alone])


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a top said of images that it had not learned from yet.

    Attributes:
        n_folds: in how many folds they were held out in turn: all images of train and validation. 1: they are the
            images of the validation split.
        rows: `(M,)`, which rows of the features they are.
        logits: `(M, K)`, before the temperature.
        temperature: what makes these logits most likely.
        end: 'strongest' or 'weakest', where the L2 that was chosen is the first or the last of those tried.
    """

    n_folds: int
    rows: IntArray
    logits: FloatArray
    temperature: float
    end: str | None

    @property
    def probabilities(self) -> FloatArray:
        """`(M, K)`, calibrated."""
        return softmax(self.logits / self.temperature)


def train_rows(dataset: ImageDataset, features: Features) -> IntArray:
    """Which rows of the features are for training."""
    return np.flatnonzero(np.asarray(dataset.splits)[features.indices] == TRAIN)


def fit_top(top: Any, examples: Examples, on_row: OnRow | None = None) -> Any:
    """The top, fitted. One of ours that stops by validation holds out some itself where there is no image for that."""
    train, validation, learned = examples.train, examples.validation, examples.learned
    if not isinstance(top, DenseTop):
        return top.fit(Rows(examples.values, learned)[:], examples.labels(learned))
    is_judged = len(validation) > 0
    return top.fit(
        Rows(examples.values, train),
        examples.labels(train),
        X_val=Rows(examples.values, validation) if is_judged else None,
        y_val=examples.labels(validation) if is_judged else None,
        folds=examples.folds(learned, FOLDS),
        on_row=on_row,
    )


def held_out_of(fitted: Any, examples: Examples) -> HeldOut | None:
    """What the top said of images before it learned from them, each once, as it is; None for one that isn't ours."""
    if not isinstance(fitted, DenseTop):
        return None
    views = examples.learned[fitted.held_out_rows_]
    is_plain = views < examples.n_plain
    return HeldOut(
        n_folds=fitted.n_folds_,
        rows=views[is_plain],
        logits=fitted.held_out_logits_[is_plain],
        temperature=fitted.temperature_,
        end=getattr(fitted, "end_", None),
    )


def answering_top(fitted: Any) -> Top:
    """The top as it will answer, its probabilities calibrated."""
    from sklearn.linear_model import LogisticRegression

    if isinstance(fitted, DenseTop):
        return fitted.stack_.divided_by(fitted.temperature_)
    if isinstance(fitted, LogisticRegression) and fitted.fit_intercept:
        kernel, bias = fitted.coef_.T, fitted.intercept_
        if kernel.shape[1] == 1:  # of two classes, scikit-learn keeps the second's logit alone
            kernel, bias = np.hstack([np.zeros_like(kernel), kernel]), np.concatenate([[0.0], bias])
        return DenseStack((kernel.astype(np.float32),), (bias.astype(np.float32),))
    return SklearnTop(fitted)


@dataclass(frozen=True, eq=False)
class CrossTest:
    """Answers of tops that had not learned from the image.

    Attributes:
        rows: `(n,)`, the rows of the features that were tested, ascending.
        folds: `(n,)`, the fold of each; its top learned from the others.
        probabilities: `(n, K)`. A class all of whose images lie in one fold is not known to the top that tests them:
            there they get a probability of 0 for it.
    """

    rows: IntArray
    folds: IntArray
    probabilities: FloatArray


def cross_test(top: Any, examples: Examples, reporter: Reporter) -> CrossTest:
    """Every image tested once, by a top that learned from the other folds: nothing of it was chosen on the image.

    Args:
        top: fitted or not; what it does not choose by itself, such as its seed, is taken over.
        examples: all of them are tested, but for those that the dataset says may not test.
        reporter: hears how far it is.
    """
    rows = np.sort(examples.learned[examples.learned < examples.n_plain])
    folds = examples.folds(rows, TEST_FOLDS)
    may_test = examples.dataset.may_test[examples.images[rows]]
    probabilities = np.zeros((len(rows), len(examples.dataset.class_names)))
    there = np.unique(folds)
    with reporter.task("Testing by cross-validation", len(there), "folds") as task:
        for fold in there:
            inside = folds == fold
            fitted = fit_top(clone(top), examples.without(examples.images[rows[inside]]))
            tested = np.flatnonzero(inside & may_test)
            found = answering_top(fitted).probabilities(examples.values[rows[tested]])
            probabilities[tested[:, None], fitted.classes_[None]] = found
            task.advance()
    return CrossTest(rows[may_test], folds[may_test], probabilities[may_test])
