"""Metrics are what their definitions say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from topwork.errors import DataError, ShapeError
from topwork.evaluation.metrics import evaluate_probabilities


def test_a_small_case_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0]])
    found = evaluate_probabilities(labels, probabilities, ("a", "b", "c"))
    assert found.accuracy.value == 0.75
    assert found.balanced_accuracy.value == pytest.approx((2 / 3 + 1) / 2)
    assert found.log_loss.value == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.2, 0.7])))
    assert found.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert [result.name for result in found.classes] == ["a", "b"]  # class c has no images here
    assert found.classes[1].precision is not None
    assert found.classes[1].precision.value == 0.5
    assert found.classes[1].f1 == pytest.approx(2 / 3)


def test_most_confused_pairs_and_top_k() -> None:
    labels = np.array([0, 0, 0, 1, 2])
    probabilities = np.array(
        [[0.1, 0.2, 0.7], [0.3, 0.2, 0.5], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]], dtype=float
    )
    found = evaluate_probabilities(labels, probabilities, ("a", "b", "c"))
    assert found.most_confused == (("a", "c", 2), ("a", "b", 1), ("c", "a", 1))
    assert found.top_k[2].value == 0.4  # the second and the fourth; there is no k of 3 for 3 classes
    assert list(found.top_k) == [2]


def test_two_and_a_thousand_classes() -> None:
    random = np.random.default_rng(0)
    for n_classes in (2, 1000):
        labels = random.integers(0, n_classes, 400)
        probabilities = random.dirichlet(np.ones(n_classes), 400)
        found = evaluate_probabilities(labels, probabilities, tuple(f"class {k}" for k in range(n_classes)))
        assert json.loads(json.dumps(found.as_dict()))["n"] == 400
        assert found.roc_auc is not None
        assert 0.4 < found.roc_auc.value < 0.6


def test_no_images_and_wrong_shapes() -> None:
    with pytest.raises(DataError, match="no images"):
        evaluate_probabilities(np.array([], int), np.empty((0, 2)), ("a", "b"))
    with pytest.raises(ShapeError, match=r"shape \(2, 3\), got \(2, 2\)"):
        evaluate_probabilities(np.array([0, 1]), np.ones((2, 2)) / 2, ("a", "b", "c"))
