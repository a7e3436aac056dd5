"""What a classifier answers."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    names: tuple[str, ...]
    indices: IntArray
    probabilities: FloatArray
    bad: tuple[BadImage, ...]
    class_names: tuple[str, ...]
