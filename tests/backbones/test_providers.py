"""A provider of another kind joins by a card and a function: all else finds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import topwork as tw
from helpers import make_photos
from topwork.backbones import backbone as backbone_module
from topwork.backbones.backbone import Backbone
from topwork.backbones.cards import cards, find_card
from topwork.backbones.preprocessing import PREPROCESSING
from topwork.openvino_door import import_openvino


def mean_colours(backbone: Backbone, folder: Path) -> None:
    """A network without weights: the mean colours of 8 times 8 squares."""
    ov = import_openvino()
    op, side = ov.opset13, backbone.size // 8
    pixels = op.parameter(ov.PartialShape([-1, backbone.size, backbone.size, 3]), np.uint8, name="pixels")
    maps = op.transpose(op.convert(pixels, "f32"), np.array([0, 3, 1, 2]))
    means = op.avg_pool(maps, [side, side], [0, 0], [0, 0], [side, side], False)
    features = op.multiply(op.reshape(means, np.array([-1, 192]), False), np.float32(1 / 255))
    ov.save_model(ov.Model([features], [pixels], "mean_colours"), folder / "graph.xml", compress_to_fp16=False)


def test_a_classifier_on_a_provider_of_another_kind_is_fitted_saved_and_loaded(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(
        find_card("starter"),
        name="mean_colours",
        provider="squares",
        builder="",
        preprocessing=PREPROCESSING["none"],
        n_features=192,
    )
    monkeypatch.setitem(cards(), card.name, card)
    monkeypatch.setitem(backbone_module._PROVIDERS, card.provider, mean_colours)
    dataset = tw.ImageDataset.from_directory(make_photos(tmp_path / "photos"))
    classifier = tw.fit_classifier(dataset, card.name, verbose=False)
    classifier.save(tmp_path / "saved")
    loaded = tw.load_classifier(tmp_path / "saved")
    assert loaded.backbone.typed == card.name
    images = sorted((tmp_path / "photos").rglob("*.jpg"))
    assert np.array_equal(loaded.predict_proba(images), classifier.predict_proba(images))
