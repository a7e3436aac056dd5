"""Each 95 % interval covers the truth about 95 times in 100, and the figures are those of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from topwork.evaluation.intervals import Interval, balanced_accuracy, mean_interval, proportion, roc_auc


def test_wilson_interval_of_a_known_case() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662."""
    found = proportion(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def wilson(random: np.random.Generator) -> tuple[float, Interval]:
    truth, n = random.uniform(0.5, 0.99), int(random.integers(40, 400))
    return truth, proportion(int(random.binomial(n, truth)), n)


def mean(random: np.random.Generator) -> tuple[float, Interval]:
    return 0.5, mean_interval(random.gamma(1.0, 0.5, 200), seed=int(random.integers(1 << 30)))


def balanced(random: np.random.Generator) -> tuple[float, Interval]:
    recalls, shares = np.array([0.9, 0.7, 0.6]), np.array([0.6, 0.3, 0.1])
    n = random.multinomial(400, shares)
    return float(recalls.mean()), balanced_accuracy(random.binomial(n, recalls), n, seed=int(random.integers(1 << 30)))


def area(random: np.random.Generator) -> tuple[float, Interval]:
    """Two classes whose scores are normal, 1.5 deviations apart."""
    labels = np.arange(200) % 2
    scores = random.normal(size=200) + 1.5 * labels
    found = roc_auc(labels, np.stack([-scores, scores], axis=1))
    assert found is not None
    return float(norm.cdf(1.5 / 2**0.5)), found


@pytest.mark.parametrize("draw", [wilson, mean, balanced, area])
def test_interval_covers_the_truth_95_times_in_100(draw: Callable[..., tuple[float, Interval]]) -> None:
    random = np.random.default_rng(0)
    n = 800
    covered = [found.low <= truth <= found.high for truth, found in (draw(random) for _ in range(n))]
    # 800 draws: one standard deviation is 0.0077; the bootstrap of a skewed mean is known to be a point short
    assert 0.92 < np.mean(covered) < 0.972


def test_values_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    scores = np.round(random.dirichlet(np.ones(4), 300) + 0.3 * np.eye(4)[labels], 1)  # rounded, so that some tie
    scores /= scores.sum(axis=1, keepdims=True)
    found = roc_auc(labels, scores)
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"))
    assert found.low < found.value < found.high
    right = scores.argmax(axis=1) == labels
    n = np.bincount(labels)
    expected = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert balanced_accuracy(np.bincount(labels, weights=right).astype(int), n).value == pytest.approx(expected)


def test_area_where_there_is_nothing_to_rank() -> None:
    assert roc_auc(np.zeros(5, int), np.ones((5, 2)) / 2) is None
    perfect = roc_auc(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]))
    assert perfect == Interval(1.0, 1.0, 1.0)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert mean_interval(values) == mean_interval(values)
