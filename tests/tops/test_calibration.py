"""A temperature that was put in is found again, and few images move it little."""

from __future__ import annotations

import numpy as np
import pytest

from topwork.evaluation.confidence import reliability, risk_coverage
from topwork.tops.calibration import fit_temperature, with_temperature
from topwork.tops.dense_stack import DenseStack, softmax


def draw(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth, and labels drawn from it."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, 5))
    labels = (random.random(n)[:, None] > softmax(logits).cumsum(axis=1)).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_too_sure_or_unsure_logits_is_found(temperature: float) -> None:
    logits, labels = draw(20_000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_calibration_error_falls_to_what_chance_leaves() -> None:
    logits, labels = draw(20_000)
    too_sure = softmax(3 * logits)
    assert reliability(labels, too_sure).error > 0.1
    assert reliability(labels, softmax(3 * logits / fit_temperature(3 * logits, labels))).error < 0.012


def test_a_few_images_all_right_do_not_make_it_surer_and_surer() -> None:
    logits = np.eye(3)[np.arange(9) % 3] * 4.0
    assert 0.5 < fit_temperature(logits, np.arange(9) % 3) < 1.0


def test_a_temperature_can_be_undone() -> None:
    logits, _ = draw(50)
    assert np.allclose(with_temperature(softmax(logits / 2.5), 1 / 2.5), softmax(logits))
    stack = DenseStack((np.eye(5, dtype=np.float32),), (np.arange(5, dtype=np.float32),))
    features = logits.astype(np.float32)
    assert np.allclose(stack.divided_by(2.0).logits(features), stack.logits(features) / 2)


def test_risk_falls_as_only_the_surest_are_answered() -> None:
    right = np.array([True, True, True, False])
    curve = risk_coverage(right, np.array([0.9, 0.8, 0.7, 0.6]))
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == [0, 0, 0, 0.25]
    assert curve.coverage_at(0.1) == 0.75
    assert risk_coverage(np.array([False]), np.array([0.9])).coverage_at(0.1) == 0.0
