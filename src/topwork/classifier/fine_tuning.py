"""Fine-tuning a classifier: the last part of its network is trained from kept activations, and kept if it is better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from topwork.backbones.backbone import Backbone
from topwork.backbones.weights import keep_changed, tensors_by_place
from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.fitting import Examples, HeldOut
from topwork.classifier.record import Training
from topwork.classifier.training import novelty_of
from topwork.errors import DataError, OptionError
from topwork.features.extraction import PIXELS, Features, extract_activations, extract_features
from topwork.features.store import store_dir
from topwork.files import fingerprint
from topwork.kept import checksum, read_kept, write_kept
from topwork.memory import Rows
from topwork.progress import Reporter, Task, console_reporter, duration
from topwork.tops.base import numbered_folds
from topwork.tops.calibration import fit_temperature
from topwork.tops.linear import FOLDS, LinearTop
from topwork.tuning.choice import ALL_STAGES, HALF, LAST, LINEAR, Candidate, FineTuning, choose, is_right
from topwork.tuning.plan import Cut, find_cut
from topwork.tuning.tail import split_parameters
from topwork.tuning.training import BATCH, EPOCHS, Material, Tuner, Weights, n_seen
from topwork.types import FloatArray, IntArray, Part
from topwork.words import counted, tuned_part

RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates. 1e-4 gained almost nothing on a far task, and steps relative to the weights diverged."""
_AFFORDABLE = 7.5e11
"""Images times multiplications above the cut up to which the candidates are cross-validated: half an hour on two cores.
Beyond, the validation split judges."""
_VERSION = 2
"""Counts up when training gives something else; part of the key of what is kept of it."""


def fine_tune(
    classifier: ImageClassifier,
    part: Part = "last-stage",
    *,
    views: int = 0,
    seed: int = 0,
    verbose: bool = True,
    reporter: Reporter | None = None,
) -> ImageClassifier:
    """The classifier with the last part of its network trained too, where that is surely better; else as it is.

    The network runs once for each image, up to the cut; its activations there are kept. What lies above is trained
    from these with a linear top on the last map, which it starts from. The trained network, half-and-half weights, and
    the classifier as it is are compared by cross-validation (where that takes too long, by the validation split), and a
    simpler one is kept unless another is surely right more often. What was chosen is then trained on all images for
    training and validation. Test images have no part in it.

    Args:
        classifier: as from `fit_classifier`, with a `LinearTop` and without `flip`.
        part: 'last-block' or 'last-stage'; or 'all', from kept pixels, which takes many times as long.
        views: how many augmented views of each image are made and kept beside the plain one: cropped, scaled and
            coloured a little.
        seed: of the order of the images, and of their views.
        verbose: show progress on standard error.
        reporter: hears of progress instead.

    Returns:
        A classifier whose `training.fine_tuning` says what was compared and chosen.

    Raises:
        OptionError: it was loaded, or has another top; or its network can't be fine-tuned.
        StorageError: there is no room for the activations, or memory has none for the training.
    """
    reporter = reporter or (console_reporter() if verbose else Reporter())
    if part not in get_args(Part):
        raise OptionError(f"Expected part to be one of {', '.join(get_args(Part))}; got {part!r}.")
    if views < 0:
        raise OptionError(f"Expected views to be 0 or more; got {views}.")
    training = classifier.training
    if training is None or not isinstance(training.top, LinearTop) or training.n_flipped:
        raise OptionError("Fine-tuning begins with a classifier that fit_classifier made, LinearTop on it, no flip.")
    cut = find_cut(classifier.backbone, part)
    try:
        return _Job(classifier, training, cut, part, views, seed, reporter).run()
    except KeyboardInterrupt:
        reporter.warning(
            "fine-tuning was stopped: the linear top is kept. What was finished is kept too, and the same command goes "
            "on from there."
        )
        return classifier


