"""Training from images to a run folder, and evaluating what a run folder holds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.backbones.cards import AUTO
from topwork.checks.check import DataCheck, check_dataset, thumbnails_for
from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.fine_tuning import fine_tune as tuned
from topwork.classifier.fitting import CrossTest, cross_test
from topwork.classifier.loading import load_classifier
from topwork.classifier.predictions import Predictions
from topwork.classifier.record import Training
from topwork.classifier.training import fit_on_features, prepared_top, split_and_extract
from topwork.data.archives import stem_of
from topwork.data.dataset import ImageDataset
from topwork.data.shards import is_pattern
from topwork.data.splits import TEST, TEST_FRACTION, TRAIN, VALIDATION, VALIDATION_FRACTION
from topwork.errors import DataError, OptionError, StorageError, TopworkError
from topwork.evaluation.evaluate import evaluate_predictions
from topwork.evaluation.metrics import Evaluation, evaluate_probabilities
from topwork.features.choice import backbone_for
from topwork.files import cache_dir, printable, storage_errors
from topwork.progress import Reporter, console_reporter
from topwork.runs.folder import RunFacts, write_run_folder
from topwork.runs.images import training_images
from topwork.runs.trackers import require_trackers, track
from topwork.tuning.plan import find_cut
from topwork.types import Device, OnBadImage, Part, TestAs
from topwork.words import counted, first, listed

_GROUP = ("group", "groups")
FEW = 10
"""Validation images below which a warning is due."""


@dataclass(frozen=True, eq=False)
class Run:
    """One finished training.

    Attributes:
        folder: where it is written.
        classifier: what was trained.
        training: how.
        test: how good it is on the test images, which nothing had looked at before; where there are none, how good
            tops like it are, each on images that it had not learned from (`test.n_folds` says which).
        held_out: how good it was, by the same measures, on the images that chose when to stop or which L2, before it
            learned from them too: by cross-validation on train and validation, or on the validation split
            (`training.held_out` says which). It is a little too high. None for a top that isn't ours.
        check: what may be wrong with the images; None where it wasn't asked for.
    """

    folder: Path
    classifier: ImageClassifier
    training: Training
    test: Evaluation
    held_out: Evaluation | None
    check: DataCheck | None


def train(
    dataset: ImageDataset,
    backbone: str | Backbone = AUTO,
    *,
    top: Any = None,
    test: float | TestAs = "auto",
    validation: float = VALIDATION_FRACTION,
    flip: bool = False,
    fine_tune: Part | None = None,
    views: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
    on_bad_image: OnBadImage = "skip",
    device: Device = "auto",
    check: bool = True,
    trackers: Sequence[str] = (),
    command: str = "",
    reporter: Reporter | None = None,
) -> Run:
    """Train a classifier, test it once, and write a run folder: all of `topwork train`.

    Args:
        dataset: labelled images. Without test images, every image is tested once by cross-validation, and the
            classifier learns from all.
        backbone: see `fit_classifier`, as for top, flip, seed, on_bad_image and device.
        top: a scikit-learn classifier; None means `LinearTop()`.
        test: of a dataset that is not split yet, which images test: see `ImageDataset.split`.
        validation: of such a dataset, the fraction of the others for validation.
        flip: whether the top sees the training images flipped too.
        fine_tune: 'last-block', 'last-stage' or 'all', to train that part of the network too where it is surely better
            (see `topwork.fine_tune`); None leaves the network frozen. It wants test images: where neither the data nor
            `split` brings any, a fifth of the images is held out for them.
        views: of fine-tuning, how many augmented views of each image are made.
        seed: given to the top.
        out: the run folder, which must be new; None takes `runs/NAME-1`, or the next free number.
        on_bad_image: 'skip' or 'stop'.
        device: 'cpu', 'gpu' or 'auto'.
        check: whether to look for copies, near copies, wrong labels and strange images.
        trackers: 'mlflow', 'tensorboard': where else to log the run; each is an extra of the same name.
        command: what the user typed, for the record.
        reporter: hears of progress; None shows it on standard error.

    Raises:
        TopworkError: see `fit_classifier`; or the run folder exists, or can't be written.
    """
    reporter = reporter or console_reporter()
    require_trackers(trackers)
    _require_new_folder(out)
    began = time.perf_counter()
    top = prepared_top(top, seed)
    backbone = backbone_for(dataset, backbone, reporter=reporter)
    if fine_tune is not None:
        find_cut(backbone, fine_tune)
        test = TEST_FRACTION if test == "auto" else test

    def split_of(images: ImageDataset) -> ImageDataset:
        split = images if images.is_split else images.split(test=test, validation=validation)
        _require_every_split(split)
        if fine_tune is not None:
            _require_test_images(split)
        return split

    seen = split_and_extract(
        dataset,
        backbone,
        split_of,
        thumbnails=thumbnails_for(len(dataset)) if check else 0,
        on_bad_image=on_bad_image,
        device=device,
        reporter=reporter,
    )
    split = seen.dataset
    _warn_of_untested(split, reporter)
    _warn_of_torn_groups(split, reporter)
    classifier = fit_on_features(
        seen, top, flip=flip, seed=seed, on_bad_image=on_bad_image, device=device, reporter=reporter
    )
    if fine_tune is not None:
        classifier = tuned(classifier, fine_tune, views=views, seed=seed, reporter=reporter)
    training = classifier.training
    if training is None:
        raise DataError("The classifier has no record of its training.")
    _warn_of_few(training, reporter)
    is_tested = np.any(np.asarray(split.splits) == TEST)
    folded = None if is_tested else cross_test(training.top, training.examples, reporter)
    tested, predictions = _test(classifier, training) if folded is None else _cross_test(training, folded)
    held_out = _evaluate_held_out(training, classifier.class_names)
    found = _check(training, classifier.backbone, folded, reporter, seed) if check else None
    if not check:
        _warn_of_contradictions(split, reporter)
    facts = RunFacts(command=command, seed=seed, seconds=time.perf_counter() - began)
    results = (classifier, training, tested, held_out, predictions, found, facts)
    folder = _write_run(dataset, out, results, reporter)
    track(folder, trackers, reporter)
    return Run(folder, classifier, training, tested, held_out, found)


def evaluate_run(
    path: str | Path, dataset: ImageDataset, *, device: Device = "auto", reporter: Reporter | None = None
) -> Evaluation:
    """How good the classifier of a run folder is on labelled images that it was not trained on.

    Images that training or validation saw would make it look better; they are left out, and how many is said.

    Raises:
        SavedFileError: `path` holds no classifier.
        DataError: no images are left, or a class that the classifier does not know.
    """
    reporter = reporter or console_reporter()
    if dataset.testable is not None:
        dataset = dataset.select(dataset.testable)
    classifier = load_classifier(path, device=device)
    known = training_images(Path(path))
    if known is None:
        reporter.warning(
            "there is no list of the images it was trained on; if some are among these, its accuracy looks too high."
        )
    seen = np.isin(dataset.read_digests(reporter), np.empty(0, "S16") if known is None else known.digests)
    if dataset.splits is not None and np.any(dataset.splits == TEST):
        is_test = dataset.splits == TEST
        reporter.note(f"The data brings a split: evaluating on its {int(np.sum(is_test)):,} test images.")
        seen, dataset = seen[is_test], dataset.select(is_test)
    if np.all(seen):
        raise DataError(
            f"All {len(dataset):,} images of {dataset.origin!r} were used in training, so they can't tell how good "
            "the classifier is. Evaluate on others; the run's own test result is in its metrics.json."
        )
    if np.any(seen):
        reporter.note(f"{int(seen.sum()):,} of {len(dataset):,} images were used in training; they are left out.")
        dataset = dataset.select(~seen)
    return evaluate_predictions(dataset, classifier.predict_dataset(dataset, reporter))


def _require_new_folder(out: str | Path | None) -> None:
    """Before hours of work, not after: the run folder is new, and can be made."""
    if out is not None and Path(out).exists():
        raise OptionError(f"{printable(str(out))!r} exists already. Choose a new name for the run folder.")
    parent = Path(out).parent if out is not None else Path("runs")
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass


def _require_every_split(dataset: ImageDataset) -> None:
    there = set(np.unique(np.asarray(dataset.splits)))
    for split in (TRAIN, VALIDATION):
        if split not in there:
            raise DataError(
                f"There is no {split} image. Where the data brings none, `validation` must be above 0: the part of the "
                "images that choices are made on."
            )


def _require_test_images(dataset: ImageDataset) -> None:
    if not np.any(np.asarray(dataset.splits) == TEST):
        raise OptionError(
            "Fine-tuning needs images for testing that no part of it has seen; to cross-validate the whole of it would "
            "take five times as long. Hold some out, as with `test=0.2`."
        )


def _write_run(dataset: ImageDataset, out: str | Path | None, results: Any, reporter: Reporter) -> Path:
    """The run folder as it was written: where it was wanted, or where there is room, lest what was trained be lost.

    Raises:
        StorageError: there is no room anywhere.
    """
    failures: list[StorageError] = []
    wanted = next(_folder_names(dataset, out))
    for parent in (wanted.parent, cache_dir() / "runs", Path(tempfile.gettempdir())):
        names = (parent / name.name for name in _folder_names(dataset, out))
        try:
            folder = write_run_folder(names, *results)
        except StorageError as error:
            failures.append(error)
            continue
        if failures:
            reporter.warning(f"{failures[0]} The run was written to {printable(str(folder))!r} instead.")
        elif out is not None and folder != wanted:
            reporter.warning(f"{printable(str(out))!r} was taken meanwhile: the run is in {printable(str(folder))!r}.")
        return folder
    raise failures[0]


def _folder_names(dataset: ImageDataset, out: str | Path | None) -> Iterator[Path]:
    """What the run folder is to be called; each where those before it are taken."""
    source = Path(dataset.origin)
    while is_pattern(str(source)):
        source = source.parent  # files named by a pattern are called as the folder around them
    stem = Path(out) if out is not None else Path("runs") / (stem_of(source.resolve()) or "images")
    if out is not None:
        yield stem
    yield from (stem.with_name(f"{stem.name}-{number}") for number in count(1))


def _check(
    training: Training, backbone: Backbone, tested: CrossTest | None, reporter: Reporter, seed: int
) -> DataCheck | None:
    folds = None
    if tested is not None:
        folds = np.full(len(training.dataset), -1)
        folds[training.features.indices[tested.rows]] = tested.folds
    try:
        found = check_dataset(
            training.dataset, backbone, features=training.features, folds=folds, reporter=reporter, seed=seed
        )
    except TopworkError as error:  # what was trained must not be lost for it
        reporter.warning(f"the data could not be checked: {error}")
        return None
    leaked, clashes = found.leaked_tests, found.contradictions
    if len(leaked):
        n_tested, is_or_are = int(found.is_tested.sum()), "is" if len(leaked) == 1 else "are"
        where = "in training or validation" if folds is None else "in another fold of the cross-validation"
        reporter.warning(
            f"{len(leaked):,} of {counted(n_tested, 'test image')} {is_or_are} {where} too, as copies or near copies "
            f"(such as {found.pair_text(found.leaks[0])}). Test accuracy may be too high by up to "
            f"{100 * len(leaked) / n_tested:.1f} points."
        )
    if len(clashes):
        reporter.warning(
            f"{counted(len(clashes), 'pair')} of copies or near copies with two labels (such as "
            f"{found.pair_text(clashes[0])}). Probably one of the two labels is wrong."
        )
    return found


def _warn_of_contradictions(dataset: ImageDataset, reporter: Reporter) -> None:
    """Of equal bytes with two labels: near copies too are found only where the data is checked."""
    _, of_image = np.unique(dataset.digests, return_inverse=True)
    pairs = np.unique(np.stack([of_image, dataset.labels]), axis=1)
    pictures, n_labels = np.unique(pairs[0], return_counts=True)
    clashing = np.flatnonzero(np.isin(of_image, pictures[n_labels > 1]))
    if len(clashing):
        reporter.warning(
            f"{len(clashing):,} images are copies with different labels (such as {dataset.names[clashing[0]]!r}). "
            "Probably one of the labels is wrong."
        )


def _warn_of_few(training: Training, reporter: Reporter) -> None:
    held_out = training.held_out
    if held_out and held_out.n_folds == 1 and len(held_out.rows) < FEW:
        reporter.warning(
            f"only {len(held_out.rows)} images for validation: when to stop is little better than guessed. "
            "More images help most; so does `top=linear`, which cross-validates."
        )


def _warn_of_untested(dataset: ImageDataset, reporter: Reporter) -> None:
    if not np.any(np.asarray(dataset.splits) == TEST):
        return  # cross-validation tests all
    tested = np.bincount(dataset.labels[dataset.splits == TEST], minlength=len(dataset.class_names))
    untested = [repr(name) for name, n in zip(dataset.class_names, tested, strict=True) if n == 0]
    if untested:
        reporter.warning(f"there is no test image of {first(untested)}: how well that is recognised is not measured.")


def _warn_of_torn_groups(dataset: ImageDataset, reporter: Reporter) -> None:
    torn = dataset.torn_groups
    if torn and dataset.groups is not None:
        n_groups = len(np.unique(dataset.groups))
        reporter.warning(
            f"{len(torn):,} of {n_groups:,} groups have images in several splits ({listed(torn, what=_GROUP)}): the "
            "test accuracy may be too high. The split comes with the data; without it, groups are kept in one split."
        )


def _test(classifier: ImageClassifier, training: Training) -> tuple[Evaluation, Predictions]:
    """How good the classifier is on the test images, and its answers."""
    dataset, features = training.dataset, training.features
    is_test = np.asarray(dataset.splits) == TEST
    rows = np.flatnonzero(is_test[features.indices])
    if len(rows) == 0:
        raise DataError("There is no readable test image. Add images, or let Topwork split them.")
    predictions = classifier.predict_features(features.values[rows], tuple(dataset.names), features.indices[rows])
    labels = dataset.labels[predictions.indices]
    n_bad = sum(1 for image in training.bad if is_test[image.index])
    return evaluate_probabilities(labels, predictions.probabilities, predictions.class_names, n_bad=n_bad), predictions


def _cross_test(training: Training, tested: CrossTest) -> tuple[Evaluation, Predictions]:
    """How good tops like it are on images that they had not learned from, and their answers."""
    dataset, indices = training.dataset, training.features.indices[tested.rows]
    evaluation = evaluate_probabilities(
        dataset.labels[indices],
        tested.probabilities,
        dataset.class_names,
        n_folds=len(np.unique(tested.folds)),
        n_bad=len(training.bad),
    )
    return evaluation, Predictions(tuple(dataset.names), indices, tested.probabilities, (), dataset.class_names)


def _evaluate_held_out(training: Training, class_names: tuple[str, ...]) -> Evaluation | None:
    if training.held_out is None:
        return None
    dataset, images = training.dataset, training.features.indices[training.held_out.rows]
    may_test = dataset.may_test[images]
    if not may_test.any():
        return None
    return evaluate_probabilities(
        dataset.labels[images][may_test], training.held_out.probabilities[may_test], class_names
    )
