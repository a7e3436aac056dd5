"""Images with labels as they come, before classes are numbered; what every reader of a format returns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from topwork.data.labels import NONE, label_texts, normal_form, normal_forms, sorted_names
from topwork.data.sources import ImageSource
from topwork.data.splits import SPLITS, TEST, TRAIN, VALIDATION
from topwork.errors import DataError, OptionError, ShapeError, did_you_mean
from topwork.types import IntArray, StrArray, ValAs
from topwork.words import counted

SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), VALIDATION),
    **dict.fromkeys(("test", "testing", "evaluation"), TEST),
}
"""How data sets write the three splits, in lower case."""
UNLABELLED = -1
"""In the place of a label's number, where there is no label."""


@dataclass(frozen=True)
class Wanted:
    """Which labelled images are taken, and for what: see `ImageDataset.from_table`.

    Raises:
        OptionError: an unknown `val_as`.
    """

    ignore_classes: Sequence[str] = ()
    min_images: int = 0
    skip_unlabelled: bool = False
    val_as: ValAs = "test"

    def __post_init__(self) -> None:
        if self.val_as not in get_args(ValAs):
            raise OptionError(f"Expected val_as to be 'test' or 'validation'; got {self.val_as!r}.")


@dataclass(frozen=True, eq=False)
class NumberedLabels:
    """Labels as integers.

    Attributes:
        labels: `(N,)`, integers in 0..K-1; `UNLABELLED` where there is none.
        class_names: K names, each with an image.
        unlabelled: what there is to say of images without a label; empty where each has one.
        notes: what else there is to say, one sentence each.
    """

    labels: IntArray
    class_names: tuple[str, ...]
    unlabelled: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelTable:
    """N images, each with a label, and perhaps a split and a group.

    `labels` is `(N,)`: names, or integers that index `class_names` where that is given; None or NaN where there is no
    label. `testable`: `(N,)`, which images may test a classifier; None: all.
    `are_folders`: whether a label is the name of a folder, and not given to each image by itself.
    """

    source: ImageSource
    labels: NDArray[Any]
    class_names: tuple[str, ...] | None = None
    splits: StrArray | None = None
    groups: StrArray | None = None
    notes: tuple[str, ...] = ()
    are_folders: bool = False
    testable: NDArray[np.bool_] | None = None

    def numbered_labels(self) -> NumberedLabels:
        """Labels as integers in 0..K-1, and the K class names they index, those without images left out.

        Raises:
            ShapeError: the number of labels is not the number of images.
            DataError: no images, a label that is a list, or an integer above those of the class names.
        """
        n = len(self.source)
        if self.labels.shape != (n,):
            raise ShapeError(f"Expected one label for each of {n} images, got labels of shape {self.labels.shape}.")
        if n == 0:
            raise DataError("There are no images.")
        texts = label_texts(self.labels)
        names, is_negative = None, np.zeros(n, dtype=bool)
        if self.class_names is not None:
            names = [normal_form(name) for name in self.class_names]
            texts, is_negative = _named(texts, names)
        texts, notes = normal_forms(texts)
        used = set(np.unique(texts)) - {NONE}
        ordered = sorted_names(used) if names is None else [name for name in dict.fromkeys(names) if name in used]
        place = {name: i for i, name in enumerate(ordered)} | {NONE: UNLABELLED}
        labels = np.array([place[str(text)] for text in texts], dtype=np.int64)
        unlabelled = self._of_unlabelled(labels == UNLABELLED, is_negative)
        return NumberedLabels(labels, tuple(ordered), unlabelled, tuple(notes))

    def _of_unlabelled(self, is_unlabelled: NDArray[np.bool_], is_negative: NDArray[np.bool_]) -> str:
        parts = []
        for found, what in (
            (is_unlabelled & ~is_negative, "no label"),
            (is_negative, "a negative label, such as -1, which usually means that there is none"),
        ):
            if n := int(found.sum()):
                first = self.source.name(int(np.flatnonzero(found)[0]))
                have = "has" if n == 1 else "have"
                parts.append(f"{n:,} of {counted(len(found), 'image')} {have} {what} (the first is {first!r})")
        return "; ".join(parts)

    def checked_splits(self) -> StrArray | None:
        """`splits` in our own words, or None where they hold no split: none at all, or all for training.

        Raises:
            DataError: a split that isn't train, validation or test.
        """
        if self.splits is None:
            return None
        lowered = np.char.lower(np.char.strip(self.splits))
        unknown = sorted({str(split) for split in np.unique(lowered)} - set(SPLIT_OF_NAME))
        if unknown:
            row = int(np.flatnonzero(lowered == unknown[0])[0])
            raise DataError(
                f"Image {self.source.name(row)!r} is in an unknown split {str(self.splits[row])!r}. "
                f"Expected {', '.join(SPLITS)}."
            )
        splits = np.array([SPLIT_OF_NAME[str(split)] for split in lowered], dtype="<U10")
        return None if np.all(splits == TRAIN) else splits


def require_known_classes(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a `DataError` unless every class to leave out is there."""
    known = list(known)
    for name in names:
        if name not in known:
            raise DataError(f"There is no class {name!r} to leave out.{did_you_mean(name, known)}")


def _named(texts: StrArray, names: list[str]) -> tuple[StrArray, NDArray[np.bool_]]:
    """`(N,)` the names that whole numbers in `texts` index, none for negative ones; and which are negative."""
    values, places, counts = np.unique(texts, return_inverse=True, return_counts=True)
    odd = [str(value) for value in values if value != NONE and not re.fullmatch(r"-?\d{1,18}", value)]
    if odd:
        raise DataError(f"Class names are given, so labels must be integers that index them; got {odd[0]!r}.")
    numbers = np.array([-1 if value == NONE else int(value) for value in values], dtype=np.int64)
    beyond = numbers >= len(names)
    if np.any(beyond):
        shown = ", ".join(map(str, numbers[beyond][:5]))
        n_images = int(counts[beyond].sum())
        raise DataError(
            f"{counted(n_images, 'image')} {'has' if n_images == 1 else 'have'} a label beyond the "
            f"{counted(len(names), 'class name')}, which are numbered from 0: {shown}. Correct these labels or the "
            "list of names, or give a column with names."
        )
    named = np.array([names[k] if k >= 0 else NONE for k in numbers], dtype=str)
    return named[places], ((numbers < 0) & (values != NONE))[places]
