"""Training a classifier: features once, then a top on them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, clone

from topwork.backbones.backbone import Backbone
from topwork.backbones.cards import AUTO
from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.fitting import Examples, HeldOut, answering_top, fit_top, held_out_of, train_rows
from topwork.classifier.record import Training
from topwork.data.dataset import ImageDataset
from topwork.errors import DataError, OptionError
from topwork.features.choice import backbone_for
from topwork.features.extraction import Features, extract_features
from topwork.features.ranges import find_range, with_range
from topwork.files import cache_dir
from topwork.memory import Rows, available_memory, fits, gigabytes
from topwork.progress import Reporter, console_reporter
from topwork.tops.base import DenseTop
from topwork.tops.linear import LinearTop
from topwork.tops.novelty import FEWEST_FOR_NOVELTY, Novelty, fit_novelty
from topwork.types import Device, OnBadImage

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


def fit_classifier(
    dataset: ImageDataset,
    backbone: str | Backbone = AUTO,
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
        backbone: a name, such as 'densenet121', for its own pretrained weights and input size; 'auto' for the starter
            where images are small, and EfficientNet-Lite0 where they are photographs; else as from `load_backbone`.
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
    top = prepared_top(top, seed)
    backbone = backbone_for(dataset, backbone, reporter=reporter)
    seen = split_and_extract(
        dataset,
        backbone,
        attrgetter("with_splits"),
        on_bad_image=on_bad_image,
        device=device,
        reporter=reporter,
    )
    return fit_on_features(seen, top, flip=flip, seed=seed, on_bad_image=on_bad_image, device=device, reporter=reporter)


@dataclass(frozen=True, eq=False)
class SeenImages:
    """A dataset with a split for every image, the backbone that has seen it, and what it saw."""

    dataset: ImageDataset
    backbone: Backbone
    features: Features


def split_and_extract(
    dataset: ImageDataset,
    backbone: Backbone,
    split: Callable[[ImageDataset], ImageDataset],
    *,
    thumbnails: int = 0,
    on_bad_image: OnBadImage,
    device: Device,
    reporter: Reporter,
) -> SeenImages:
    """The features of a dataset, and its split, which goes by its digests; each image is read once for both.

    Pictures with more than 8 bits are read once more: how they are taken is decided by the images for training, so
    their digests come first.

    Args:
        dataset: the images.
        backbone: as from `load_backbone`.
        split: gives every image its split.
        thumbnails: as in `extract_features`.
        on_bad_image: 'skip' or 'stop'.
        device: 'cpu', 'gpu' or 'auto'.
        reporter: hears how far it is.
    """
    _warn_of_width(backbone, len(dataset), reporter)
    extract = partial(extract_features, on_bad_image=on_bad_image, device=device, reporter=reporter)
    features = None
    if not dataset.has_digests and (backbone.recipe.value_range is not None or find_range(dataset) is None):
        # what can't be split is said now; images with equal bytes, which stay together, can only make it worse
        split(dataset.with_digests(np.arange(1, len(dataset) + 1).astype("S16")))
        dataset = dataset.with_range(backbone.recipe.value_range)
        features = extract(dataset, backbone, thumbnails=thumbnails)
    dataset.read_digests(reporter)
    dataset = split(dataset)
    ranged = with_range(backbone, dataset, reporter)
    dataset = dataset.with_range(ranged.recipe.value_range)
    if features is None or ranged is not backbone:
        features = extract(dataset, ranged)
    return SeenImages(dataset, ranged, features)


def fit_on_features(
    seen: SeenImages,
    top: Any,
    *,
    flip: bool,
    seed: int | None,
    on_bad_image: OnBadImage,
    device: Device,
    reporter: Reporter,
) -> ImageClassifier:
    """The classifier that `fit_classifier` gives, where images were seen already; `top` as from `prepared_top`."""
    dataset, backbone, features = seen.dataset, seen.backbone, seen.features
    train, flipped = train_rows(dataset, features), None
    _require_every_class(dataset.labels[features.indices[train]], dataset.class_names)
    if flip:
        flipped = extract_features(
            dataset.select(features.indices[train]),
            backbone,
            flip=True,
            on_bad_image=on_bad_image,
            device=device,
            reporter=reporter,
        )
    examples = Examples.of(dataset, features, flipped)
    began = time.perf_counter()
    _warn_of_memory(top, examples, reporter)
    fitted = fit_top(top, examples, reporter.row)
    held_out = held_out_of(fitted, examples)
    if held_out and held_out.end:
        reporter.warning(_END[held_out.end].format(l2=fitted.l2_))
    novelty = novelty_of(examples, held_out, seed or 0)
    training = Training(
        dataset=dataset,
        features=features,
        examples=examples,
        top=fitted,
        history=tuple(getattr(fitted, "history_", ())),
        best=_best_row(fitted),
        n_train=len(train),
        n_flipped=len(flipped.values) if flipped else 0,
        n_extracted=features.n_extracted + (flipped.n_extracted if flipped else 0),
        n_validation=len(examples.validation),
        held_out=held_out,
        bad=features.bad,
        seconds_features=features.seconds + (flipped.seconds if flipped else 0),
        seconds_top=time.perf_counter() - began,
    )
    return ImageClassifier(
        backbone=backbone,
        top=answering_top(fitted),
        novelty=novelty,
        class_names=dataset.class_names,
        training=training,
        record=_record(training, backbone),
        device=device,
    )


def prepared_top(top: ClassifierMixin | None, seed: int | None) -> Any:
    """A copy of a top, with its seed; what can't be a top is said before anything is computed.

    Raises:
        OptionError: it is none, or its options are out of their ranges.
    """
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


def _warn_of_memory(top: Any, examples: Examples, reporter: Reporter) -> None:
    needed = 4 * len(examples.learned) * examples.values.shape[1]
    if isinstance(top, DenseTop) and not fits(needed):
        reporter.warning(
            f"the top needs {gigabytes(needed)} of memory beside the features, and {gigabytes(available_memory())} are "
            f"free: it works from a file in {str(cache_dir())!r}, far more slowly. Fewer images, or a backbone with "
            "fewer features, avoid that."
        )


def novelty_of(examples: Examples, held_out: HeldOut | None, seed: int) -> Novelty | None:
    """What tells unknown images; None for a top that isn't ours, or where too few images were held out."""
    if held_out is None or len(held_out.rows) < FEWEST_FOR_NOVELTY:
        return None
    learned = np.sort(examples.learned[examples.learned < examples.n_plain])
    units = examples.dataset.units(examples.images[learned]).of_image
    places = np.searchsorted(learned, held_out.rows)
    logits = held_out.logits / held_out.temperature
    return fit_novelty(Rows(examples.values, learned), units, places, logits, seed=seed)


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
