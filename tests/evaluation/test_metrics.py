"""Metrics are what their definitions say, and the interval covers what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from topwork.errors import DataError, ShapeError
from topwork.evaluation.metrics import evaluate_probabilities, proportion


def test_a_small_case_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0]])
    found = evaluate_probabilities(labels, probabilities, ("a", "b", "c"))
    assert found.accuracy.value == 0.75
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert found.log_loss == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.2, 0.7])))
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert [result.name for result in found.classes] == ["a", "b"]  # class c has no images here
    assert found.classes[1].precision is not None
    assert found.classes[1].precision.value == 0.5
    assert found.classes[1].f1 == pytest.approx(2 / 3)


def test_wilson_interval_of_a_known_case() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662."""
    found = proportion(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def test_interval_covers_the_truth_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    covered = []
    for _ in range(4000):
        truth, n = random.uniform(0.5, 0.99), int(random.integers(40, 400))
        found = proportion(int(random.binomial(n, truth)), n)
        covered.append(found.low <= truth <= found.high)
    assert 0.94 < np.mean(covered) < 0.965  # 4000 draws: one standard deviation is 0.0035


def test_no_images_and_wrong_shapes() -> None:
    with pytest.raises(DataError, match="no images"):
        evaluate_probabilities(np.array([], int), np.empty((0, 2)), ("a", "b"))
    with pytest.raises(ShapeError, match=r"shape \(2, 3\), got \(2, 2\)"):
        evaluate_probabilities(np.array([0, 1]), np.ones((2, 2)) / 2, ("a", "b", "c"))
