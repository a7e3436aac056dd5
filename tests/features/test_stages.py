"""Features of all stages of a network, and the honest choice between these and those of the last."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork as tw
from topwork.backbones.engines import open_engine
from topwork.backbones.keras_engine import KerasEngine
from topwork.errors import OptionError

Topwork = Callable[..., Any]
WIDTHS = {"starter": 640 + 112 + 48 + 24, "efficientnet_lite0": 1280 + 112 + 40 + 24 + 96}


@pytest.mark.parametrize("name", list(WIDTHS))
def test_the_last_stage_comes_first_and_is_what_it_is_alone(name: str) -> None:
    stages, plain = tw.load_backbone(name, size=64, pooling="stages"), tw.load_backbone(name, size=64)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found = np.concatenate([open_engine(stages, "cpu").infer(image[None]) for image in images])
    alone = np.concatenate([open_engine(plain, "cpu").infer(image[None]) for image in images])
    n = plain.card.n_features
    assert found.shape == (3, WIDTHS[name])
    assert np.abs(found[:, :n] - alone).max() < 1e-5 * np.abs(alone).max()
    assert np.mean(np.ptp(found[:, n:], axis=0) > 0) > 0.9
    on_keras = KerasEngine(stages)
    on_keras.batch_size = 3
    assert np.abs(on_keras.infer(images) - found).max() < 1e-4 * np.abs(found).max()


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inception_v3", "vgg16", "convnext_tiny"])
@pytest.mark.usefixtures("no_random_initialisation")
def test_stages_are_found_in_networks_of_every_kind(name: str) -> None:
    """Their widths, by hand: ends of stages, from the last to the first."""
    from topwork.backbones.network import NetworkSpec, _pooled_stages, build_base

    expected = {
        "resnet50": 2048 + 1024 + 512 + 256 + 64,
        "densenet121": 1024 + 1024 + 512 + 256 + 64,
        "vgg16": 512 + 512 + 512 + 256 + 128,
        "convnext_tiny": 768 + 384 + 192 + 96,
    }
    from topwork.backbones.cards import find_card

    card = find_card(name)
    base = build_base(NetworkSpec(card.builder, card.preprocessing.name, 96, "stages"))
    width = int(_pooled_stages(base).output.shape[-1])
    assert width == expected.get(name, width)
    assert width > card.n_features


def columns(n: int, seed: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of two classes of which the first four tell little, and the others `gain` times as much."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n)
    X = random.normal(size=(n, 8)).astype(np.float32)
    X[:, 0] += y
    X[:, 5] += gain * y
    return X, y


def test_all_are_taken_where_they_tell_more_and_the_last_alone_where_not() -> None:
    X, y = columns(400, 0, 2.0)
    taken = tw.LinearTop(last=4).fit(X, y)
    plain = tw.LinearTop().fit(X, y)
    assert taken.takes_all_
    assert np.array_equal(taken.stack_.kernels[0], plain.stack_.kernels[0])
    left = []
    for seed in range(20):
        X, y = columns(200, seed, 0.0)
        top = tw.LinearTop(last=4).fit(X, y)
        left.append(not top.takes_all_)
        if left[-1]:
            few = tw.LinearTop().fit(X[:, :4], y)
            assert np.array_equal(top.stack_.kernels[0][:4], few.stack_.kernels[0])
            assert not top.stack_.kernels[0][4:].any()
            assert np.allclose(top.predict_proba(X), few.predict_proba(X[:, :4]), atol=1e-6)
            assert (top.l2_, top.temperature_) == (few.l2_, few.temperature_)
    assert sum(left) >= 17


def test_with_validation_rows_and_folds_it_is_the_same() -> None:
    X, y = columns(300, 1, 2.0)
    folds = np.arange(300) % 5
    whole = tw.LinearTop(last=4).fit(X, y, folds=folds)
    parts = tw.LinearTop(last=4).fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:], folds=folds)
    assert np.allclose(whole.stack_.kernels[0], parts.stack_.kernels[0], atol=1e-5)
    with pytest.raises(OptionError, match="last"):
        tw.LinearTop(last=0).fit(X, y)


def textures(folder: Path, n: int = 40) -> Path:
    """Classes that differ in fine texture alone, which early stages see and the last has forgotten."""
    for k, name in enumerate(("fine", "finer", "finest")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            random = np.random.default_rng(1000 * k + i)
            y, x = np.mgrid[:40, :40]
            wave = 12 * np.sin(2 * np.pi * (x + y) / (2.6 + 0.5 * k) + random.uniform(0, 6))
            pixels = random.normal(128, 25, (40, 40, 3)) + wave[..., None]
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_from_the_command_line_to_an_export(topwork: Topwork, tmp_path: Path) -> None:
    folder = textures(tmp_path / "textures")
    accuracy = {}
    for features in ("last", "all-stages", "auto"):
        trained = topwork("train", folder, "--features", features, "--out", tmp_path / features, "--no-check")
        accuracy[features] = json.loads((tmp_path / features / "metrics.json").read_text())["test"]["accuracy"]["value"]
    assert "Features of all stages: with them held-out images are surely likelier" in trained.out
    assert accuracy["auto"] == accuracy["all-stages"] > accuracy["last"] + 0.05
    for form in ("openvino", "onnx", "keras"):
        assert topwork("export", tmp_path / "auto", "--to", form, "--out", tmp_path / form).status == 0
    assert "occlusion" in topwork("explain", tmp_path / "auto", folder / "fine" / "0.png").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--features", "auto", "--top", "16"), "--features auto is for --top linear"),
        (("--features", "all-stages", "--pooling", "max"), "leave --pooling out"),
        (("--features", "some"), "'some' is not one of"),
    ],
)
def test_what_does_not_go_together_is_said(topwork: Topwork, arguments: tuple[str, ...], message: str) -> None:
    answer = topwork("train", "digits", *arguments)
    assert answer.status == 2
    assert message in answer.err


def test_networks_from_files_have_no_stages() -> None:
    file = Path(__file__).parents[1] / "backbones" / "networks" / "convnext.onnx"
    with pytest.raises(OptionError, match="pooling can't be 'stages'"):
        tw.load_backbone(str(file), mean=(0.5,), std=(0.5,), pooling="stages")
    with pytest.raises(OptionError, match="pooling can't be 'stages'"):
        tw.load_backbone("dinov2_small", pooling="stages", offline=True)
