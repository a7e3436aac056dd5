"""How a classifier came about: what its training leaves beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork.classifier.fitting import Examples, HeldOut
from topwork.data.dataset import ImageDataset
from topwork.features.extraction import Features
from topwork.features.pipeline import BadImage
from topwork.progress import Row
from topwork.tuning.choice import FineTuning


@dataclass(frozen=True, eq=False)
class Training:
    """How a classifier came about.

    Attributes:
        dataset: all its images, with their splits.
        features: of all of them, as they are.
        examples: the views that the top learned from.
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
        fine_tuning: how fine-tuning went; None where there was none. Where it was better, the features, the examples
            and what was held out are those of the tuned network, and the top is the one that it began with.
    """

    dataset: ImageDataset
    features: Features
    examples: Examples
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
    fine_tuning: FineTuning | None = None

    @property
    def n_of_class(self) -> dict[str, int]:
        """How many images of each class it learned from, those for validation included."""
        learned = self.examples.learned[self.examples.learned < self.examples.n_plain]
        counts = np.bincount(self.examples.labels(learned), minlength=len(self.dataset.class_names))
        return dict(zip(self.dataset.class_names, counts.tolist(), strict=True))

    @property
    def temperature(self) -> float | None:
        """What the logits are divided by; None for a top that isn't ours."""
        return self.held_out.temperature if self.held_out else None
