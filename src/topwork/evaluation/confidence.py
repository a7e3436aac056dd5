"""May a probability be believed, and what does it buy to answer the sure images only? Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.types import FloatArray, IntArray

BINS = 15
_POINTS = 100
_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often answers of each confidence are right. A calibrated classifier's 80 % are right 80 times in 100.

    Attributes:
        confidence: `(b,)`, the mean probability of the answers in each bin that is not empty.
        accuracy: `(b,)`, the share of them that is right.
        n: `(b,)`, how many they are.
        error: expected calibration error, the mean of |accuracy - confidence| over all answers, in 0..1; with few
            images it is above 0 even for a calibrated classifier.
    """

    confidence: FloatArray
    accuracy: FloatArray
    n: IntArray
    error: float

    @property
    def chance(self) -> float:
        """The error below which a calibrated classifier stays on so many answers, 97.5 times in 100."""
        right = np.random.default_rng(0).binomial(self.n, np.clip(self.confidence, 0, 1), (_DRAWS, len(self.n)))
        errors = np.abs(right - self.n * self.confidence).sum(axis=1) / self.n.sum()
        return float(np.percentile(errors, 97.5))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "error": self.error,
            "bins": [
                {"confidence": float(c), "accuracy": float(a), "n": int(n)}
                for c, a, n in zip(self.confidence, self.accuracy, self.n, strict=True)
            ],
        }


def reliability(labels: IntArray, probabilities: FloatArray) -> Reliability:
    """The reliability of N answers in 15 bins of equal width (Guo et al. 2017, arXiv 1706.04599).

    Args:
        labels: `(N,)`, integers in 0..K-1.
        probabilities: `(N, K)`, rows sum to 1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    n = np.bincount(bins, minlength=BINS)
    there = n > 0
    mean_confidence = np.bincount(bins, confidence, BINS)[there] / n[there]
    accuracy = np.bincount(bins, right, BINS)[there] / n[there]
    error = float(np.sum(n[there] * np.abs(accuracy - mean_confidence)) / len(labels))
    return Reliability(mean_confidence, accuracy, n[there], error)


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """What abstaining buys: the share of wrong answers when only the surest images are answered.

    Attributes:
        coverage: `(p,)`, the share of the images answered, rising to 1.
        risk: `(p,)`, the share of these answers that is wrong.
    """

    coverage: FloatArray
    risk: FloatArray

    def coverage_at(self, risk: float) -> float:
        """The largest share of images that can be answered with at most this share wrong; 0 where none can."""
        within = self.coverage[self.risk <= risk]
        return float(within[-1]) if len(within) else 0.0

    def as_dict(self) -> dict[str, list[float]]:
        """Plain values, for JSON."""
        return {"coverage": self.coverage.tolist(), "risk": self.risk.tolist()}


def risk_coverage(right: NDArray[np.bool_], confidence: FloatArray) -> RiskCoverage:
    """The curve of N answers, the surest first (El-Yaniv, Wiener 2010), at 100 points at most.

    Args:
        right: `(N,)`, whether each answer is right.
        confidence: `(N,)`, how sure it is.
    """
    shuffled = np.random.default_rng(0).permutation(len(right))  # ties must not follow the order of the data
    order = shuffled[np.argsort(-confidence[shuffled], kind="stable")]
    wrong = np.cumsum(~right[order])
    n = len(right)
    answered = np.unique(np.ceil(np.linspace(0, 1, _POINTS + 1)[1:] * n).astype(int))
    return RiskCoverage(answered / n, wrong[answered - 1] / answered)
