"""Which network: cross-validated accuracy on the user's own images against time and size on this machine.

The networks race. All start on a sample of the images; one that is slower than another and surely more than a point
less accurate is dropped, and the rest go on to four times as many images, until all images are used or the time is up.
What was extracted is kept, so no image runs twice through a network. Test images are not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.backbone import Backbone, load_backbone
from topwork.backbones.cards import find_card
from topwork.backbones.engines import Device, open_engine
from topwork.data.dataset import ImageDataset
from topwork.data.splits import TEST, deal_folds, find_units, growing_sample
from topwork.errors import DataError, OptionError, TopworkError
from topwork.evaluation.intervals import Proportion, proportion
from topwork.features.extraction import extract_features
from topwork.progress import Reporter, duration
from topwork.tops.cross_validation import FOLDS, out_of_sample_probabilities
from topwork.types import ImageArray, IntArray

FIRST_SAMPLE = 500
"""Images in the first round; more where there are many classes."""
_OF_EACH_CLASS = 20
_FEWEST = 100
_GROWTH = 4
_MARGIN = 0.01
_DEVIATIONS = 2.58
"""Of a difference between two networks on the same images: beyond so many, it is sure at 99 %."""
_SURE = 0.05
_SECONDS_TO_TIME = 1.0
_ENOUGH_TO_TIME = 100
_TOO_LATE = "the time was up before its turn"


@dataclass(frozen=True)
class Candidate:
    """A network to compare, as typed: `NAME`, `NAME@SIZE`, `NAME=WEIGHTS` or `NAME@SIZE=WEIGHTS`."""

    name: str
    size: int | None = None
    weights: str | None = None

    @classmethod
    def read(cls, text: str) -> Candidate:
        """The candidate that `text` names.

        Raises:
            UnknownNameError: no such network.
            OptionError: a size that is none, or that it can't take.
        """
        start, _, weights = text.partition("=")
        name, at, size = start.partition("@")
        card = find_card(name)
        if at and not size.isdecimal():
            raise OptionError(f"Expected a size in pixels after '@', such as {card.name}@160; got {text!r}.")
        card.checked_size(int(size) if at else None)
        return cls(card.name, int(size) if at else None, weights or None)

    @property
    def title(self) -> str:
        """What tables call it: 'densenet121@224'; with weights that aren't its own, 'densenet121@224=random'."""
        size = find_card(self.name).checked_size(self.size)
        return f"{self.name}@{size}" + (f"={Path(self.weights).name}" if self.weights else "")


@dataclass(frozen=True)
class ComparedBackbone:
    """One network of a comparison.

    Attributes:
        title: as `Candidate.title`.
        name: of the network.
        size: the side of its input, in pixels.
        weights: where they come from.
        n_features: D.
        megabytes: of its weights in float32, in MB (1e6 bytes).
        milliseconds: of one image through the network on this machine, images decoded, all cores at work.
        accuracy: cross-validated, of a linear top, on `accuracy.n` images; its interval is Wilson's.
        dropped_for: which network is as fast and was surely more accurate in an early round; empty if it stayed.
        p_value: that chance alone makes such a difference to the most accurate (McNemar 1947,
            doi 10.1007/BF02295996, exact); None for that one itself, and for those that were dropped.
        is_on_front: whether nothing in the last round is both faster and more accurate.
    """

    title: str
    name: str
    size: int
    weights: str
    n_features: int
    megabytes: float
    milliseconds: float
    accuracy: Proportion
    dropped_for: str
    p_value: float | None
    is_on_front: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**vars(self), "accuracy": self.accuracy.as_dict()}


