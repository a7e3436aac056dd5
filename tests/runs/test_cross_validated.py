"""A test by cross-validation: every image once, by a top that had not learned from it, in all that tells of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from sklearn.base import clone
from sklearn.naive_bayes import GaussianNB

import topwork as tw
from helpers import make_photos
from topwork.classifier.fitting import TEST_FOLDS, cross_test
from topwork.evaluation.metrics import evaluate_probabilities
from topwork.progress import Reporter
from topwork.runs.run import train

Topwork = Callable[..., Any]


@pytest.fixture(scope="module")
def digits() -> tw.ImageDataset:
    whole = tw.ImageDataset.from_name("digits")
    return whole.select(np.arange(300)).split(test="cv")


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("top", [tw.LinearTop(), tw.MLPTop((8,), epochs=3), GaussianNB()])
def test_each_answer_comes_from_a_top_that_learned_from_the_other_folds(
    digits: tw.ImageDataset, top: Any, flip: bool
) -> None:
    training = tw.fit_classifier(digits, top=top, flip=flip, verbose=False).training
    assert training is not None
    tested = cross_test(training.top, training.examples, Reporter())
    assert tested.rows.tolist() == list(range(300))
    assert len(np.unique(tested.folds)) == TEST_FOLDS
    # the third fold by hand: a top fitted on the images of the others alone
    out = np.flatnonzero(tested.folds == 2)
    sides = np.asarray(digits.splits)
    others = digits.select(np.setdiff1d(np.arange(300), out))
    assert "test" not in sides
    others = others.changed(splits=sides[np.setdiff1d(np.arange(300), out)], is_split=True)
    alone = tw.fit_classifier(others, top=clone(top), flip=flip, verbose=False)
    expected = alone.predict_dataset(digits.select(out)).probabilities
    assert np.allclose(tested.probabilities[out], expected, atol=1e-5)


def test_copies_and_groups_share_a_fold(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=30)
    for file in sorted((photos / "ash").iterdir())[:10]:
        (photos / "ash" / f"copy of {file.name}").write_bytes(file.read_bytes())
    dataset = tw.ImageDataset.from_directory(photos).split(test="cv")
    training = tw.fit_classifier(dataset, verbose=False).training
    assert training is not None
    tested = cross_test(training.top, training.examples, Reporter())
    folds_of: dict[bytes, set[int]] = {}
    for digest, fold in zip(dataset.digests, tested.folds, strict=True):
        folds_of.setdefault(digest, set()).add(int(fold))
    assert len(folds_of) < len(dataset)
    assert all(len(folds) == 1 for folds in folds_of.values())


def test_labels_drawn_by_chance_are_answered_by_chance(tmp_path: Path) -> None:
    """What was chosen on the images, or learned from them, would show here."""
    digits = tw.ImageDataset.from_name("digits")
    labels = np.random.default_rng(0).integers(0, 2, 400)
    images = [np.asarray(image) for image in digits.source.payloads(digits.rows[:400])]
    dataset = tw.ImageDataset.from_arrays(images, labels.tolist())
    run = train(dataset, out=tmp_path / "run", check=False, reporter=Reporter())
    assert run.test.n == 400
    assert run.test.n_folds == TEST_FOLDS
    assert run.test.accuracy.low < 0.5 < run.test.accuracy.high
    assert run.test.log_loss.value == pytest.approx(np.log(2), abs=0.03)


def test_everything_says_how_it_was_tested(topwork: Topwork, photos: Path) -> None:
    answer = topwork("train", photos, "--out", "run")
    assert "on 36 images, each answered by a top that had not learned from it (5-fold cross-validation)" in answer.out
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["test"]["n_folds"] == 5
    assert json.loads(Path("run/run.json").read_text())["data"]["sides"].keys() == {"train", "validation"}
    assert parquet.read_table("run/predictions.parquet")["image"].to_pylist() == sorted(
        parquet.read_table("run/images.parquet")["image"].to_pylist()
    )
    assert "cross-validation" in Path("run/report.html").read_text("utf-8")
    assert "never saw" not in Path("run/report.html").read_text("utf-8")
    assert "5-fold cross-validation" in Path("run/README.md").read_text("utf-8")
    assert "on 36 images of the same data, by 5-fold cross-validation" in topwork("info", "run").out
    assert json.loads(topwork("info", "run", "--json").out)["test_folds"] == 5
    evaluated = topwork("evaluate", "run", photos)
    assert evaluated.status == 1
    assert "All 36 images" in evaluated.err


def test_its_interval_is_wider_than_that_of_as_many_test_images() -> None:
    labels = np.arange(100) % 2
    probabilities = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    probabilities[:10] = probabilities[:10, ::-1]
    plain = evaluate_probabilities(labels, probabilities, ("a", "b"))
    crossed = evaluate_probabilities(labels, probabilities, ("a", "b"), n_folds=5)
    for name in ("accuracy", "balanced_accuracy", "log_loss"):
        one, other = getattr(plain, name), getattr(crossed, name)
        assert one.value == other.value
        assert other.low < one.low < one.high < other.high
    assert plain.accuracy.low == pytest.approx(0.8256, abs=1e-4)  # Wilson's, of 90 in 100
    assert plain.accuracy.high == pytest.approx(0.9448, abs=1e-4)


def test_an_export_of_it_is_compared_on_its_images_and_int8_is_refused(topwork: Topwork, photos: Path) -> None:
    assert topwork("train", photos, "--out", "run").status == 0
    answer = topwork("export", "run", "--to", "onnx")
    assert answer.status == 0, answer.err
    refused = topwork("export", "run", "--to", "openvino", "--int8")
    assert refused.status == 1
    assert "--test 0.2" in refused.err


def test_test_is_auto_a_fraction_or_cv(topwork: Topwork, photos: Path) -> None:
    held_out = topwork("train", photos, "--test", "0.3", "--no-check", "--json", "--quiet")
    assert json.loads(held_out.out)["test"]["n_folds"] == 0
    refused = topwork("train", photos, "--test", "most")
    assert refused.status == 2
    assert "Expected auto, cv, or a fraction such as 0.2; got 'most'" in refused.err
    whole = tw.ImageDataset.from_name("digits")
    assert "test" in np.asarray(whole.split(test="auto").splits)
    assert "test" not in np.asarray(whole.split(test="cv").splits)
    assert "test" not in np.asarray(whole.select(np.arange(999)).split(test="auto").splits)


def test_a_cross_validated_learning_curve(topwork: Topwork, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=40)
    answer = topwork("learning-curve", photos, "--draws", "2")
    assert answer.status == 0, answer.err
    assert "Measured on 120 images, cross-validated" in answer.out
    held_out = topwork("compare", photos, "--backbones", "starter", "--quiet")
    assert held_out.out.rstrip().endswith("--test 0.2")
