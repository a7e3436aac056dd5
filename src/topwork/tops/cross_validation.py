"""What a linear top says of images that it was not fitted on: cross-validation on kept features."""

from __future__ import annotations

import numpy as np

from topwork.memory import Rows
from topwork.tops.calibration import fit_temperature, with_temperature
from topwork.tops.linear import COARSE_L2_VALUES, COARSE_TOLERANCE, LinearTop
from topwork.types import FloatArray, IntArray

FOLDS = 5
_LEAST = 1e-12


def out_of_sample_probabilities(
    features: FloatArray, labels: IntArray, folds: IntArray, *, seed: int = 0
) -> FloatArray:
    """`(N, K)` calibrated probabilities of each image by a linear top fitted on the other folds.

    The L2 is chosen once, within the images outside the first fold: folds differ little, and the sweep costs most.

    Args:
        features: `(N, D)`.
        labels: `(N,)`, integers in 0..K-1. A class all of whose images lie in one fold is not known there, and its
            images get a probability of 0 for it.
        folds: `(N,)`, the fold of each image, as from `topwork.data.splits.deal_folds`; two at least.
        seed: of the images held out to choose the L2.
    """
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    l2: float | tuple[float, ...] = COARSE_L2_VALUES
    for fold in np.unique(folds):
        held_out = folds == fold
        others = Rows(features, np.flatnonzero(~held_out))
        top = LinearTop(l2, tol=COARSE_TOLERANCE, seed=seed).fit(others, labels[~held_out])
        l2 = top.l2_
        probabilities[np.flatnonzero(held_out)[:, None], top.classes_[None]] = top.predict_proba(features[held_out])
    logits = np.log(np.maximum(probabilities, _LEAST))
    return with_temperature(np.exp(logits), fit_temperature(logits, labels))
