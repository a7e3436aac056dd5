"""Which labels are probably wrong: images that a top, trained on the others, is sure are something else.

Images are ranked by the probability that their own label gets from a top that did not see them (five-fold
cross-validation). How many to name follows from the probabilities themselves: were all labels right and the
probabilities calibrated, then among all (image, class) pairs of a probability below t about the sum of these
probabilities would be labels. Where more labels than that lie below t, the excess is wrong labels. We name images up to
the largest t at which at least three quarters of them are excess.

The probabilities are calibrated anew without the image that is most probably labelled wrongly: among few images, a
single wrong label costs so much likelihood that all probabilities are made cautious, and it hides itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topwork.tops.calibration import fit_temperature
from topwork.tops.dense_stack import softmax
from topwork.types import FloatArray, IntArray

_EXCESS = 0.75
"""Of the images named in 30 kinds of sets with 2 or 0.5 % of the labels turned, 87 % were turned, and 30 and 27 % of
the turned were named; with 0.5, and all images calibrating, 81 %, 32 and 22 % (benchmarks/findings.py, five draws)."""
_LEAST = 1e-12
_DEVIATIONS = 4.0
"""The excess must be more than so many standard deviations of what was expected (Poisson)."""


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Images whose label is probably wrong, the most probable first.

    Attributes:
        indices: `(M,)`, rows of the features.
        suggested: `(M,)`, the label that the others suggest.
        probability: `(M,)`, the probability of the label they have, in 0..1.
    """

    indices: IntArray
    suggested: IntArray
    probability: FloatArray


def find_label_issues(labels: IntArray, probabilities: FloatArray) -> LabelIssues:
    """The labels that are probably wrong, given out-of-sample probabilities.

    Args:
        labels: `(N,)`, integers in 0..K-1.
        probabilities: `(N, K)`, rows sum to 1, of a top that did not see the image.
    """
    every_image = np.arange(len(labels))
    others = every_image != probabilities[every_image, labels].argmin()
    logits = np.log(np.maximum(probabilities, _LEAST))
    probabilities = softmax(logits / fit_temperature(logits[others], labels[others]))
    own = probabilities[every_image, labels]
    order = np.argsort(own, kind="stable")
    every = np.sort(probabilities, axis=None)
    expected = np.cumsum(every)[np.searchsorted(every, own[order], side="right") - 1]
    excess = 1 - expected / np.arange(1, len(own) + 1)
    found = np.arange(1, len(own) + 1)
    beyond_chance = found - expected > _DEVIATIONS * np.sqrt(expected)
    enough = np.flatnonzero((excess >= _EXCESS) & beyond_chance)
    chosen = order[: enough[-1] + 1] if len(enough) else order[:0]
    suggested = probabilities.argmax(axis=1)
    chosen = chosen[suggested[chosen] != labels[chosen]]
    return LabelIssues(chosen, suggested[chosen], own[chosen])
