"""Fine-tuning: it is taken where it is better, it resumes, and its network is a network like others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import Heard, answers_elsewhere, make_photos
from topwork.backbones.weights import keep_changed, tensors_by_place
from topwork.classifier import fine_tuning
from topwork.errors import OptionError, StorageError
from topwork.features import extraction
from topwork.features.extraction import PIXELS, extract_activations, extract_features, feature_facts
from topwork.tuning import training as tuning_training
from topwork.tuning.choice import ALL_STAGES, HALF, LAST, LINEAR, choose
from topwork.tuning.plan import find_cut
from topwork.tuning.tail import split_parameters
from topwork.tuning.training import Tuner

Topwork = Callable[..., Any]


RATES = (1e-3, 3e-3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes of 20 small photographs each."""
    return make_photos(tmp_path_factory.mktemp("pictures") / "photos", n=20)


@pytest.fixture(scope="module")
def linear(pictures: Path) -> tw.ImageClassifier:
    """A classifier of them on a frozen network, with test images held out."""
    dataset = tw.ImageDataset.load(str(pictures)).split(test=0.2)
    return tw.fit_classifier(dataset, tw.load_backbone("starter", size=32), verbose=False)


@pytest.fixture(autouse=True)
def always_taken(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What is fine-tuned is taken, whether it is better or not: a task on which it surely is takes minutes."""
    if "honest" not in request.fixturenames:
        monkeypatch.setattr(fine_tuning, "choose", lambda logits, labels, units: LAST)
        monkeypatch.setattr(fine_tuning, "RATES", RATES)


@pytest.fixture
def honest() -> None:
    """The choice as it is."""


@pytest.fixture(scope="module")
def tuned(linear: tw.ImageClassifier) -> tw.ImageClassifier:
    """The same, fine-tuned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "choose", lambda logits, labels, units: LAST)
        patch.setattr(fine_tuning, "RATES", RATES)
        return tw.fine_tune(linear, verbose=False)


def test_what_was_compared_is_told(tuned: tw.ImageClassifier) -> None:
    assert tuned.training is not None
    found = tuned.training.fine_tuning
    assert found is not None
    assert found.is_better
    assert [candidate.name for candidate in found.candidates] == [LINEAR, HALF, LAST]
    assert {candidate.n for candidate in found.candidates} == {45}  # train and validation, each once
    assert [rate for rate, _ in found.rates] == list(RATES)
    assert tw.evaluate(tuned, tuned.training.dataset.test).accuracy.value > 0.9


def test_its_features_are_never_taken_for_its_parents(linear: tw.ImageClassifier, tuned: tw.ImageClassifier) -> None:
    assert tuned.training is not None
    assert linear.training is not None
    assert feature_facts(tuned.backbone)["weights"] != feature_facts(linear.backbone)["weights"]
    images = tuned.training.dataset
    assert extract_features(images, linear.backbone).n_extracted == 0
    assert extract_features(images, tuned.backbone).n_extracted == 0
    plain, other = (extract_features(images, one.backbone).values for one in (linear, tuned))
    assert np.array_equal(plain, linear.training.features.values)
    assert np.array_equal(other, tuned.training.features.values)
    assert np.abs(plain - other).max() > 0.01
    assert tuned.record["fine_tuned"]["parent"] == linear.backbone.weights.digest


def test_training_begins_with_what_the_linear_top_says(linear: tw.ImageClassifier) -> None:
    """And a network that is written back unchanged is the same to the byte."""
    backbone, training = linear.backbone, linear.training
    assert training is not None
    cut = find_cut(backbone, "last-stage")
    found = extract_activations(training.dataset, replace(backbone, output=cut.layer, pooling="flatten"))
    trained, fixed = split_parameters(cut.above, tensors_by_place(backbone.weights))
    tuner = Tuner(cut.above, cut.shape, trained, fixed, 0.5)
    start = tuner.start(training.top.stack_)
    logits = tuner.logits(start, found.values, np.arange(len(found.values)))
    expected = training.top.stack_.logits(training.features.values)
    assert found.values.dtype == np.float16
    assert np.abs(logits - expected).max() < 2e-3 * np.abs(expected).max()  # activations are float16
    assert np.allclose(tuner.top(start).kernels[0], training.top.stack_.kernels[0], rtol=1e-6)
    once = keep_changed(backbone.card, backbone.weights, {}, "as it was")
    again = keep_changed(backbone.card, once, start.tail, "as it was")
    assert again.digest == once.digest


