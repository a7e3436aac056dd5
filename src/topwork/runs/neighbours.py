"""Which training images are most like an image, by kept features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topwork.classifier.classifier import ImageClassifier
from topwork.data.dataset import ImageDataset
from topwork.errors import TopworkError
from topwork.features.extraction import feature_facts
from topwork.features.store import open_kept
from topwork.report.pictures import pictures_of
from topwork.runs.images import dataset_of_run, training_images
from topwork.types import FloatArray

_MOST = 50_000
"""Training images that are compared; of larger sets every n-th."""


@dataclass(frozen=True)
class Neighbour:
    """A training image: its name, its label, and the cosine of its standardised features with those asked for.

    `digest` is of its content, 16 bytes.
    """

    name: str
    label: str
    cosine: float
    digest: bytes


def nearest_training_images(
    path: Path, classifier: ImageClassifier, features: FloatArray, *, besides: bytes = b"", n: int = 5
) -> list[Neighbour]:
    """The training images of a run nearest to an image.

    Args:
        path: the run folder, or the classifier in it.
        classifier: the run's.
        features: `(D,)`, of the image.
        besides: the digest of the image itself, which is not its own neighbour.
        n: how many.

    Returns:
        The nearest first; none where their features aren't kept here.
    """
    images = training_images(path)
    kept = open_kept(feature_facts(classifier.backbone))
    if images is None or kept is None or not len(images.digests):
        return []
    places = kept.find(images.digests)
    known = np.flatnonzero((places >= 0) & (images.digests != besides))
    known = known[:: max(1, -(-len(known) // _MOST))]
    if not len(known):
        return []
    X = kept.read(places[known])
    mean, scale = X.mean(axis=0), X.std(axis=0) + 1e-6
    X, x = (X - mean) / scale, (features - mean) / scale
    cosine = X @ x / np.maximum(np.linalg.norm(X, axis=1) * np.linalg.norm(x), 1e-12)
    nearest = np.argsort(-cosine, kind="stable")[:n]
    return [
        Neighbour(images.names[i], images.labels[i], float(cosine[place]), bytes(images.digests[i]))
        for place in nearest
        for i in [int(known[place])]
    ]


def pictures_of_neighbours(path: Path, neighbours: Sequence[Neighbour]) -> list[str]:
    """Each neighbour as a small picture, a `data:` address; empty where it isn't any more where it was in training."""
    try:
        dataset = dataset_of_run(path)
    except TopworkError:
        return [""] * len(neighbours)
    rows = {name: row for row, name in enumerate(dataset.names)}
    return [_picture_of(dataset, rows.get(neighbour.name), neighbour.digest) for neighbour in neighbours]


def _picture_of(dataset: ImageDataset, row: int | None, digest: bytes) -> str:
    """The image in a row as a `data:` address, if it still is the one of this digest."""
    if row is None:
        return ""
    image = dataset.select(np.array([row]))
    return pictures_of(image, np.array([0]))[0] if image.digests[0] == digest else ""
