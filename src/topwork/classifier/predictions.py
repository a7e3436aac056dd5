"""What a classifier answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.features.pipeline import BadImage
from topwork.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities for the readable ones of N images.

    Attributes:
        names: N names, as a person would call the images.
        indices: `(n,)`, which of the N images could be read, ascending.
        probabilities: `(n, K)` float64, rows sum to 1, one for each of `indices`.
        bad: the images that could not be read.
        class_names: K names.
        novelty: `(n,)`, how unlike the training images each image is (see `Novelty.scores`); None where the
            classifier can't tell.
        threshold: of the classifier, beyond which an image is unknown; None as above.
    """

    names: tuple[str, ...]
    indices: IntArray
    probabilities: FloatArray
    bad: tuple[BadImage, ...]
    class_names: tuple[str, ...]
    novelty: FloatArray | None = None
    threshold: float | None = None

    @property
    def is_unknown(self) -> NDArray[np.bool_] | None:
        """`(n,)` booleans, whether each image is unlike the training images; None where the classifier can't tell."""
        return None if self.novelty is None or self.threshold is None else self.novelty > self.threshold


def join_predictions(slices: Sequence[Predictions]) -> Predictions:
    """Predictions for all images of `slices`, one or more, one after another."""
    starts = np.cumsum([0, *(len(part.names) for part in slices)])
    placed = list(zip(starts, slices, strict=False))
    return Predictions(
        names=tuple(name for part in slices for name in part.names),
        indices=np.concatenate([start + part.indices for start, part in placed]),
        probabilities=np.concatenate([part.probabilities for part in slices]),
        bad=tuple(replace(image, index=int(start) + image.index) for start, part in placed for image in part.bad),
        class_names=slices[0].class_names,
        novelty=_joined([part.novelty for part in slices]),
        threshold=slices[0].threshold,
    )


def _joined(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if len(there) == len(parts) else None
