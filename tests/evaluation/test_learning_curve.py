"""The curve finds a law that was put in, keeps its word on images held back, and is drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import topwork as tw
from helpers import make_photos
from topwork.errors import DataError
from topwork.evaluation.learning_curve import _assemble, learning_curve


def test_a_power_law_is_found_again() -> None:
    sizes = np.array([50, 100, 200, 400, 800])
    measured = [np.full(3, 0.9 - 0.3 * (n / 50) ** -0.6) for n in sizes]
    curve = _assemble(sizes, measured, n_test=10**6, n_tests=1, n_draws=3, seed=0)
    for n, interval in curve.ahead.items():
        assert interval.value == pytest.approx(0.9 - 0.3 * (n / 50) ** -0.6, abs=0.002)
        assert interval.low <= interval.value <= interval.high
    assert "would help" in curve.advice


def test_a_flat_curve_advises_something_else() -> None:
    curve = _assemble(np.array([50, 100, 200, 400]), [np.full(3, 0.8)] * 4, n_test=10**4, n_tests=1, n_draws=3, seed=0)
    assert "hardly help" in curve.advice


def test_what_a_quarter_promises_the_whole_keeps() -> None:
    """Of scikit-learn's digits: a curve of 340 images, then 680 and 1,360."""
    dataset = tw.ImageDataset.from_name("digits").with_splits
    X = tw.extract_features(dataset, tw.load_backbone("starter")).values
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:1360], order[1360:]
    y = dataset.labels
    rows = np.concatenate([train[:340], test])
    curve = learning_curve(X[rows], y[rows], [np.arange(340, len(rows))], n_draws=4)
    assert curve.n_test == len(test)
    assert curve.n_folds == 0
    for n, interval in curve.ahead.items():
        truth = tw.LinearTop((0.1, 0.01, 1e-3)).fit(X[train[:n]], y[train[:n]]).score(X[test], y[test])
        assert interval.low - 0.01 <= truth <= interval.high + 0.01


def test_too_few_images_for_a_curve() -> None:
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    with pytest.raises(DataError, match="24 training images of each class"):
        learning_curve(X, np.arange(40) % 2, [np.arange(10)])


def test_the_command_prints_and_draws(topwork: Callable[..., object], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=50)
    answer = topwork("learning-curve", photos, "--draws", "2", "--out", "curve.html")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "expected" in answer.out  # type: ignore[attr-defined]
    page = (tmp_path / "curve.html").read_text("utf-8")
    assert "<svg" in page
    assert "http" not in page
    as_json = json.loads(topwork("learning-curve", photos, "--draws", "2", "--json", "--quiet").out)  # type: ignore[attr-defined]
    assert len(as_json["expected"]) == 2
    assert topwork("learning-curve", tmp_path / "nowhere").status == 1  # type: ignore[attr-defined]
