"""Is this image like those the top was trained on? A score from the features, and a threshold.

Two signs, each as standard deviations from its mean over images that were held out, added up:

- the distance (one minus cosine) to the 10th nearest of up to 2,000 training images, features as they are
  (Sun et al. 2022, arXiv 2204.06507): standardised ones took blurry digits for ordinary photographs;
- the energy, minus the logarithm of the sum of the exponentials of the logits (Liu et al. 2020, arXiv 2010.03759).

Neither alone is the better one everywhere: on classes of CIFAR-10 that were left out, the one or the other leads by up
to fifteen points of ROC-AUC, and their sum is near the better of both (`docs/measurements.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from topwork.errors import ShapeError
from topwork.memory import Rows, select
from topwork.types import FloatArray, IntArray

NEIGHBOURS = 10
KNOWN = 0.95
"""The share of ordinary images that the threshold lets pass as known."""
FEWEST_FOR_NOVELTY = 20
"""Held-out images below which a threshold would be guessed."""
REFERENCES = 2_000
_NUMBERS = 8_000_000
"""Of the references, at most: wide features get fewer."""
_ROWS_AT_A_TIME = 1024
_ARRAYS = ("references", "centre", "spread")


@dataclass(frozen=True, eq=False)
class Novelty:
    """What tells images like the training images from others.

    Attributes:
        references: `(M, D)` float16, features of training images, scaled to length 1.
        centre: `(2,)` float64, mean distance and mean energy of the held-out images.
        spread: `(2,)` float64, their standard deviations.
        threshold: scores above it are those of images unlike the training images.
    """

    references: NDArray[np.float16]
    centre: FloatArray
    spread: FloatArray
    threshold: float

    def scores(self, features: FloatArray, logits: FloatArray) -> FloatArray:
        """`(N,)` float64, higher for stranger images; about 0 ± 2 for images like the training images.

        Args:
            features: `(N, D)`.
            logits: `(N, K)`, what the top gives for them.
        """
        return np.asarray(np.sum((self.signs(features, logits) - self.centre) / self.spread, axis=1))

    def signs(self, features: FloatArray | Rows, logits: FloatArray) -> FloatArray:
        """`(N, 2)` float64, distance and energy as they are."""
        return np.stack([neighbour_distances(features, self._wide_references), _energies(logits)], axis=1)

    def fits(self, n_features: int) -> bool:
        """Whether it is of features of this width."""
        return bool(self.references.shape[1] == n_features)

    def tensors(self) -> dict[str, NDArray[np.floating]]:
        """The arrays by name, as `from_tensors` takes them."""
        return {**{name: getattr(self, name) for name in _ARRAYS}, "threshold": np.array([self.threshold])}

    @classmethod
    def from_tensors(cls, tensors: dict[str, NDArray[np.floating]]) -> Novelty:
        """What `tensors` describes.

        Raises:
            ShapeError: an array is missing, or of another shape or dtype than `tensors()` has them.
        """
        kinds = {name: (str(values.dtype), values.shape) for name, values in tensors.items()}
        shapes = {"centre": (2,), "spread": (2,), "threshold": (1,), "references": kinds.get("references", ("", ()))[1]}
        dtypes = {"references": "float16"}
        if kinds != {name: (dtypes.get(name, "float64"), shape) for name, shape in shapes.items()}:
            raise ShapeError(f"Expected references, centre, spread and threshold; got {kinds}.")
        if len(shapes["references"]) != 2 or min(shapes["references"]) < 1 or tensors["spread"].min() <= 0:
            raise ShapeError(f"Expected (M, D) references and positive spreads; got {kinds}, {tensors['spread']}.")
        return cls(**{name: tensors[name] for name in _ARRAYS}, threshold=float(tensors["threshold"][0]))

    @cached_property
    def _wide_references(self) -> NDArray[np.float32]:
        """As float32, once: for one image, as a service asks, that took sixteen times as long as the distances."""
        return self.references.astype(np.float32)


def fit_novelty(X: FloatArray | Rows, units: IntArray, rows: IntArray, logits: FloatArray, *, seed: int = 0) -> Novelty:
    """What tells images like those of `X` from others, its threshold set so that 95 % of such images pass.

    The threshold lies at the rank of conformal prediction (Vovk, Gammerman, Shafer 2005): of M images held out, the
    `ceil(0.95 (M + 1))`-th lowest score, so that the share holds for few images too.

    Args:
        X: `(N, D)` features of the images that were learned from; some of them are kept as references.
        units: `(N,)`, equal for copies and for images of one group: they are no neighbours of each other here, as no
            new image will be one of theirs.
        rows: `(M,)`, the images that were held out, each in its turn or all at once, as rows of `X`.
        logits: `(M, K)`, what they got from tops that had not learned from them.
        seed: of the choice of references.
    """
    n_references = int(np.clip(_NUMBERS // X.shape[1], 1, min(REFERENCES, len(X))))
    chosen = np.sort(np.random.default_rng(seed).choice(len(X), n_references, replace=False))
    references = unit_length(X[chosen]).astype(np.float16)
    apart = units[rows], units[chosen]
    distances = neighbour_distances(select(X, rows), references.astype(np.float32), apart=apart)
    signs = np.stack([distances, _energies(logits)], axis=1)
    centre, spread = signs.mean(axis=0), np.maximum(signs.std(axis=0), 1e-6)
    scores = np.sort(np.sum((signs - centre) / spread, axis=1))
    rank = min(len(scores), int(np.ceil(KNOWN * (len(scores) + 1))))
    return Novelty(references, centre, spread, float(scores[rank - 1]))


def neighbour_distances(
    X: FloatArray | Rows, references: FloatArray, *, apart: tuple[IntArray, IntArray] | None = None
) -> FloatArray:
    """`(N,)` float64, one minus the cosine to the 10th nearest reference; to the farthest of fewer.

    Args:
        X: `(N, D)` features.
        references: `(M, D)` float32, of length 1.
        apart: `(N,)` and `(M,)`; where the two are equal, the reference is passed over.
    """
    result = np.empty(len(X))
    for start in range(0, len(X), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        similarity = unit_length(X[rows]) @ references.T
        if apart is not None:
            similarity[apart[0][rows, None] == apart[1]] = -np.inf
        n_left = np.isfinite(similarity).sum(axis=1)
        similarity.partition(max(0, similarity.shape[1] - NEIGHBOURS), axis=1)
        nearest = np.sort(similarity[:, -NEIGHBOURS:], axis=1)[:, ::-1]
        place = np.clip(n_left, 1, nearest.shape[1]) - 1
        result[rows] = 1.0 - np.maximum(nearest[np.arange(len(nearest)), place], -1.0)
    return result


def unit_length(X: FloatArray) -> FloatArray:
    """Rows scaled to length 1, float32."""
    return np.asarray(X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _energies(logits: FloatArray) -> FloatArray:
    highest = logits.max(axis=1)
    return np.asarray(-highest - np.log(np.exp(logits - highest[:, None]).sum(axis=1)))