@dataclass(frozen=True)
class Comparison:
    """Networks compared on the same images.

    Attributes:
        backbones: those that stayed, the most accurate first; then those dropped.
        left_out: network -> why it could not be compared.
        recommended: which of `backbones` to take: the fastest of those that lie within a point of the most accurate
            and are not surely less accurate.
        n_images: how many images the last round had.
        n_available: how many images there were to learn from.
        seconds: how long it took.
        seconds_saved: about how long the dropped networks would have taken for the images of the last round.
    """

    backbones: tuple[ComparedBackbone, ...]
    left_out: dict[str, str]
    recommended: ComparedBackbone
    n_images: int
    n_available: int
    seconds: float
    seconds_saved: float

    @property
    def advice(self) -> str:
        """The recommendation in a sentence or two."""
        best, taken = self.backbones[0], self.recommended
        if len(self.backbones) == 1:
            return f"Only {best.title} could be compared: {100 * best.accuracy.value:.1f} %."
        if taken is best:
            text = f"Take {best.title}: the most accurate, {100 * best.accuracy.value:.1f} %"
            unsure = [other.title for other in self.backbones if other.p_value is not None and other.p_value >= _SURE]
            return f"{text}, though not surely more so than {', '.join(unsure[:3])}." if unsure else f"{text}."
        times = best.milliseconds / taken.milliseconds
        return (
            f"Take {taken.title}: {100 * taken.accuracy.value:.1f} %, not surely less than {best.title} "
            f"({100 * best.accuracy.value:.1f} %, p = {taken.p_value:.2f}), and {times:.1f} times as fast."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "backbones": [backbone.as_dict() for backbone in self.backbones],
            "left_out": self.left_out,
            "recommended": self.recommended.title,
            "advice": self.advice,
            "n_images": self.n_images,
            "n_available": self.n_available,
            "seconds": self.seconds,
            "seconds_saved": self.seconds_saved,
        }


