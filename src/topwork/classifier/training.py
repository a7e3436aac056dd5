"""Training a classifier: features once, then a top on them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, clone

from topwork.backbones.backbone import Backbone, as_backbone
from topwork.backbones.cards import STARTER
from topwork.backbones.engines import Device
from topwork.classifier.classifier import ImageClassifier, SklearnTop, Top
from topwork.data.dataset import ImageDataset
from topwork.data.splits import TEST, TRAIN, VALIDATION, Units, deal_folds, find_units
from topwork.errors import DataError, OptionError
from topwork.features.extraction import Features, extract_features
from topwork.features.pipeline import BadImage
from topwork.files import cache_dir
from topwork.memory import Rows, Stacked, available_memory, fits, gigabytes
from topwork.progress import Reporter, Row, console_reporter
from topwork.tops.base import DenseTop
from topwork.tops.dense_stack import DenseStack, softmax
from topwork.tops.linear import FOLDS, LinearTop
from topwork.tops.novelty import FEWEST_FOR_NOVELTY, Novelty, fit_novelty
from topwork.types import FloatArray, IntArray, OnBadImage

_END = {
    "strongest": (
        "L2 {l2:.2g}, the strongest value tried, is as good as any: these features tell the classes hardly better than "
        "their frequencies do. Another backbone or a larger size may see more; or the labels do not fit the images."
    ),
    "weakest": (
        "L2 {l2:.2g}, the weakest value tried, is the best of them: a weaker one may be better still. Give LinearTop "
        "smaller values of l2."
    ),
}


@dataclass(frozen=True, eq=False)
class Training:
    """How a classifier came about.

    Attributes:
        dataset: all its images, with their sides.
        features: of all of them, as they are.
        top: the fitted scikit-learn classifier.
        history: a row an epoch (or an L2 value); empty for tops that keep none.
        best: the row of `history` that was chosen, counted from 0; None where there is no history.
        n_train: images of the train split, which the top was fitted on.
        n_flipped: how many of these it saw flipped too; 0 without `flip`.
        n_extracted: how many views, plain and flipped, the backbone was run for now; the rest came from the store.
        n_validation: images of the validation split.
        held_out: what stopped the top, or chose its L2 and its temperature; None for a top that isn't ours.
        bad: images that could not be read.
        seconds_features: time for features.
        seconds_top: time for the top.
    """

    dataset: ImageDataset
    features: Features
    top: Any
    history: tuple[Row, ...]
    best: int | None
    n_train: int
    n_flipped: int
    n_extracted: int
    n_validation: int
    held_out: HeldOut | None
    bad: tuple[BadImage, ...]
    seconds_features: float
    seconds_top: float

    @property
    def temperature(self) -> float | None:
        """What the logits are divided by; None for a top that isn't ours."""
        return self.held_out.temperature if self.held_out else None


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


def fit_classifier(
    dataset: ImageDataset,
    backbone: str | Backbone = STARTER,
    *,
    top: ClassifierMixin | None = None,
    flip: bool = False,
    seed: int | None = None,
    on_bad_image: OnBadImage = "skip",
    device: Device = "auto",
    verbose: bool = True,
    reporter: Reporter | None = None,
) -> ImageClassifier:
    """A classifier of the images in `dataset`: features of a frozen backbone, computed once, and a top on them.

    Learns from `dataset.train` and `dataset.validation`, and does not look at `dataset.test`. `LinearTop` chooses its
    L2 by cross-validation on both, and is fitted on both; `MLPTop` is fitted on train, and stops by validation.

    Args:
        dataset: labelled images.
        backbone: a name, such as 'densenet121', for its own pretrained weights and input size; else as from
            `load_backbone`.
        top: any scikit-learn classifier with `predict_proba`; None means `LinearTop()`. It is cloned, not changed.
            One that isn't ours has no use for validation, and is fitted on training and validation together.
        flip: fit the top on the training images' mirror images (left and right exchanged) too; not where sides matter,
            as in text. Their features are computed once and kept, as the plain ones are. Validation images keep their
            one plain view: where a top is fitted on them in the end too, as `LinearTop` is, one of them counts half as
            much as an image for training.
        seed: given to the top (as `seed` or `random_state`); None leaves the top's own.
        on_bad_image: 'skip' images that can't be read, and list them; or 'stop' at the first.
        device: where the backbone runs: 'cpu', 'gpu', or 'auto'.
        verbose: show progress on standard error.
        reporter: hears of progress instead.

    Raises:
        UnknownNameError: no such backbone.
        WeightsError: its weights are missing, damaged, or can't be fetched.
        SplitError: a class has too few images.
        BadImageError: an image can't be read, and `on_bad_image` is 'stop'.
        TooManyBadImagesError: more than a tenth of the images can't be read.
        StorageError: the store can't be written, or neither memory nor the disk has room for the features.
    """
    reporter = reporter or (console_reporter() if verbose else Reporter())
    top = _prepared_top(top, seed)
    backbone = as_backbone(backbone, reporter=reporter)
    _warn_of_width(backbone, len(dataset), reporter)
    dataset.read_digests(reporter)
    dataset = dataset.with_sides
    began = time.perf_counter()
    features = extract_features(dataset, backbone, on_bad_image=on_bad_image, device=device, reporter=reporter)
    on, flipped = _rows_by_side(dataset, features), None
    if flip:
        train = dataset.select(features.indices[on[TRAIN]])
        flipped = extract_features(
            train, backbone, flip=True, on_bad_image=on_bad_image, device=device, reporter=reporter
        )
    seconds_features, began = time.perf_counter() - began, time.perf_counter()
    fitted = _fit_top(top, dataset, features, flipped, on, reporter)
    held_out = _held_out(fitted, features, flipped, on)
    if held_out and held_out.end:
        reporter.warning(_END[held_out.end].format(l2=fitted.l2_))
    finished, novelty = _finish_top(fitted, dataset, features, held_out, seed or 0)
    training = Training(
        dataset=dataset,
        features=features,
        top=fitted,
        history=tuple(getattr(fitted, "history_", ())),
        best=_best_row(fitted),
        n_train=len(on[TRAIN]),
        n_flipped=len(flipped.values) if flipped else 0,
        n_extracted=features.n_extracted + (flipped.n_extracted if flipped else 0),
        n_validation=len(on[VALIDATION]),
        held_out=held_out,
        bad=features.bad,
        seconds_features=seconds_features,
        seconds_top=time.perf_counter() - began,
    )
    return ImageClassifier(
        backbone=backbone,
        top=finished,
        novelty=novelty,
        class_names=dataset.class_names,
        training=training,
        record=_record(training, backbone),
        device=device,
    )


