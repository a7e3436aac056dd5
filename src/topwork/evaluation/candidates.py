"""A network in a comparison: as it was typed, how long an image takes it here, how accurate it is on a sample."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.backbone import Backbone
from topwork.backbones.cards import find_card
from topwork.backbones.engines import Engine
from topwork.backbones.graph_file import is_network_file
from topwork.backbones.hub import PREFIX
from topwork.data.dataset import ImageDataset
from topwork.data.splits import TEST, deal_folds, growing_sample
from topwork.errors import DataError, OptionError
from topwork.evaluation.comparison import ComparedBackbone
from topwork.evaluation.intervals import CROSS_VALIDATED, Proportion, proportion
from topwork.features.extraction import extract_features
from topwork.progress import Reporter
from topwork.tops.cross_validation import out_of_sample_probabilities
from topwork.tops.linear import FOLDS
from topwork.types import Device, ImageArray, IntArray, Pooling

FIRST_SAMPLE = 500
"""Images in the first round; more where there are many classes."""
_OF_EACH_CLASS = 20
_SECONDS_TO_TIME = 1.0
ENOUGH_TO_TIME = 100
"""Images, of which a round must have computed so many to say how long one takes, decoding included."""


@dataclass(frozen=True)
class NamedNetwork:
    """A network to compare, as typed: `NAME`, `NAME@SIZE`, `NAME=WEIGHTS` or `NAME@SIZE=WEIGHTS`.

    Or `FILE`, `FILE@SIZE`, `FILE=OUTPUT` or `FILE@SIZE=OUTPUT:POOLING`; what isn't named, the file and the JSON beside
    it must say. The same with `hf:OWNER/NAME` as the file.
    """

    name: str
    size: int | None = None
    weights: str | None = None
    output: str | None = None
    pooling: Pooling | None = None

    @classmethod
    def read(cls, text: str) -> NamedNetwork:
        """The candidate that `text` names.

        Raises:
            UnknownNameError: no such network.
            OptionError: a size that is none, or that it can't take.
        """
        start, _, weights = text.partition("=")
        name, at, size = start.rpartition("@")
        if not at or (start.startswith(PREFIX) and not size.isdecimal()):  # what follows is a commit
            name, at, size = start, "", ""
        if at and not size.isdecimal():
            raise OptionError(f"Expected a size in pixels after '@', such as {name}@160; got {text!r}.")
        chosen = int(size) if at else None
        if is_network_file(name) or name.startswith(PREFIX):
            output, colon, pooling = weights.rpartition(":")
            if not colon or pooling not in get_args(Pooling):
                output, pooling = weights, ""
            return cls(name, chosen, None, output or None, pooling or None)  # type: ignore[arg-type]
        card = find_card(name)
        card.checked_size(chosen)
        return cls(card.name, chosen, weights or None)

    @property
    def title(self) -> str:
        """What tables call it: 'densenet121@224'; with weights that aren't its own, 'densenet121@224=random'."""
        if is_network_file(self.name) or self.name.startswith(PREFIX):
            how = f"={self.output}" + (f":{self.pooling}" if self.pooling else "") if self.output else ""
            return (f"{self.name}@{self.size}" if self.size else self.name) + how
        size = find_card(self.name).checked_size(self.size)
        return f"{self.name}@{size}" + (f"={Path(self.weights).name}" if self.weights else "")


class GrowingSample:
    """The images that are not for testing, in the order in which they join the sample, each with its fold."""

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset.select(np.asarray(dataset.splits) != TEST)
        units = self._dataset.units(np.arange(len(self)))
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
class Candidate:
    """One network of a comparison.

    Attributes:
        title: as `NamedNetwork.title`.
        backbone: ready for use.
        n_features: D.
        milliseconds: of one image through the network alone.
        seed: of the images held out to choose an L2.
        seconds_image: of one image, as far as is known: the network's alone at first, later with decoding.
        dropped_for: the title of the network that was surely better; empty while it runs.
        n: how many images its last round had; of those that can't be read, `right` has none.
        right: whether the top was right about each readable image that may test.
        seconds_top: what the tops of the last round took.
    """

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
        """Cross-validated, of its last round."""
        return proportion(int(self.right.sum()), len(self.right), inflation=CROSS_VALIDATED)

    def seconds_for(self, n: int) -> float:
        """About what a round of `n` images takes, of which those so far are done."""
        return (n - self.n) * self.seconds_image + self.seconds_top * n / max(1, self.n)

    def run(self, images: GrowingSample, n: int, device: Device, reporter: Reporter) -> None:
        """One round: features of the first `n` images, and tops cross-validated on them.

        Raises:
            DataError: fewer than two classes have readable images.
        """
        sample, folds = images.sample(n)
        began = time.perf_counter()
        features = extract_features(sample, self.backbone, device=device, reporter=reporter)
        if features.n_extracted >= ENOUGH_TO_TIME:  # with decoding, which may take longer than the network
            self.seconds_image = (time.perf_counter() - began) / features.n_extracted
        began = time.perf_counter()
        labels = sample.labels[features.indices]
        known, codes = np.unique(labels, return_inverse=True)
        if len(known) < 2:
            raise DataError("Fewer than two classes have readable images; a comparison needs two at least.")
        probabilities = out_of_sample_probabilities(features.values, codes, folds[features.indices], seed=self.seed)
        may_test = sample.may_test[features.indices]
        self.n, self.right = n, (probabilities.argmax(axis=1) == codes)[may_test]
        self.seconds_top = time.perf_counter() - began

    def compared(self, stayed: Iterable[Candidate], p_value: float | None) -> ComparedBackbone:
        """What a comparison says of it, beside those that `stayed` to the end."""
        is_beaten = any(
            other.milliseconds < self.milliseconds and other.accuracy.value >= self.accuracy.value for other in stayed
        )
        return ComparedBackbone(
            title=self.title,
            name=self.backbone.typed,
            size=self.backbone.size,
            weights=self.backbone.weights.origin,
            n_features=self.n_features,
            megabytes=self.backbone.card.megabytes,
            milliseconds=self.milliseconds,
            accuracy=self.accuracy,
            dropped_for=self.dropped_for,
            p_value=p_value,
            is_on_front=not self.dropped_for and not is_beaten,
        )


def seconds_per_image(engine: Engine, size: int) -> float:
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
