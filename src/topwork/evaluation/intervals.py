"""How sure a figure is: 95 % intervals of proportions, means and areas under curves. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topwork.types import FloatArray, IntArray

CROSS_VALIDATED = 1.5
"""The variance of a cross-validated share, in parts of that of as many test images. So wide, 94.7 % of 1,140 intervals
hold the accuracy of the final top on new images; plain ones 89.8 % (benchmarks/cross_validated_test.py)."""
_DEVIATIONS = 1.959964
"""Of a normal distribution: 95 % of it lie within so many to both sides."""
_DRAWS = 1000
_NUMBERS = 20_000_000
"""Of a bootstrap: fewer draws of large sets, whose intervals are narrow anyway."""
_FEWEST_DRAWS = 200


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval: it holds for new images drawn as these were, not for images from elsewhere."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Proportion(Interval):
    """A share of n with its 95 % interval, all in 0..1.

    The interval is Wilson's (1927, doi 10.1080/01621459.1927.10502953); of a cross-validated test, Wilson's for
    `n / CROSS_VALIDATED` images.
    """

    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"

    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return {**super().as_dict(), "n": self.n}


def proportion(n_right: int, n: int, *, inflation: float = 1.0) -> Proportion:
    """`n_right` of `n` as a proportion with its interval, whose variance is so many times that of plain chance."""
    share, z2 = n_right / n, _DEVIATIONS**2 * inflation / n
    centre = (share + z2 / 2) / (1 + z2)
    reach = float(np.sqrt(z2 * share * (1 - share) + z2**2 / 4)) / (1 + z2)
    return Proportion(share, max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach)), n)


def mean_interval(values: FloatArray, *, inflation: float = 1.0, seed: int = 0) -> Interval:
    """The mean of `(N,)` values, with the bootstrap's percentile interval (Efron 1979, doi 10.1214/aos/1176344552)."""
    random = np.random.default_rng(seed)
    n_draws = int(np.clip(_NUMBERS // len(values), _FEWEST_DRAWS, _DRAWS))
    means = np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(n_draws)])
    mean = float(values.mean())
    low, high = mean + (np.percentile(means, (2.5, 97.5)) - mean) * inflation**0.5
    return Interval(mean, float(low), float(high))


def balanced_accuracy(n_right: IntArray, n: IntArray, *, inflation: float = 1.0, seed: int = 0) -> Interval:
    """The mean over classes of `n_right / n`, both `(K,)` and no `n` 0, with the bootstrap's percentile interval.

    Whether an image is right is all that counts, so images are drawn anew by one multinomial over (class, right).
    """
    total = int(n.sum())
    cells = np.concatenate([n_right, n - n_right]) / total
    drawn = np.random.default_rng(seed).multinomial(round(total / inflation), cells, size=_DRAWS)
    right, wrong = drawn[:, : len(n)], drawn[:, len(n) :]
    with np.errstate(invalid="ignore"):
        recalls = right / (right + wrong)  # a class that was not drawn at all has none
    low, high = np.percentile(np.nanmean(recalls, axis=1), (2.5, 97.5))
    if np.all(n_right == n):  # draws from nothing but right answers say nothing of wrong ones
        low = proportion(total, total, inflation=inflation).low
    return Interval(float(np.mean(n_right / n)), float(low), float(high))


def roc_auc(labels: IntArray, scores: FloatArray, *, inflation: float = 1.0) -> Interval | None:
    """Mean area under the ROC curve, each class against the rest: 0.5 is chance, 1 is perfect ranking.

    The interval is that of DeLong, DeLong, Clarke-Pearson (1988, doi 10.2307/2531595) for the mean of the classes,
    taken on the logit so that it stays below 1.

    Args:
        labels: `(N,)`, integers in 0..K-1.
        scores: `(N, K)`; classes without images, or with all of them, are left out.
        inflation: how many times the variance of plain chance it has.

    Returns:
        None where no class is left. Where every ranking is perfect, how sure that is can't be told: low is value.
    """
    from scipy.stats import norm, rankdata

    areas, influence = [], np.zeros(len(labels))
    for k in range(scores.shape[1]):
        inside = labels == k
        n_in = int(inside.sum())
        n_out = len(labels) - n_in
        if n_in == 0 or n_out == 0:
            continue
        overall = rankdata(scores[:, k])
        below = np.empty(len(labels))  # the share of the other side that an image is ranked rightly against
        below[inside] = (overall[inside] - rankdata(scores[inside, k])) / n_out
        below[~inside] = 1 - (overall[~inside] - rankdata(scores[~inside, k])) / n_in
        area = float(below[inside].mean())
        areas.append(area)
        influence[inside] += (below[inside] - area) / n_in
        influence[~inside] += (below[~inside] - area) / n_out
    if not areas:
        return None
    area = float(np.mean(areas))
    error = float(np.sqrt(inflation * np.sum((influence / len(areas)) ** 2)))
    if not 0 < area < 1 or error == 0:
        return Interval(area, area, area)
    centre, reach = np.log(area / (1 - area)), float(norm.ppf(0.975)) * error / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(centre - reach))), 1 / (1 + np.exp(-(centre + reach)))
    return Interval(area, float(low), float(high))
