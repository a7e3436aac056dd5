"""Which images to label next, so that each label teaches much: typical of many, uncertain, unlike those that have one.

Each image of a pool is worth what it adds to a cover (facility location): every image of the pool counts by how like it
is to the labelled or chosen image that is most like it, times how uncertain the present top is about it. While there is
no top, all count alike, and the first chosen are the middles of the largest clusters.
"""

from __future__ import annotations

import numpy as np

from topwork.types import FloatArray, IntArray

POOL = 1500
"""Images among which is chosen: of 100,000 with 1,024 features, all of them would take minutes."""
_SHARPNESS = 2
"""The power of the cosine by which images are like each other. CIFAR-10 with the starter, two or three draws, after 20,
100 and 400 labels, all equally uncertain: by the cosine itself 45.0, 61.6 and 70.1 %, by its square 46.9, 63.8 and
71.0, by its cube 46.2, 62.2 and 69.4."""
_MOST_LABELLED = 2000
"""Labelled images, drawn from all of them, that count as covered."""


def choose(
    features: FloatArray,
    is_open: IntArray,
    labelled: IntArray,
    n: int,
    *,
    uncertainty: FloatArray | None = None,
    seed: int = 0,
) -> IntArray:
    """Up to `n` rows of `features`, the most instructive first.

    Args:
        features: `(N, D)` float32.
        is_open: `(M,)`, the rows that may be chosen.
        labelled: `(L,)`, the rows that have a label.
        n: how many are wanted.
        uncertainty: `(N,)` in 0..1, how unsure the present top is about each row; None: there is no top yet.
        seed: of the pool.
    """
    if len(is_open) == 0:
        return np.empty(0, np.int64)
    random = np.random.default_rng(seed)
    pool = random.permutation(is_open)[:POOL]
    covered = random.permutation(labelled)[:_MOST_LABELLED]
    values = features[np.concatenate([pool, covered])]
    mean, spread = values[: len(pool)].mean(axis=0), values[: len(pool)].std(axis=0)
    values = (values - mean) / np.maximum(spread, 1e-6)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    pool_values = values[: len(pool)]
    likeness = np.maximum(pool_values @ pool_values.T, 0) ** _SHARPNESS
    best = np.maximum(pool_values @ values[len(pool) :].T, 0).max(axis=1, initial=0) ** _SHARPNESS
    weights = np.ones(len(pool), np.float32) if uncertainty is None else uncertainty[pool].astype(np.float32)
    chosen: list[int] = []
    more = np.empty_like(likeness)
    for _ in range(min(n, len(pool))):
        np.maximum(np.subtract(likeness, best[:, None], out=more), 0, out=more)
        gain = weights @ more
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        best = np.maximum(best, likeness[chosen[-1]])
    return np.asarray(pool[chosen], np.int64)


def margin_uncertainty(probabilities: FloatArray) -> FloatArray:
    """`(N,)` in 0..1 of `(N, K)` probabilities: 1 less what lies between the two most probable classes."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]))
