"""Heat adds up to the logit where it is exact, and points at the thing where it isn't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import topwork as tw
from topwork.classifier.explanation import explain


def patches(folder: Path) -> Path:
    """Two classes: a red, or a blue, square somewhere on grey noise."""
    random = np.random.default_rng(0)
    for name, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (folder / name).mkdir(parents=True)
        for i in range(60):
            pixels = random.integers(90, 150, (64, 64, 3)).astype(np.uint8)
            row, column = random.integers(0, 44, 2)
            pixels[row : row + 20, column : column + 20] = colour
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tw.ImageClassifier]:
    dataset = tw.ImageDataset.from_directory(patches(tmp_path_factory.mktemp("patches")))
    tops = {"linear": tw.LinearTop(), "mlp": tw.MLPTop([16], epochs=30)}
    return {name: tw.fit_classifier(dataset, "starter", top=top, seed=0, verbose=False) for name, top in tops.items()}


def corner() -> np.ndarray:
    """A red square in the upper left corner."""
    pixels = np.random.default_rng(5).integers(90, 150, (64, 64, 3)).astype(np.uint8)
    pixels[2:22, 2:22] = (220, 30, 30)
    return pixels


@pytest.mark.parametrize(("top", "method"), [("linear", "class activation"), ("mlp", "occlusion")])
def test_heat_is_where_the_thing_is(classifiers: dict[str, tw.ImageClassifier], top: str, method: str) -> None:
    found = explain(classifiers[top], corner())
    assert found.class_name == "red"
    assert found.method == method
    half = len(found.heat) // 2
    assert found.heat[:half, :half].sum() > 0.5 * np.abs(found.heat).sum()


def test_class_activation_adds_up_to_the_logit(classifiers: dict[str, tw.ImageClassifier]) -> None:
    classifier = classifiers["linear"]
    found = explain(classifier, corner())
    logits = classifier.top.logits(found.features[None])[0] - classifier.top.biases[0]
    assert found.heat.sum() == pytest.approx(logits.max() - logits.mean(), rel=1e-3)


def test_the_command_draws_and_names_the_nearest(topwork: Callable[..., object], tmp_path: Path) -> None:
    folder = patches(tmp_path / "patches")
    topwork("train", folder, "--quiet", "--no-check")
    answer = topwork("explain", "runs/patches-1", folder / "red" / "3.png")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "red" in answer.out  # type: ignore[attr-defined]
    assert answer.out.count("cosine") == 5  # type: ignore[attr-defined]
    page = (tmp_path / "explanation.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 2 + 5  # the image twice, and its neighbours
    assert "http" not in page


def test_no_neighbours_where_the_features_are_elsewhere(
    topwork: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = patches(tmp_path / "patches")
    topwork("train", folder, "--quiet", "--no-check")
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "elsewhere"))
    answer = topwork("explain", "runs/patches-1", folder / "red" / "3.png", "--class", "blue")
    assert "not on this machine" in answer.out  # type: ignore[attr-defined]
