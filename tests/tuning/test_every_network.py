"""Fine-tuning of each network of the course and of MobileNetV2: trained, saved, loaded elsewhere, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import topwork as tw
from helpers import answers_elsewhere, make_photos, plausible_tensor
from topwork.backbones.cards import COURSE, find_card
from topwork.backbones.network import NetworkSpec, build_base, tensor_name
from topwork.classifier import fine_tuning
from topwork.tuning.choice import LAST

pytestmark = [pytest.mark.large, pytest.mark.usefixtures("no_random_initialisation")]


def drawn_weights(name: str, folder: Path) -> Path:
    """A file of weights with plausible magnitudes."""
    card = find_card(name)
    base = build_base(NetworkSpec(card.builder, card.preprocessing.name, card.smallest_size, "avg"))
    random = np.random.default_rng(0)
    tensors = {
        tensor_name(place, weight): plausible_tensor(weight.path, tuple(weight.shape), random, gain=1.0)
        for place, weight in enumerate(base.weights)
    }
    path = folder / "drawn.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("name", [*COURSE, "mobilenet_v2"])
def test_it_is_fine_tuned_saved_loaded_and_exported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(fine_tuning, "choose", lambda logits, labels, units: LAST)
    monkeypatch.setattr(fine_tuning, "RATES", (3e-4,))
    real = "mobilenet_v2_imagenet_notop.weights.h5"
    own = name == "mobilenet_v2"
    weights = request.getfixturevalue("shared_data") / real if own else drawn_weights(name, tmp_path)
    photos = make_photos(tmp_path / "photos", n=20)
    dataset = tw.ImageDataset.load(photos).split(test=0.2)
    backbone = tw.load_backbone(name, weights=weights, size=max(96, find_card(name).smallest_size))
    linear = tw.fit_classifier(dataset, backbone, verbose=False)
    tuned = tw.fine_tune(linear, "last-stage", verbose=False)
    assert tuned.training is not None
    assert tuned.training.fine_tuning is not None
    assert tuned.training.fine_tuning.is_better
    images = sorted(photos.rglob("*.*"))[::7]
    expected = tuned.predict_proba(images)
    assert np.abs(expected - linear.predict_proba(images)).max() > 1e-3
    tuned.save(tmp_path / "tuned")
    assert np.allclose(answers_elsewhere(tmp_path / "tuned", images), expected, atol=1e-5)
    for form in ("onnx", "openvino"):
        done = tw.export_classifier(tw.load_classifier(tmp_path / "tuned"), form, tmp_path / form, images)
        assert done.parity.is_passed
