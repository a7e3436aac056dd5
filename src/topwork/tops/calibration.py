"""Probabilities that mean what they say: one temperature, fitted on held-out examples.

A network's probabilities are usually too sure. Dividing the logits by one number T, chosen to minimise the log loss on
images that training did not see, mends most of it and changes no answer (Guo et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

import numpy as np

from topwork.tops.dense_stack import softmax
from topwork.types import FloatArray, IntArray

_WIDEST = 3.0
"""T is searched from exp(-3) to exp(3)."""


def fit_temperature(logits: FloatArray, labels: IntArray, *, spread: float = 0.5) -> float:
    """The temperature that makes the logits of N held-out examples most likely.

    Args:
        logits: `(N, K)`, before the softmax.
        labels: `(N,)`, integers in 0..K-1.
        spread: standard deviation of log T beforehand. With few examples, all answered right, the likelihood alone
            would make the top ever surer; with a hundred or more this prior no longer counts.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    true = logits[np.arange(len(labels)), labels]

    def objective(log_t: float) -> float:
        t = np.exp(log_t)
        return float(np.sum(logsumexp(logits / t, axis=1) - true / t) + 0.5 * (log_t / spread) ** 2)

    found = minimize_scalar(objective, bounds=(-_WIDEST, _WIDEST), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def with_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """`(N, K)` probabilities as they would be had their logits been divided by `temperature`, rows sum to 1.

    `with_temperature(p, 1 / T)` undoes a temperature T, but for probabilities that had become 0.
    """
    return softmax(np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)) / temperature)
