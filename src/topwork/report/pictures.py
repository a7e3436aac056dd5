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
class Doubt:
    """One image whose label is probably wrong."""

    name: str
    picture: str
    label: str
    suggested: str


def doubtful_labels(dataset: ImageDataset, check: DataCheck, n: int = 12) -> list[Doubt]:
    """The images whose labels are most probably wrong."""
    indices, suggested = check.doubts.indices[:n], check.doubts.suggested[:n]
    names = dataset.class_names
    return [
        Doubt(check.names[i], picture, names[dataset.labels[i]], names[other])
        for i, other, picture in zip(indices, suggested, pictures_of(dataset, indices), strict=True)
        if picture
    ]


@dataclass(frozen=True)
class CopyPair:
    """Two images that show the same picture, with the labels and sides that they have."""

    names: tuple[str, str]
    pictures: tuple[str, str]
    remarks: tuple[str, str]


def telling_copies(dataset: ImageDataset, check: DataCheck, n: int = 8) -> list[CopyPair]:
    """Pairs of copies that matter most: under two labels, then on two sides of the split."""
    places = list(dict.fromkeys([*check.contradictions.tolist(), *check.leaks.tolist()]))[:n]
    pairs = check.copies.pairs[places]
    wanted = np.unique(pairs)
    pictures = dict(zip(wanted.tolist(), pictures_of(dataset, wanted), strict=True))

    def remark(i: int) -> str:
        side = "" if check.sides is None else f", {check.sides[i]}"
        return f"{dataset.class_names[dataset.labels[i]]}{side}"

    return [
        CopyPair((check.names[a], check.names[b]), (pictures[a], pictures[b]), (remark(a), remark(b)))
        for a, b in pairs.tolist()
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
                pixels = read_square(payload, _SIDE, dataset.source.name(int(row)))
            except BadImageError:
                continue
            result[place] = data_address(pixels, _QUALITY)
    return result


def data_address(pixels: ImageArray, quality: int) -> str:
    """`(h, w, 3)` uint8 as a JPEG inside a `data:` address; `quality` is Pillow's, 1 to 95."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
