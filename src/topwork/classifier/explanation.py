"""Why this answer: what in the image speaks for a class, and which training images are nearest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from topwork.backbones.engines import Engine
from topwork.classifier.classifier import ImageClassifier
from topwork.data.decoding import Payload, quiet_pillow, read_square
from topwork.errors import OptionError, did_you_mean
from topwork.tops.dense_stack import DenseStack
from topwork.types import FloatArray, ImageArray

Method = Literal["class activation", "occlusion"]
_GRID = 10
"""Places along each side that occlusion covers in turn."""
_EXACT = 1e-3
"""How far the mean of the last map may be from the pooled features, relative to the largest, to be called them."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What speaks for a class in one image.

    Attributes:
        image: `(size, size, 3)` uint8, what the backbone sees of it.
        class_name: the class that is explained.
        probability: what the classifier gives it, in 0..1.
        heat: `(h, w)` float64 over the image; positive speaks for the class, negative against it. With 'class
            activation' these are parts of the class's logit beyond the mean logit, and their sum is all of it but for
            the bias. With 'occlusion' they are what covering a place takes from the logarithm of the probability.
        method: how it was found.
        features: `(D,)` float32, of the image.
    """

    image: ImageArray
    class_name: str
    probability: float
    heat: FloatArray
    method: Method
    features: FloatArray


def explain(classifier: ImageClassifier, image: Payload, *, class_name: str | None = None) -> Explanation:
    """Explain the classifier's answer for one image.

    A linear top on averaged features is explained exactly, by the last feature map before averaging (class activation
    maps: Zhou et al. 2016, arXiv 1512.04150). Others are explained by covering one place after another (occlusion:
    Zeiler, Fergus 2014, arXiv 1311.2901): a hundred runs of the backbone.

    Args:
        classifier: as from `load_classifier`.
        image: a path, encoded bytes, a PIL image, or a uint8 array.
        class_name: the class to explain; None takes the most probable one.

    Raises:
        BadImageError: the image can't be read.
        OptionError: no such class.
    """
    with quiet_pillow():
        backbone = classifier.backbone
        pixels = np.array(read_square(image, backbone.recipe, str(image)))
    return explain_pixels(classifier, pixels, class_name=class_name)


def explain_pixels(classifier: ImageClassifier, pixels: ImageArray, *, class_name: str | None = None) -> Explanation:
    """`explain` of what the backbone sees: `(size, size, 3)` uint8. Any thread may call it.

    Raises:
        OptionError: no such class.
    """
    features = _run(classifier.engine, pixels[None])
    probabilities = classifier.predict_features(features).probabilities
    k = _class_index(classifier, class_name, probabilities[0])
    found = _class_activation(classifier, pixels, features[0], k)
    method: Method = "class activation" if found is not None else "occlusion"
    heat = found if found is not None else _occlusion(classifier, pixels, float(probabilities[0, k]), k)
    return Explanation(pixels, classifier.class_names[k], float(probabilities[0, k]), heat, method, features[0])


def _class_index(classifier: ImageClassifier, class_name: str | None, probabilities: FloatArray) -> int:
    if class_name is None:
        return int(probabilities.argmax())
    if class_name not in classifier.class_names:
        raise OptionError(
            f"The classifier knows no class {class_name!r}.{did_you_mean(class_name, classifier.class_names)} "
            f"It knows {', '.join(classifier.class_names[:20])}."
        )
    return classifier.class_names.index(class_name)


def _class_activation(
    classifier: ImageClassifier, pixels: ImageArray, features: FloatArray, k: int
) -> FloatArray | None:
    """The heat of a linear top on averaged features; None for other tops, and where features aren't plain averages."""
    top, backbone = classifier.top, classifier.backbone
    if not isinstance(top, DenseStack) or len(top.kernels) != 1 or backbone.pooling not in ("avg", "patches"):
        return None
    flat = _run(classifier.map_engine, pixels[None])[0]
    places = flat.reshape(-1, len(features)).astype(np.float64)
    if len(places) == 1 or np.abs(places.mean(axis=0) - features).max() > _EXACT * np.abs(features).max():
        return None
    kernel = top.kernels[0].astype(np.float64)
    heat = places @ (kernel[:, k] - kernel.mean(axis=1)) / len(places)
    side = round(len(places) ** 0.5)
    return np.asarray(heat.reshape(side, -1))


def _occlusion(classifier: ImageClassifier, pixels: ImageArray, probability: float, k: int) -> FloatArray:
    size = len(pixels)
    edges = np.linspace(0, size, _GRID + 1)
    margin = size / _GRID / 2  # patches overlap, so that what lies across an edge is covered too
    covered = np.repeat(pixels[None], _GRID * _GRID, axis=0)
    grey = pixels.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    for place, patch in enumerate(covered):
        row, column = divmod(place, _GRID)
        top, left = (max(0, round(edges[i] - margin)) for i in (row, column))
        bottom, right = (round(edges[i + 1] + margin) for i in (row, column))
        patch[top:bottom, left:right] = grey
    probabilities = classifier.predict_features(_run(classifier.engine, covered)).probabilities
    tiny = np.finfo(np.float64).tiny
    loss = np.log(max(probability, tiny)) - np.log(np.maximum(probabilities[:, k], tiny))
    return np.asarray(loss.reshape(_GRID, _GRID))


def _run(engine: Engine, images: ImageArray) -> FloatArray:
    def batches() -> Iterator[tuple[int, ImageArray]]:
        for start in range(0, len(images), engine.batch_size):
            yield start, images[start : start + engine.batch_size]

    found = dict(engine.run(batches()))
    return np.concatenate([found[start] for start in sorted(found)])