def _prepared_top(top: ClassifierMixin | None, seed: int | None) -> Any:
    top = LinearTop() if top is None else top
    if not hasattr(top, "fit") or not hasattr(top, "predict_proba"):
        raise OptionError(
            f"Expected a top with `fit` and `predict_proba`, such as MLPTop(class_layers=[256]); got "
            f"{type(top).__name__}. A classifier without probabilities can be wrapped in "
            "sklearn.calibration.CalibratedClassifierCV."
        )
    top = clone(top)
    if isinstance(top, DenseTop):
        top.check_options()  # now, not after hours of extraction
    if seed is not None:
        known = top.get_params(deep=True)
        top.set_params(**{name: seed for name in known if name.split("__")[-1] in ("seed", "random_state")})
    return top


def _warn_of_width(backbone: Backbone, n_images: int, reporter: Reporter) -> None:
    if backbone.pooling == "flatten":
        side = max(1, backbone.size // 32)  # the course's networks halve the picture five times
        width = backbone.card.n_features * side**2
        reporter.warning(
            f"flatten keeps about {width:,} numbers an image, {4e-9 * width * n_images:,.1f} GB for these; "
            f"avg keeps {backbone.card.n_features:,}, and usually does as well."
        )


def _rows_by_side(dataset: ImageDataset, features: Features) -> dict[str, IntArray]:
    """Which rows of the features are on which side; each class must have some to train on."""
    if dataset.sides is None:
        raise DataError("This dataset has no split.")
    sides = dataset.sides[features.indices]
    on: dict[str, IntArray] = {side: np.flatnonzero(sides == side) for side in (TRAIN, VALIDATION, TEST)}
    _require_every_class(dataset.labels[features.indices[on[TRAIN]]], dataset.class_names)
    return on


def _fit_top(
    top: Any,
    dataset: ImageDataset,
    features: Features,
    flipped: Features | None,
    on: dict[str, IntArray],
    reporter: Reporter,
) -> Any:
    """The fitted top; `flipped` are the features of the training images in `features`, seen flipped."""
    labels = dataset.labels[features.indices]
    X, X_val = _features_on(features, on)
    y, y_val = labels[on[TRAIN]], labels[on[VALIDATION]]
    if flipped:
        rows = np.concatenate([X.rows, len(features.values) + np.arange(len(flipped.values))])
        X, y = Rows(Stacked([features.values, flipped.values]), rows), np.concatenate([y, y[flipped.indices]])
    if not isinstance(top, DenseTop):
        return top.fit(Rows(X.values, np.concatenate([X.rows, X_val.rows]))[:], np.concatenate([y, y_val]))
    if len(X_val) == 0:
        raise DataError("No readable image is left for validation. Add images, or give the split yourself.")
    _warn_of_memory(len(X) + len(X_val), X.shape[1], reporter)
    images = features.indices[_learned_rows(on, flipped)]
    folds = deal_folds(dataset.labels[images], _units(dataset, images), FOLDS)
    return top.fit(X, y, X_val=X_val, y_val=y_val, folds=folds, on_row=reporter.row)


def _units(dataset: ImageDataset, images: IntArray) -> Units:
    return find_units(dataset.digests[images], None if dataset.groups is None else dataset.groups[images])


def _learned_rows(on: dict[str, IntArray], flipped: Features | None) -> IntArray:
    """The row of the (plain) features of each example that the top is given, in its order."""
    train = on[TRAIN]
    return np.concatenate([train, train[flipped.indices] if flipped else train[:0], on[VALIDATION]])


def _held_out(fitted: Any, features: Features, flipped: Features | None, on: dict[str, IntArray]) -> HeldOut | None:
    """What the top said of images before it learned from them, each once, as it is."""
    if not isinstance(fitted, DenseTop):
        return None
    rows = fitted.held_out_rows_
    n, n_flipped = len(on[TRAIN]), len(flipped.values) if flipped else 0
    plain = (rows < n) | (rows >= n + n_flipped)
    return HeldOut(
        n_folds=fitted.n_folds_,
        rows=_learned_rows(on, flipped)[rows[plain]],
        logits=fitted.held_out_logits_[plain],
        temperature=fitted.temperature_,
        end=getattr(fitted, "end_", None),
    )


def _features_on(features: Features, on: dict[str, IntArray]) -> tuple[Rows, Rows]:
    """Those for training, and those for validation."""
    return Rows(features.values, on[TRAIN]), Rows(features.values, on[VALIDATION])


def _warn_of_memory(n_images: int, n_features: int, reporter: Reporter) -> None:
    if not fits(needed := 4 * n_images * n_features):
        reporter.warning(
            f"the top needs {gigabytes(needed)} of memory beside the features, and {gigabytes(available_memory())} are "
            f"free: it works from a file in {str(cache_dir())!r}, far more slowly. Fewer images, or a backbone with "
            "fewer features, avoid that."
        )


def _finish_top(
    fitted: Any, dataset: ImageDataset, features: Features, held_out: HeldOut | None, seed: int
) -> tuple[Top, Novelty | None]:
    """The top as it will answer, its probabilities calibrated; and what tells unknown images."""
    if held_out is None:
        return _as_top(fitted), None
    novelty = None
    if len(held_out.rows) >= FEWEST_FOR_NOVELTY:
        learned = np.flatnonzero(np.asarray(dataset.sides)[features.indices] != TEST)
        units = _units(dataset, features.indices[learned]).of_image
        places = np.searchsorted(learned, held_out.rows)
        logits = held_out.logits / held_out.temperature
        novelty = fit_novelty(Rows(features.values, learned), units, places, logits, seed=seed)
    return fitted.stack_.divided_by(held_out.temperature), novelty


def _require_every_class(labels: Any, class_names: tuple[str, ...]) -> None:
    missing = np.setdiff1d(np.arange(len(class_names)), labels)
    if len(missing):
        raise DataError(
            f"Class {class_names[missing[0]]!r} has no readable image to train on. Add images of it, or leave it out."
        )


def _best_row(top: Any) -> int | None:
    history = getattr(top, "history_", None)
    if not history:
        return None
    if "l2" in history[0]:
        return next(place for place, row in enumerate(history) if row["l2"] == top.l2_)
    return int(np.argmin([row["val_loss"] for row in history]))


def _as_top(fitted: Any) -> Top:
    from sklearn.linear_model import LogisticRegression

    if isinstance(fitted, LogisticRegression) and fitted.fit_intercept:
        kernel, bias = fitted.coef_.T, fitted.intercept_
        if kernel.shape[1] == 1:  # of two classes, scikit-learn keeps the second's logit alone
            kernel, bias = np.hstack([np.zeros_like(kernel), kernel]), np.concatenate([[0.0], bias])
        return DenseStack((kernel.astype(np.float32),), (bias.astype(np.float32),))
    return SklearnTop(fitted)


def _record(training: Training, backbone: Backbone) -> dict[str, Any]:
    """What a saved classifier says of how it was trained."""
    params = training.top.get_params(deep=False)
    if hasattr(training.top, "l2_"):
        params["l2"] = training.top.l2_  # what was chosen says more than what it was chosen from
    params = {name: value for name, value in params.items() if _is_plain(value)}
    return {
        "data": training.dataset.origin,
        "n_train": training.n_train,
        "n_flipped": training.n_flipped,
        "n_validation": training.n_validation,
        "n_folds": training.held_out.n_folds if training.held_out else None,
        "top": {"kind": type(training.top).__name__, **params},
        "temperature": training.temperature,
        "weights": backbone.weights.origin,
        "features": training.features.fingerprint,
    }


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, str | int | bool | None)
        or (isinstance(value, float) and math.isfinite(value))
        or (isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value))
    )
