"""Which training images are most like an image, by kept features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topwork.classifier.classifier import ImageClassifier
from topwork.features.extraction import feature_facts
from topwork.features.store import open_shelf
from topwork.runs.folder import training_images
from topwork.types import FloatArray

_MOST = 50_000
"""Training images that are compared; of larger sets every n-th."""


@dataclass(frozen=True)
class Neighbour:
    """A training image: its name, its label, and the cosine of its standardised features with those asked for."""

    name: str
    label: str
    cosine: float


def nearest_training_images(
    path: Path, classifier: ImageClassifier, features: FloatArray, *, n: int = 5
) -> list[Neighbour]:
    """The `n` training images of a run nearest to `(D,)` features; none where their features aren't kept here.

    `path` is the run folder, or the classifier in it.
    """
    images = training_images(path)
    shelf = open_shelf(feature_facts(classifier.backbone))
    if images is None or shelf is None or not len(images.digests):
        return []
    places = shelf.find(images.digests)
    known = np.flatnonzero(places >= 0)
    known = known[:: max(1, -(-len(known) // _MOST))]
    if not len(known):
        return []
    X = shelf.read(places[known])
    mean, scale = X.mean(axis=0), X.std(axis=0) + 1e-6
    X, x = (X - mean) / scale, (features - mean) / scale
    cosine = X @ x / np.maximum(np.linalg.norm(X, axis=1) * np.linalg.norm(x), 1e-12)
    nearest = np.argsort(-cosine, kind="stable")[:n]
    return [Neighbour(images.names[known[i]], images.labels[known[i]], float(cosine[i])) for i in nearest]