@dataclass(frozen=True, eq=False)
class _Job:
    """One fine-tuning."""

    classifier: ImageClassifier
    training: Training
    cut: Cut
    part: Part
    views: int
    seed: int
    reporter: Reporter

    @property
    def network(self) -> Backbone:
        """The backbone whose features are means over the last map, whatever the linear top learned from."""
        return replace(self.classifier.backbone, pooling="avg")

    def run(self) -> ImageClassifier:
        examples = self.training.examples
        rows = np.sort(examples.learned)
        labels = examples.labels(rows)
        folds = self._folds(rows, labels)
        tuner = self._tuner(tensors_by_place(self.network.weights))
        self._announce(tuner, rows, folds)
        views = self._activations(rows)
        bad = next((image for found in views for image in found.bad), None)
        if bad is not None:
            raise DataError(f"Fine-tuning can't go on: {bad.name!r} has no activations: {bad.reason}.")
        maps = [found.values for found in views]
        trial = _Trial(self, tuner, maps, rows, labels, folds, views[0].fingerprint, self._key(views, folds))
        outcome = trial.compare()
        if outcome.tuning.rate is None:
            self.reporter.warning("fine-tuning diverged at every learning rate: the linear top is kept.")
        return self._finish(trial, outcome)

    def _finish(self, trial: _Trial, outcome: _Outcome) -> ImageClassifier:
        """The classifier that was chosen, trained on all images for training and validation."""
        tuning = outcome.tuning
        weights = trial.refit(tuning.rate, tuning.chosen) if tuning.is_better and tuning.rate else None
        if tuning.is_better and weights is None:
            self.reporter.warning("fine-tuning on all images diverged: the linear top is kept.")
            tuning = replace(tuning, chosen=trial.names[0])
        if weights is None:
            return replace(self.classifier, training=replace(self.training, fine_tuning=tuning))
        return self._tuned(trial, weights, tuning, outcome.logits[tuning.chosen])

    def _tuned(self, trial: _Trial, weights: Weights, tuning: FineTuning, logits: FloatArray) -> ImageClassifier:
        parent, dataset = self.network, self.training.dataset
        how = "fine-tuned as a whole" if self.cut.is_whole else f"fine-tuned above {self.cut.layer}"
        found = keep_changed(parent.card, parent.weights, weights.tail, how)
        backbone = replace(parent, weights=found)
        features = extract_features(dataset, backbone, device=self.classifier.device, reporter=self.reporter)
        if not np.array_equal(features.indices, self.training.features.indices):
            raise DataError("Images can't be read any more that could before fine-tuning. Run again.")
        examples = Examples.of(dataset, features, None)
        judged = trial.folds >= 0
        temperature = fit_temperature(logits, trial.labels[judged], spread=LinearTop.temperature_spread)
        held_out = HeldOut(tuning.n_folds, trial.rows[judged], logits, temperature, None)
        training = replace(self.training, features=features, examples=examples, held_out=held_out, fine_tuning=tuning)
        record = {
            **self.classifier.record,
            "n_folds": tuning.n_folds,
            "temperature": temperature,
            "weights": found.origin,
            "features": features.fingerprint,
            "fine_tuned": {**tuning.as_dict(), "parent": parent.weights.digest, "epochs": EPOCHS, "batch": BATCH},
        }
        return replace(
            self.classifier,
            backbone=backbone,
            top=trial.tuner.top(weights).divided_by(temperature),
            novelty=novelty_of(examples, held_out, self.seed),
            training=training,
            record=record,
        )

    def _folds(self, rows: IntArray, labels: IntArray) -> IntArray:
        """The fold in which each row is held out; -1 for never. One fold is the validation split."""
        examples = self.training.examples
        if len(rows) * self.cut.multiplications <= _AFFORDABLE:
            folds = numbered_folds(labels, examples.folds(rows, FOLDS))
            if np.any(folds >= 0):
                return folds
        return np.where(np.isin(rows, examples.validation), 0, -1)

    def _tuner(self, tensors: dict[str, FloatArray]) -> Tuner:
        trained, fixed = split_parameters(self.cut.above, tensors)
        values = self.last(np.sort(self.training.examples.learned)[:BATCH])[:]
        scale = float(np.sqrt(np.mean(values**2))) or 1.0
        pixels = self.network.card.preprocessing if self.cut.is_whole else None
        return Tuner(self.cut.above, self.cut.shape, trained, fixed, scale, pixels=pixels)

    @property
    def sees_all_stages(self) -> bool:
        """Whether the classifier's own top has learned from the maps of all stages."""
        return self.classifier.backbone.pooling == "stages" and getattr(self.training.top, "takes_all_", True)

    def seen(self, rows: IntArray) -> Rows:
        """`(n, D)`, of these rows of the features the columns that the classifier's own top has learned from."""
        return Rows(self.training.features.values, rows) if self.sees_all_stages else self.last(rows)

    def last(self, rows: IntArray) -> Rows:
        """`(n, D)`, of these rows of the features the columns that are means over the last map."""
        return Rows(self.training.features.values, rows).first_columns(self.network.card.n_features)

    def _announce(self, tuner: Tuner, rows: IntArray, folds: IntArray) -> None:
        """What will be trained, and what that takes."""
        training, cut, n_views = self.training, self.cut, 1 + self.views
        n_folds = int(folds.max()) + 1
        per_image = tuner.seconds_per_image(len(self.classifier.class_names))
        # the first fold once for each rate, the others once, and all images at the end
        seconds = per_image * EPOCHS * len(rows) * ((len(RATES) + n_folds - 1) * (1 - 1 / max(2, n_folds)) + 1)
        if training.n_extracted:
            seconds += training.seconds_features / training.n_extracted * len(rows) * n_views
        self.reporter.note(
            f"Fine-tuning {self.network.name}: {tuned_part(self.part, cut.layer)}, {counted(cut.n_layers, 'layer')} "
            f"with {cut.n_parameters:,} parameters. {'Pixels' if cut.is_whole else 'Activations'} take "
            f"{len(rows) * cut.n_bytes * n_views / 1e6:,.0f} MB in the feature store; all of it about "
            f"{duration(seconds)} here"
        )

    def _activations(self, rows: IntArray) -> list[Features]:
        dataset = self.training.dataset.select(self.training.features.indices[rows])
        output = PIXELS if self.cut.is_whole else self.cut.layer
        backbone = replace(self.network, output=output, pooling="flatten")
        extract = partial(extract_activations, dataset, backbone, device=self.classifier.device, reporter=self.reporter)
        return [extract(view=view) for view in range(1 + self.views)]

    def _key(self, views: list[Features], folds: IntArray) -> str:
        """Of all that a trial depends on, but for the fold and the learning rate."""
        rows, top = np.sort(self.training.examples.learned), self.training.top
        digests = self.training.dataset.digests[self.training.features.indices[rows]]
        arrays = (digests, self.training.examples.labels(rows), folds)
        return fingerprint(
            {
                "version": _VERSION,
                "activations": [found.fingerprint for found in views],
                "images": checksum(*(np.ascontiguousarray(array).view(np.uint8).data for array in arrays)),
                "l2": top.l2_,
                "features": self.training.features.fingerprint,
                "class_weight": str(top.class_weight),
                "epochs": EPOCHS,
                "batch": BATCH,
                "seed": self.seed,
            }
        )


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What a trial found, and what each candidate said of the held-out images."""

    tuning: FineTuning
    logits: dict[str, FloatArray]


@dataclass(frozen=True, eq=False)
class _Trial:
    """The candidates in training, fold by fold.

    Attributes:
        job: what it is for.
        tuner: what trains.
        views: of each view, `(N, h * w * c)` float16 activations.
        rows: `(N,)`, the rows of the features that these are of.
        labels: `(N,)`.
        folds: `(N,)`, the fold in which each is held out; -1 for never.
        folder: where the activations lie in the feature store.
        key: of all that the results depend on, but for the fold and the learning rate.
    """

    job: _Job
    tuner: Tuner
    views: list[FloatArray]
    rows: IntArray
    labels: IntArray
    folds: IntArray
    folder: str
    key: str

    @property
    def names(self) -> tuple[str, str, str]:
        """Of the candidates, from the simplest on."""
        return ALL_STAGES if self.job.sees_all_stages else LINEAR, HALF, LAST

    def compare(self) -> _Outcome:
        """Train the candidates without each fold in turn, and choose."""
        n_folds = int(self.folds.max()) + 1
        planned = [0] * len(RATES) + list(range(1, n_folds))
        total = sum(EPOCHS * n_seen(int(np.sum(self.folds != fold))) for fold in planned)
        with self.job.reporter.task("Fine-tuning", total, "images") as task:
            first = {rate: self._without(0, rate, task) for rate in RATES}
            held = np.flatnonzero(self.folds == 0)
            tried = {rate: self._candidate(LAST, part[-1], held) for rate, part in first.items()}
            n_right = {rate: found.n_right for rate, found in tried.items() if found is not None}
            rate = max(n_right, key=n_right.__getitem__) if n_right else None  # of equals the first, the lowest
            parts = [first[rate or RATES[0]]]
            if rate is not None:
                parts += [self._without(fold, rate, task) for fold in range(1, n_folds)]
        judged = np.flatnonzero((self.folds >= 0) & (self.folds < len(parts)))
        together = np.empty((len(self.names), len(judged), parts[0].shape[2]))
        for fold, part in enumerate(parts):
            together[:, self.folds[judged] == fold] = part
        every = [self._candidate(name, part, judged) for name, part in zip(self.names, together, strict=True)]
        candidates = tuple(found for found in every if found is not None)
        logits = {found.name: together[self.names.index(found.name)] for found in candidates}
        examples = self.job.training.examples
        units = examples.dataset.units(examples.images[self.rows[judged]]).of_image
        tuning = FineTuning(
            part=self.job.part,
            cut=self.job.cut.layer,
            n_layers=self.job.cut.n_layers,
            n_parameters=self.job.cut.n_parameters,
            views=self.job.views,
            seed=self.job.seed,
            n_folds=n_folds,
            rates=tuple(tried.items()),
            rate=rate,
            candidates=candidates,
            chosen=choose(logits, self.labels[judged], units),
        )
        return _Outcome(tuning, logits)

    def refit(self, rate: float, name: str) -> Weights | None:
        """The weights of the chosen candidate, trained on all rows; None where training diverged."""
        everything = np.arange(len(self.rows))
        top = self.job.training.top  # has learned from all of them already, unless from all stages
        is_plain = self.job.classifier.backbone.pooling != "stages"
        start = self.tuner.start(top.stack_) if is_plain else self._linear_tops(everything)[1]
        with self.job.reporter.task("Fine-tuning on all images", EPOCHS * n_seen(len(everything)), "images") as task:
            last = self.tuner.train(
                start, self._material(everything), rate=rate, seed=self.job.seed, on_step=task.advance
            )
        return start.half_way_to(last) if last is not None and name == HALF else last

    def _without(self, fold: int, rate: float, task: Task) -> FloatArray:
        """`(3, M, K)`, what each candidate says of the images of a fold, trained on the others; NaN where it diverged.

        What was trained before is kept beside the activations, and goes with them.
        """
        path = store_dir() / self.folder / f"tuned-{self.key}-{fold}-{rate:g}.bin"
        held, others = np.flatnonzero(self.folds == fold), np.flatnonzero(self.folds != fold)
        n_classes = len(self.job.classifier.class_names)
        kept = read_kept(path)
        if kept is not None:
            task.advance(EPOCHS * n_seen(len(others)))
            return kept.view(np.float64).reshape(len(self.names), len(held), n_classes)
        top, start = self._linear_tops(others)
        last = self.tuner.train(start, self._material(others), rate=rate, seed=self.job.seed, on_step=task.advance)
        result = np.full((len(self.names), len(held), n_classes), np.nan)
        result[0] = top.stack_.logits(self.job.seen(self.rows[held])[:])
        if last is not None:
            result[1] = self.tuner.logits(start.half_way_to(last), self.views[0], held)
            result[2] = self.tuner.logits(last, self.views[0], held)
        write_kept(path, result.tobytes())
        return result

    def _linear_tops(self, rows: IntArray) -> tuple[LinearTop, Weights]:
        """A top like the classifier's own, trained on these rows, and what fine-tuning starts from: on the last map."""
        own, job = self.job.training.top, self.job

        def fitted(values: Rows) -> LinearTop:
            top = LinearTop(l2=own.l2_, class_weight=own.class_weight)
            top.fit(values, self.labels[rows])
            return top

        last = fitted(job.last(self.rows[rows]))
        top = fitted(job.seen(self.rows[rows])) if job.sees_all_stages else last
        return top, self.tuner.start(last.stack_)

    def _material(self, rows: IntArray) -> Material:
        labels = self.labels[rows]
        classes = np.arange(len(self.job.classifier.class_names))
        weights = compute_class_weight(self.job.training.top.class_weight, classes=classes, y=labels)
        return Material(self.views, rows, labels, weights[labels])

    def _candidate(self, name: str, logits: FloatArray, rows: IntArray) -> Candidate | None:
        """How many of these rows a candidate answered right; None where it diverged."""
        if not np.isfinite(logits).all():
            return None
        return Candidate(name, int(is_right(logits, self.labels[rows]).sum()), len(rows))