def compare_backbones(
    dataset: ImageDataset,
    candidates: Sequence[str | Candidate],
    *,
    budget: float | None = None,
    seed: int = 0,
    device: Device = "auto",
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Comparison:
    """Race networks on labelled images; see the module's head for how.

    Args:
        dataset: labelled images; their test side is not looked at.
        candidates: networks, as `Candidate.read` takes them: 'starter', 'mobilenet_v2@160', 'resnet50=FILE'.
        budget: seconds that it may take; None goes on to all images. Each round is as large as the time allows.
        seed: of the images held out to choose an L2.
        device: where the networks run.
        offline: never use the network (the other kind) for weights.
        reporter: hears how far it is, and what is dropped.

    Raises:
        UnknownNameError: no such network.
        DataError: fewer than two classes have readable images, or no network can be used.
        TooManyBadImagesError: more than a tenth of the images can't be read.
    """
    reporter = reporter or Reporter()
    chosen = list(dict.fromkeys(Candidate.read(c) if isinstance(c, str) else c for c in candidates))
    if not chosen:
        raise OptionError("Name a network to compare at least; `topwork backbones` lists them.")
    dataset.read_digests(reporter)
    images = _Images(dataset.with_sides)
    clock = _Clock(budget)
    racers, left_out = _line_up(chosen, clock, device, offline, seed, reporter)
    n = 0
    while (following := _next_sample(n, racers, images, clock)) is not None:
        if n:
            _drop(racers, reporter)
        n = following
        running = _still_running(racers)
        took = f", about {duration(sum(r.seconds_for(n) for r in running))}" if n > images.first_sample else ""
        reporter.note(f"{len(running)} networks on {n:,} of {len(images):,} images{took}")
        for racer in running:
            if racer.n == 0 and clock.left <= 0 and racer is not running[0]:
                _leave_out(left_out, racer.title, _TOO_LATE, reporter)
                racers.remove(racer)
                continue
            racer.run(images, n, device, reporter)
            reporter.note(f"  {racer.title}: {racer.accuracy}, {racer.milliseconds:.1f} ms an image")
    return _assemble(racers, left_out, len(images), clock)


class _Clock:
    """How much of the budget is left."""

    def __init__(self, budget: float | None) -> None:
        self._began = time.perf_counter()
        self._budget = np.inf if budget is None else budget

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        return self._budget - self.seconds


class _Images:
    """The images that are not for testing, in the order in which they join the sample, each with its fold."""

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset.select(np.asarray(dataset.sides) != TEST)
        units = find_units(self._dataset.digests, self._dataset.groups)
        self._order = growing_sample(self._dataset.labels, units)
        self._folds = deal_folds(self._dataset.labels, units, FOLDS)
        self.first_sample = min(len(self), max(FIRST_SAMPLE, _OF_EACH_CLASS * len(dataset.class_names)))

    def __len__(self) -> int:
        return len(self._dataset)

    def sample(self, n: int) -> tuple[ImageDataset, IntArray]:
        """The first `n` images, and the fold of each."""
        rows = np.sort(self._order[:n])
        return self._dataset.select(rows), self._folds[rows]


@dataclass(eq=False)
class _Racer:
    """One network in the race."""

    title: str
    backbone: Backbone
    n_features: int
    milliseconds: float
    seed: int
    seconds_image: float
    dropped_for: str = ""
    n: int = 0
    right: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    seconds_top: float = 0.0

    @property
    def accuracy(self) -> Proportion:
        return proportion(int(self.right.sum()), len(self.right))

    def seconds_for(self, n: int) -> float:
        """About what a round of `n` images takes, of which those so far are done."""
        return (n - self.n) * self.seconds_image + self.seconds_top * n / max(1, self.n)

    def run(self, images: _Images, n: int, device: Device, reporter: Reporter) -> None:
        sample, folds = images.sample(n)
        began = time.perf_counter()
        features = extract_features(sample, self.backbone, device=device, reporter=reporter)
        if features.n_extracted >= _ENOUGH_TO_TIME:  # with decoding, which may take longer than the network
            self.seconds_image = (time.perf_counter() - began) / features.n_extracted
        began = time.perf_counter()
        labels = sample.labels[features.indices]
        known, codes = np.unique(labels, return_inverse=True)
        if len(known) < 2:
            raise DataError("Fewer than two classes have readable images; a comparison needs two at least.")
        probabilities = out_of_sample_probabilities(features.values, codes, folds[features.indices], seed=self.seed)
        self.n, self.right = n, probabilities.argmax(axis=1) == codes
        self.seconds_top = time.perf_counter() - began


def _line_up(
    candidates: list[Candidate], clock: _Clock, device: Device, offline: bool, seed: int, reporter: Reporter
) -> tuple[list[_Racer], dict[str, str]]:
    """Every network that can run, timed; and why the others can't."""
    racers: list[_Racer] = []
    left_out: dict[str, str] = {}
    with reporter.task("Timing the networks", len(candidates), "networks") as task:
        for candidate in candidates:
            if racers and clock.left <= 0:
                _leave_out(left_out, candidate.title, _TOO_LATE, reporter)
                continue
            try:
                backbone = load_backbone(
                    candidate.name, weights=candidate.weights, size=candidate.size, offline=offline, reporter=reporter
                )
                engine = open_engine(backbone, device)
            except TopworkError as error:
                _leave_out(left_out, candidate.title, str(error), reporter)
                continue
            seconds = _seconds_per_image(engine, backbone.size)
            racers.append(_Racer(candidate.title, backbone, engine.n_features, 1000 * seconds, seed, seconds))
            task.advance()
    if not racers:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in left_out.items())
        raise DataError(f"None of the networks can be compared.{reasons}")
    return racers, left_out


def _leave_out(left_out: dict[str, str], title: str, reason: str, reporter: Reporter) -> None:
    left_out[title] = reason
    reporter.warning(f"{title} is left out: {reason}")


def _still_running(racers: list[_Racer]) -> list[_Racer]:
    return [racer for racer in racers if not racer.dropped_for]


