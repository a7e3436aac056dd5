"""Which images are unlike all others: placeholders, empty frames, pages of text among photographs.

Each image's distance is one minus the cosine to its 10th nearest neighbour, as for unknown images (`tops/novelty.py`);
and, among enough images, the same between whitened features (Mahalanobis), of the 64 directions in which the images
differ most. The plain distance sees junk whose features are few; the whitened one sees features that are rare together.
Each distance is taken in parts of that which a tenth of the images exceed, and the larger one counts.
"""

from __future__ import annotations

import numpy as np

from topwork.memory import Rows, blocks
from topwork.tops.novelty import NEIGHBOURS, REFERENCES, neighbour_distances, unit_length
from topwork.types import FloatArray, IntArray

FAR = 2.5
"""Of an image that is called strange. Among 600 flower photographs 81 % of drawn junk of six kinds lies beyond it
(starter, MobileNetV2), and of nine sets without junk 2 images in 1,000 (benchmarks/findings.py)."""
_DIRECTIONS = 64
"""Junk found at 1 % false alarms among 600 photographs, starter and MobileNetV2: by 32 directions 0.67 and 0.75, by 64
0.72 and 0.99, by 128 0.61 and 0.94; by the plain distance 0.72 and 0.65, by that and 64 directions 0.99 and 0.97."""
_FEWEST_TO_WHITEN = 256
"""Images below which the directions are mostly chance: with 100, whitening found fewer."""


def strange_rows(features: FloatArray, units: IntArray, *, at_least: float = FAR) -> tuple[IntArray, FloatArray]:
    """Images whose neighbours are far, compared with those of the others.

    Args:
        features: `(N, D)`.
        units: `(N,)`, equal for copies, which are no neighbours of each other: many copies of one placeholder are as
            strange as one.
        at_least: how far above the median, in parts of how far the tenth of the images lies that is farthest.

    Returns:
        Rows, and how far they are; the farthest first.
    """
    if len(features) <= NEIGHBOURS:
        return np.empty(0, np.int64), np.empty(0)
    chosen = np.sort(np.random.default_rng(0).permutation(len(features))[:REFERENCES])
    apart = units, units[chosen]
    score = _far(neighbour_distances(features, unit_length(features[chosen]), apart=apart))
    if len(features) >= _FEWEST_TO_WHITEN:
        whitened = _whitened(features, features[chosen])
        score = np.maximum(score, _far(neighbour_distances(whitened, unit_length(whitened[chosen]), apart=apart)))
    far = np.flatnonzero(score > at_least)
    far = far[np.argsort(-score[far], kind="stable")]
    return far, score[far]


def _far(distance: FloatArray) -> FloatArray:
    middle, high = np.quantile(distance, (0.5, 0.9))
    return np.asarray((distance - middle) / max(high - middle, 0.05 * middle, 1e-9))


def _whitened(features: FloatArray, references: FloatArray) -> FloatArray:
    """`(N, R)` float32: along the directions in which the references differ most, each of variance 1 there."""
    from sklearn.utils.extmath import randomized_svd

    mean = references.mean(axis=0)
    n_directions = min(_DIRECTIONS, len(references) // 8)
    _, spread, directions = randomized_svd(references - mean, n_directions, random_state=0)
    directions = directions[spread > 1e-4 * spread[0]].T / spread[spread > 1e-4 * spread[0]] * len(references) ** 0.5
    every = Rows(features, np.arange(len(features)))
    return np.concatenate([((every[rows] - mean) @ directions).astype(np.float32) for rows in blocks(every)])
