"""What a linear top says of images that it was not fitted on: cross-validation on kept features."""

from __future__ import annotations

import numpy as np

from topwork.memory import Rows
from topwork.tops.calibration import fit_temperature, with_temperature
from topwork.tops.dense_stack import softmax
from topwork.tops.linear import COARSE_L2_VALUES, COARSE_TOLERANCE, LEAST, LinearTop
from topwork.types import FloatArray, IntArray


def out_of_sample_probabilities(
    features: FloatArray, labels: IntArray, folds: IntArray, *, seed: int = 0
) -> FloatArray:
    """`(N, K)` calibrated probabilities of each image by a linear top fitted on the other folds.

    One L2 and one temperature serve all folds. Where cross-validation costs too much for `LinearTop`, its L2 is chosen
    on a part of the images, and the folds are fitted one by one.

    Args:
        features: `(N, D)`.
        labels: `(N,)`, integers in 0..K-1. A class all of whose images lie in one fold is not known there, and its
            images get a probability of 0 for it.
        folds: `(N,)`, the fold of each image, as from `topwork.data.splits.deal_folds`; two at least.
        seed: of the images held out to choose the L2, where that is a part.
    """
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    top = LinearTop(COARSE_L2_VALUES, tol=COARSE_TOLERANCE, seed=seed).fit(features, labels, folds=folds)
    if top.n_folds_ > 1:
        found = softmax(top.held_out_logits_ / top.temperature_)
        probabilities[top.held_out_rows_[:, None], top.classes_[None]] = found
        return probabilities
    for fold in np.unique(folds):
        held_out = folds == fold
        others = Rows(features, np.flatnonzero(~held_out))
        top = LinearTop(top.l2_, tol=COARSE_TOLERANCE, seed=seed).fit(others, labels[~held_out])
        probabilities[np.flatnonzero(held_out)[:, None], top.classes_[None]] = top.predict_proba(features[held_out])
    logits = np.log(np.maximum(probabilities, LEAST))
    return with_temperature(np.exp(logits), fit_temperature(logits, labels))