def _seconds_per_image(engine: Any, size: int) -> float:
    """Of a network at work on all cores, after a first batch each."""
    images = np.random.default_rng(0).integers(0, 256, (engine.batch_size, size, size, 3), np.uint8)

    def batches(seconds: float, at_least: int) -> Iterator[tuple[int, ImageArray]]:
        began, n = time.perf_counter(), 0
        while n < at_least or time.perf_counter() - began < seconds:
            yield n, images
            n += 1

    for _ in engine.run(batches(0.0, 2)):
        pass
    began = time.perf_counter()
    n = sum(len(values) for _, values in engine.run(batches(_SECONDS_TO_TIME, 4)))
    return (time.perf_counter() - began) / n


def _next_sample(n: int, racers: list[_Racer], images: _Images, clock: _Clock) -> int | None:
    """How many images the next round takes; None where all are used, or no time is left for more."""
    if n == 0:
        wanted = images.first_sample
    elif n < len(images):
        wanted = _GROWTH * n if _GROWTH * n < 0.75 * len(images) else len(images)
    else:
        return None
    running = _still_running(racers)
    fewest = min(wanted, int(1.2 * n) + 1 if n else _FEWEST)
    while sum(racer.seconds_for(wanted) for racer in running) > clock.left:
        if wanted <= fewest:
            return None if n else wanted
        wanted = max(fewest, int(0.8 * wanted))
    return wanted


def _drop(racers: list[_Racer], reporter: Reporter) -> None:
    """Drop each network than which another is no slower, and surely more than a point more accurate."""
    running = _still_running(racers)
    for racer in running:
        for other in running:
            difference = other.right.astype(float) - racer.right
            surely = difference.mean() - _DEVIATIONS * difference.std() / np.sqrt(len(difference))
            if not other.dropped_for and other.milliseconds <= racer.milliseconds and surely > _MARGIN:
                racer.dropped_for = other.title
                reporter.note(f"Dropped {racer.title}: {other.title} is no slower and surely more accurate")
                break


def _assemble(racers: list[_Racer], left_out: dict[str, str], n_available: int, clock: _Clock) -> Comparison:
    stayed = _still_running(racers)
    stayed.sort(key=lambda racer: (-racer.accuracy.value, racer.milliseconds))
    dropped = sorted((racer for racer in racers if racer.dropped_for), key=lambda racer: -racer.accuracy.value)
    best = stayed[0]
    p_values = {racer.title: mcnemar(best.right, racer.right) for racer in stayed[1:]}
    least = best.accuracy.value - _MARGIN
    equals = [racer for racer in stayed if p_values.get(racer.title, 1.0) >= _SURE and racer.accuracy.value >= least]
    taken = min(equals, key=lambda racer: racer.milliseconds)
    results = {racer.title: _result(racer, stayed, p_values.get(racer.title)) for racer in (*stayed, *dropped)}
    return Comparison(
        backbones=tuple(results.values()),
        left_out=left_out,
        recommended=results[taken.title],
        n_images=best.n,
        n_available=n_available,
        seconds=clock.seconds,
        seconds_saved=sum(racer.seconds_for(best.n) for racer in dropped),
    )


def _result(racer: _Racer, stayed: list[_Racer], p_value: float | None) -> ComparedBackbone:
    beaten = any(
        other.milliseconds < racer.milliseconds and other.accuracy.value >= racer.accuracy.value for other in stayed
    )
    return ComparedBackbone(
        title=racer.title,
        name=racer.backbone.name,
        size=racer.backbone.size,
        weights=racer.backbone.weights.origin,
        n_features=racer.n_features,
        megabytes=racer.backbone.card.megabytes,
        milliseconds=racer.milliseconds,
        accuracy=racer.accuracy,
        dropped_for=racer.dropped_for,
        p_value=p_value,
        is_on_front=not racer.dropped_for and not beaten,
    )


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value that two classifiers err equally often, from `(N,)` whether each was right."""
    from scipy.stats import binomtest

    one_alone, other_alone = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    if one_alone + other_alone == 0:
        return 1.0
    return float(binomtest(one_alone, one_alone + other_alone).pvalue)
