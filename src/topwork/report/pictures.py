"""Images as small pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from topwork.checks.check import DataCheck
from topwork.classifier.predictions import Predictions
from topwork.data.dataset import ImageDataset
from topwork.data.decoding import quiet_pillow, read_square
from topwork.errors import BadImageError
from topwork.recipe import Recipe
from topwork.types import ImageArray, IntArray

_SIDE = 112
_QUALITY = 80


@dataclass(frozen=True)
class Mistake:
    """One image that was called by a wrong name: the picture as a `data:` address, and what was said of it."""

    name: str
    picture: str
    label: str
    called: str
    probability: float


def most_confident_mistakes(dataset: ImageDataset, predictions: Predictions, n: int = 12) -> list[Mistake]:
    """The wrong answers that were given with the highest probability; often the label is what is wrong."""
    labels = dataset.labels[predictions.indices]
    called = predictions.probabilities.argmax(axis=1)
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(called != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:n]
    pictures = pictures_of(dataset, predictions.indices[wrong])
    names = predictions.class_names
    return [
        Mistake(predictions.names[predictions.indices[i]], picture, names[labels[i]], names[called[i]], confidence[i])
        for i, picture in zip(wrong, pictures, strict=True)
        if picture
    ]


@dataclass(frozen=True)
class LabelIssue:
    """One image whose label is probably wrong: that label, its probability in 0..1, and the more probable label."""

    name: str
    picture: str
    label: str
    probability: float
    suggested: str


def label_issues(dataset: ImageDataset, check: DataCheck, n: int = 12) -> list[LabelIssue]:
    """The images whose labels are most probably wrong."""
    found = check.label_issues
    pictures = pictures_of(dataset, found.indices[:n])
    return [
        LabelIssue(check.names[i], picture, check.label(i), float(probability), check.class_names[suggested])
        for i, probability, suggested, picture in zip(
            found.indices, found.probability, found.suggested, pictures, strict=False
        )
        if picture
    ]


@dataclass(frozen=True)
class StrangeImage:
    """One image unlike the others."""

    name: str
    picture: str
    label: str


def strange_images(dataset: ImageDataset, check: DataCheck, n: int = 12) -> list[StrangeImage]:
    """The images that are most unlike the others."""
    pictures = pictures_of(dataset, check.strange[:n])
    return [
        StrangeImage(check.names[i], picture, check.label(i))
        for i, picture in zip(check.strange, pictures, strict=False)
        if picture
    ]


@dataclass(frozen=True)
class CopyPair:
    """Two images that show the same picture, or nearly the same, with the labels and splits that they have."""

    kind: str
    names: tuple[str, str]
    pictures: tuple[str, str]
    labels: tuple[str, str]
    splits: tuple[str, str] | None

    @property
    def trouble(self) -> str:
        """What is wrong with it, if more than that there are two."""
        wrong = ["two labels"] if self.labels[0] != self.labels[1] else []
        wrong += ["two splits"] if self.splits and self.splits[0] != self.splits[1] else []
        return " and ".join(wrong)


def copy_pairs(dataset: ImageDataset, check: DataCheck, n: int = 12) -> list[CopyPair]:
    """The pairs of copies and near copies that matter most: with two labels, then on two splits."""
    places = check.worst_pairs[:n]
    pairs = check.copies.pairs[places]
    wanted = np.unique(pairs)
    pictures = dict(zip(wanted.tolist(), pictures_of(dataset, wanted), strict=True))
    return [
        CopyPair(
            kind="copies" if is_exact else "near copies",
            names=(check.names[a], check.names[b]),
            pictures=(pictures[a], pictures[b]),
            labels=(check.label(a), check.label(b)),
            splits=None if check.splits is None else (str(check.splits[a]), str(check.splits[b])),
        )
        for (a, b), is_exact in zip(pairs.tolist(), check.copies.is_exact[places], strict=True)
        if pictures[a] and pictures[b]
    ]


def pictures_of(dataset: ImageDataset, indices: IntArray) -> list[str]:
    """The images at `indices` of a dataset, as `data:` addresses; empty where one can't be read any more."""
    order = np.argsort(indices, kind="stable")
    rows = dataset.rows[indices[order]]
    result = [""] * len(indices)
    with quiet_pillow():
        for place, row, payload in zip(order, rows, dataset.source.payloads(rows), strict=True):
            try:
                pixels = read_square(payload, Recipe(_SIDE, dataset.value_range), dataset.source.name(int(row)))
            except BadImageError:
                continue
            result[place] = data_address(pixels, _QUALITY)
    return result


def data_address(pixels: ImageArray, quality: int) -> str:
    """`(h, w, 3)` uint8 as a JPEG inside a `data:` address; `quality` is Pillow's, 1 to 95."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
