"""What a comparison of networks found: each one's accuracy, time and size, and which to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.intervals import Proportion

SURE = 0.05
"""A p-value below which one network is surely more accurate than another."""


@dataclass(frozen=True)
class ComparedBackbone:
    """One network of a comparison.

    Attributes:
        title: as `NamedNetwork.title`.
        name: of the network.
        size: the side of its input, in pixels.
        weights: where they come from.
        n_features: D.
        megabytes: of its weights in float32, in MB (1e6 bytes).
        milliseconds: of one image through the network on this machine, images decoded, all cores at work.
        accuracy: cross-validated, of a linear top, on `accuracy.n` images.
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
            unsure = [other.title for other in self.backbones if other.p_value is not None and other.p_value >= SURE]
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


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value that two classifiers err equally often, from `(N,)` whether each was right."""
    from scipy.stats import binomtest

    one_alone, other_alone = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    if one_alone + other_alone == 0:
        return 1.0
    return float(binomtest(one_alone, one_alone + other_alone).pvalue)
