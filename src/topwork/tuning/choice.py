"""Whether fine-tuning beat the linear top: candidates compared on images that they had not learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from topwork.types import FloatArray, IntArray

LINEAR, ALL_STAGES, HALF, LAST = "linear top", "all stages", "half-and-half", "fine-tuned"
"""A linear top on the last map, or on those of all stages; the mean of the weights before and after; those after."""
_SURE = 1.645
"""Standard errors by which a candidate must be right more often than a simpler one: one-sided, 5 %."""


@dataclass(frozen=True)
class Candidate:
    """What was compared: its name, and how many of so many held-out images it answered right."""

    name: str
    n_right: int
    n: int


@dataclass(frozen=True)
class FineTuning:
    """How a fine-tuning went.

    Attributes:
        part: what was fine-tuned.
        cut: the layer above which it was.
        n_layers: how many layers with weights lie above.
        n_parameters: how many numbers these have.
        views: augmented views of each image beside the plain one.
        seed: of the order of the images, and of their views.
        n_folds: in how many folds the candidates were cross-validated; 1 where the validation split judged.
        rates: each learning rate that was tried with what came of it on the first of the folds; None where training
            diverged.
        rate: the one that was taken; None where each diverged.
        candidates: what was compared on all held-out images, from the simplest on.
        chosen: the name of the one that was taken.
    """

    part: str
    cut: str
    n_layers: int
    n_parameters: int
    views: int
    seed: int
    n_folds: int
    rates: tuple[tuple[float, Candidate | None], ...]
    rate: float | None
    candidates: tuple[Candidate, ...]
    chosen: str

    @property
    def is_better(self) -> bool:
        """Whether fine-tuning beat the linear top."""
        return self.chosen in (HALF, LAST)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def choose(logits: Mapping[str, FloatArray], labels: IntArray, units: IntArray) -> str:
    """The name of the simplest candidate that none behind it surely beats.

    Args:
        logits: `(M, K)` by candidate, from the simplest on.
        labels: `(M,)`.
        units: `(M,)`, equal for images that are not independent: copies, and images of one group.
    """
    names = list(logits)
    chosen = names[0]
    for name in names[1:]:
        gain = is_right(logits[name], labels) - is_right(logits[chosen], labels)
        of_unit = np.bincount(np.unique(units, return_inverse=True)[1], weights=gain)
        if of_unit.sum() > _SURE * np.sqrt(np.sum(of_unit**2)):
            chosen = name
    return chosen


def is_right(logits: FloatArray, labels: IntArray) -> FloatArray:
    """`(M,)`, 1 where the highest of `(M, K)` logits is the label's."""
    return np.asarray(logits.argmax(axis=1) == labels, np.float64)