def test_the_network_is_one_like_others(
    tuned: tw.ImageClassifier, pictures: Path, topwork: Topwork, tmp_path: Path
) -> None:
    """Saved, loaded in a fresh process, explained, exported, described."""
    images = [pictures / "ash" / "0.png", pictures / "cedar" / "1.jpg"]
    expected = tuned.predict_proba(images)
    tuned.save(tmp_path / "tuned")
    assert np.allclose(answers_elsewhere(tmp_path / "tuned", images), expected, atol=1e-6)
    for form in ("onnx", "openvino"):
        answer = topwork("export", tmp_path / "tuned", "--to", form, "--data", pictures, "--out", tmp_path / form)
        assert answer.status == 0, answer.err
    assert topwork("explain", tmp_path / "tuned", images[0]).status == 0
    said = topwork("info", tmp_path / "tuned").out
    assert "the last stage (above stage2_block2_relu)" in said
    assert "its own, fine-tuned above stage2_block2_relu" in said


def test_stopped_and_run_again_it_is_the_same_to_the_byte(
    linear: tw.ImageClassifier, tuned: tw.ImageClassifier, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, n_calls = Tuner.train, 0

    def stopping(self: Tuner, *arguments: Any, **options: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:  # the first times a step, the third is the second learning rate
            raise KeyboardInterrupt
        return train(self, *arguments, **options)

    monkeypatch.setattr(Tuner, "train", stopping)
    heard = Heard()
    assert tw.fine_tune(linear, reporter=heard) is linear
    assert "fine-tuning was stopped: the linear top is kept" in heard.warnings[0]
    assert "the last stage (above stage2_block2_relu), 8 layers with 849,792 parameters" in heard.notes[0]
    again = tw.fine_tune(linear, reporter=Heard())
    assert n_calls == 3 + 1 + 1 + 4 + 1  # the time, one rate, four folds, all images
    assert again.backbone.weights.digest == tuned.backbone.weights.digest
    assert again.top.tensors().keys() == tuned.top.tensors().keys()  # type: ignore[attr-defined]
    for name, values in again.top.tensors().items():  # type: ignore[attr-defined]
        assert np.array_equal(values, tuned.top.tensors()[name])  # type: ignore[attr-defined]


def test_all_of_a_network_is_trained_from_pixels_and_starts_from_the_same_answers(linear: tw.ImageClassifier) -> None:
    training = linear.training
    assert training is not None
    cut = find_cut(linear.backbone, "all")
    assert cut.is_whole
    assert cut.n_parameters == linear.backbone.card.parameters
    heard = Heard()
    tuned = tw.fine_tune(linear, "all", reporter=heard)
    assert "Fine-tuning starter: all layers" in heard.notes[0]
    assert "Pixels take" in heard.notes[0]
    assert tuned.backbone.weights.origin == "its own, fine-tuned as a whole"
    found = tuned.training and tuned.training.fine_tuning
    assert found
    assert found.chosen == LAST
    # the written-back network answers what its training ended with
    before, after = (tensors_by_place(one.backbone.weights) for one in (linear, tuned))
    n_changed = sum(not np.array_equal(before[place], after[place]) for place in before)
    trained, _ = split_parameters(cut.above, before)
    assert n_changed == len(trained)
    assert tw.evaluate(tuned, training.dataset.test).accuracy.value > 0.9


def test_the_first_layers_of_a_whole_network_see_what_the_frozen_network_sees(linear: tw.ImageClassifier) -> None:
    backbone, training = linear.backbone, linear.training
    assert training is not None
    cut = find_cut(backbone, "all")
    pixels = extract_activations(training.dataset, replace(backbone, output=PIXELS, pooling="flatten"))
    trained, fixed = split_parameters(cut.above, tensors_by_place(backbone.weights))
    tuner = Tuner(cut.above, cut.shape, trained, fixed, 0.5, pixels=backbone.card.preprocessing)
    logits = tuner.logits(tuner.start(training.top.stack_), pixels.values, np.arange(len(pixels.values)))
    expected = training.top.stack_.logits(training.features.values)
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()  # pixels fit into float16 whole


def test_a_top_on_all_stages_is_compared_and_kept_where_it_is_as_good(honest: None, pictures: Path) -> None:
    dataset = tw.ImageDataset.load(str(pictures)).split(test=0.2)
    linear = tw.fit_classifier(dataset, tw.load_backbone("starter", size=32, pooling="stages"), verbose=False)
    kept = tw.fine_tune(linear, "last-block", verbose=False)
    assert kept.top is linear.top
    assert kept.training is not None
    assert kept.training.fine_tuning is not None
    assert [one.name for one in kept.training.fine_tuning.candidates] == [ALL_STAGES, HALF, LAST]
    assert kept.training.fine_tuning.chosen == ALL_STAGES


def test_without_memory_for_a_step_it_says_what_to_do(
    linear: tw.ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_training, "fits", lambda n_bytes: False)
    with pytest.raises(StorageError, match="Fine-tune a smaller part, or take a smaller `size`"):
        tw.fine_tune(linear, "last-block", verbose=False)


def test_where_each_training_diverges_the_linear_top_is_kept(
    linear: tw.ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tuning, "RATES", (1e30, 1e32))
    heard = Heard()
    kept = tw.fine_tune(linear, reporter=heard)
    assert kept.backbone is linear.backbone
    assert any("diverged at every learning rate" in warning for warning in heard.warnings)
    assert kept.training is not None
    assert kept.training.fine_tuning is not None
    assert kept.training.fine_tuning.rates == ((1e30, None), (1e32, None))


def test_without_room_it_says_how_much_is_missing(
    linear: tw.ImageClassifier, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_free_bytes", lambda folder: 1000)
    with pytest.raises(StorageError, match="45 images take 0.0 GB in the feature store"):
        tw.fine_tune(linear, verbose=False)


def test_the_command_line_keeps_the_linear_top_where_it_is_as_good(
    honest: None, topwork: Topwork, pictures: Path, tmp_path: Path
) -> None:
    options = ("--backbone", "starter", "--size", "32", "--fine-tune", "last-block", "--views", "1", "--no-check")
    answer = topwork("train", pictures, *options, "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    assert "Accuracy of the candidates, 5-fold cross-validated on 45 images:" in answer.out
    assert "Fine-tuning did not beat the linear top; the linear top was kept" in answer.out
    assert "on 15 images that training never saw" in answer.out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["fine_tuning"]["chosen"] == LINEAR
    assert "frozen" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fine-tune", "--top", "16"), "leave --top out"),
        (("--fine-tune", "--flip"), "leave --flip out"),
        (("--fine-tune", "--test", "cv"), "--test 0.2"),
        (("--fine-tune", "most"), "'most' is not one of"),
        (("--views", "2"), "--views goes with --fine-tune"),
    ],
)
def test_what_does_not_go_together_is_said(topwork: Topwork, arguments: tuple[str, ...], message: str) -> None:
    answer = topwork("train", "digits", "--backbone", "starter", *arguments)
    assert answer.status != 0
    assert message in answer.err


def test_other_tops_and_loaded_classifiers_are_not_fine_tuned(digits_classifier: Path) -> None:
    with pytest.raises(OptionError, match="begins with a classifier that fit_classifier made"):
        tw.fine_tune(tw.load_classifier(digits_classifier), verbose=False)


def test_a_simpler_candidate_stays_unless_another_is_surely_better() -> None:
    labels = np.zeros(100, int)

    def logits(n_right: int) -> np.ndarray:
        return np.stack([np.arange(100) < n_right, np.arange(100) >= n_right], axis=1).astype(float)

    units = np.arange(100)
    assert choose({LINEAR: logits(80), HALF: logits(81), LAST: logits(82)}, labels, units) == LINEAR
    assert choose({LINEAR: logits(80), HALF: logits(81), LAST: logits(90)}, labels, units) == LAST
    assert choose({LINEAR: logits(80), HALF: logits(90), LAST: logits(91)}, labels, units) == HALF
    # ten more are right, but all of one group
    assert choose({LINEAR: logits(80), LAST: logits(90)}, labels, np.minimum(units // 10, 9)) == LINEAR
