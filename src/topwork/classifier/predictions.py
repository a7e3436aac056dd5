"""What a classifier answers."""

from __future__ import annotations

from dataclasses import dataclass

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
        is_unknown: `(n,)` booleans, whether that is beyond the classifier's threshold; None as above.
    """

    names: tuple[str, ...]
    indices: IntArray
    probabilities: FloatArray
    bad: tuple[BadImage, ...]
    class_names: tuple[str, ...]
    novelty: FloatArray | None = None
    is_unknown: NDArray[np.bool_] | None = None
