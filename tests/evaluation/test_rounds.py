"""The race drops what is slower and worse, looks at no test image, and keeps to its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import topwork as tw
from helpers import make_photos
from topwork.errors import DataError
from topwork.evaluation import candidates, rounds
from topwork.evaluation.rounds import compare_backbones
from topwork.features.extraction import extract_features
from topwork.progress import Reporter


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", n=60)


def test_what_is_slower_and_worse_is_dropped_and_no_test_image_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """On digits, 32-pixel features through a maximum of random weights lose to the starter."""
    seen: list[set[int]] = []
    times = iter([0.001, 0.002])

    def spy(dataset: tw.ImageDataset, backbone: tw.Backbone, **options: object) -> tw.Features:
        seen.append(set(dataset.rows.tolist()))
        features = extract_features(dataset, backbone)
        if backbone.size == 32:
            features.values[:] = np.random.default_rng(0).normal(size=features.values.shape)
        return features

    monkeypatch.setattr(candidates, "extract_features", spy)
    monkeypatch.setattr(rounds, "seconds_per_image", lambda engine, size: next(times))
    dataset = tw.ImageDataset.from_name("digits")
    found = compare_backbones(dataset, ["starter", "starter@32"])
    first, dropped = found.backbones
    assert first.title == "starter@64"
    assert first.accuracy.n == len(dataset) - len(dataset.test)
    assert first.accuracy.value > 0.95
    assert dropped.dropped_for == "starter@64"
    assert dropped.accuracy.n == 500
    assert found.seconds_saved > 0
    assert not set().union(*seen) & set(dataset.test.rows.tolist())
    assert seen[0] == seen[1] < seen[2]


def test_no_time_leaves_the_first_alone(photos: Path) -> None:
    found = compare_backbones(tw.ImageDataset.from_directory(photos), ["starter@32", "starter@48"], budget=1e-9)
    assert [backbone.title for backbone in found.backbones] == ["starter@32"]
    assert found.left_out == {"starter@48": "the time was up before its turn"}


def test_a_budget_makes_rounds_smaller(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setattr(rounds, "seconds_per_image", lambda engine, size: 0.01)
    monkeypatch.setattr(candidates, "ENOUGH_TO_TIME", 10**9)
    sizes: list[int | None] = []
    next_sample = rounds._next_sample
    monkeypatch.setattr(rounds, "_next_sample", lambda *given: sizes.append(next_sample(*given)) or sizes[-1])
    dataset = tw.ImageDataset.from_name("digits")
    found = compare_backbones(dataset, ["starter@32"], budget=4.0)  # at 10 ms an image the first round alone is 5 s
    whole = [500, found.n_available]  # what the rounds would be with all the time
    assert all(n < most for n, most in zip(sizes, whole, strict=False) if n is not None)
    assert sizes[0] is not None


def test_one_class_is_refused(tmp_path: Path) -> None:
    dataset = tw.ImageDataset.from_directory(make_photos(tmp_path / "one", classes=("ash",)))
    with pytest.raises(DataError, match="one class"):
        compare_backbones(dataset, ["starter@32"], reporter=Reporter())
