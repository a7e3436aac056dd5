"""Images with labels as they come, before classes are numbered; what every reader of a format returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.data.sources import ImageSource
from topwork.data.splits import SIDES, TEST, TRAIN, VALIDATION
from topwork.errors import DataError, ShapeError, did_you_mean
from topwork.files import printable
from topwork.types import IntArray, StrArray

SIDE_OF_NAME = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""How data sets write the three sides, in lower case."""


@dataclass(frozen=True, eq=False)
class LabelTable:
    """N images, each with a label, and perhaps a side and a group.

    `labels` is `(N,)`: names, or integers that index `class_names` where that is given.
    """

    source: ImageSource
    labels: NDArray[Any]
    class_names: tuple[str, ...] | None = None
    sides: StrArray | None = None
    groups: StrArray | None = None
    notes: tuple[str, ...] = ()

    def integer_labels(self) -> tuple[IntArray, tuple[str, ...]]:
        """Labels as integers in 0..K-1, and the K class names they index, those without images left out.

        Raises:
            ShapeError: the number of labels is not the number of images.
            DataError: no images, or an integer that indexes no class name.
        """
        n = len(self.source)
        if self.labels.shape != (n,):
            raise ShapeError(f"Expected one label for each of {n} images, got labels of shape {self.labels.shape}.")
        if n == 0:
            raise DataError("There are no images.")
        if self.class_names is None:
            texts = np.array([printable(str(label)) for label in self.labels])
            names = sorted_names(np.unique(texts))
            labels = _index(names, texts)
        else:
            labels = _checked_integers(self.labels, len(self.class_names))
            used, labels = np.unique(labels, return_inverse=True)  # a class without images can't be learned
            names = [self.class_names[label] for label in used]
        return labels, tuple(names)

    def checked_sides(self) -> StrArray | None:
        """`sides` in our own words, or None where they hold no split: none at all, or all for training.

        Raises:
            DataError: a side that isn't train, validation or test, or no image for training.
        """
        if self.sides is None:
            return None
        lowered = np.char.lower(self.sides)
        unknown = sorted({str(side) for side in np.unique(lowered)} - set(SIDE_OF_NAME))
        if unknown:
            row = int(np.flatnonzero(lowered == unknown[0])[0])
            raise DataError(
                f"Image {self.source.name(row)!r} is on an unknown split {str(self.sides[row])!r}. "
                f"Expected {', '.join(SIDES)}."
            )
        sides = np.array([SIDE_OF_NAME[str(side)] for side in lowered], dtype="<U10")
        if TRAIN not in sides:
            raise DataError(f"No image is marked for training; the split says {', '.join(np.unique(sides))}.")
        return None if np.all(sides == TRAIN) else sides


def require_known_classes(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a `DataError` unless every class to leave out is there."""
    known = list(known)
    for name in names:
        if name not in known:
            raise DataError(f"There is no class {name!r} to leave out.{did_you_mean(name, known)}")


def sorted_names(names: Iterable[str]) -> list[str]:
    """Names in order; whole numbers by their value, so that '10' comes after '9'."""
    names = [str(name) for name in names]
    if all(name.lstrip("-").isdecimal() for name in names):
        return sorted(names, key=int)
    return sorted(names)


def _index(names: list[str], texts: StrArray) -> IntArray:
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[str(text)] for text in texts], dtype=np.int64)


def _checked_integers(labels: NDArray[Any], n_classes: int) -> IntArray:
    if labels.dtype.kind not in "iu":
        raise DataError(f"Class names are given, so labels must be integers that index them; got {labels.dtype}.")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise DataError(f"Labels run from {labels.min()} to {labels.max()}, but there are {n_classes} class names.")
    return labels.astype(np.int64)
