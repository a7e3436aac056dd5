"""bf16 is taken only where the images themselves show it harmless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import make_photos
from topwork.backbones import openvino_engine
from topwork.backbones.engines import has_bf16, open_engine
from topwork.classifier import precision
from topwork.classifier.precision import agreement
from topwork.errors import OptionError
from topwork.progress import Reporter


class Notes(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said = ""

    def note(self, text: str) -> None:
        self.said += text + "\n"


@pytest.fixture(scope="module")
def dataset() -> tw.ImageDataset:
    digits = tw.ImageDataset.from_name("digits")
    return digits.select(digits.rows < 400)


@pytest.fixture
def starter() -> tw.Backbone:
    return tw.load_backbone("starter", size=32)


def test_agreement_is_of_what_a_top_sees() -> None:
    random = np.random.default_rng(0)
    exact = random.normal(size=(500, 64)) * random.uniform(0.1, 10, 64) + 1000
    assert agreement(exact, exact) == pytest.approx(1)
    moved = exact + random.normal(size=exact.shape)
    plain = (exact * moved).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(moved, axis=1)
    assert plain.min() > 0.99999
    assert agreement(exact, moved) < 0.9
    one_in_fifty = exact.copy()
    one_in_fifty[::50] = 2000 - one_in_fifty[::50]
    assert agreement(exact, one_in_fifty) < 0
    assert not agreement(exact, np.full_like(exact, np.nan)) >= 0.999


@pytest.mark.parametrize(("noise", "chosen"), [(0.01, "bf16"), (0.2, "f32")])
def test_precision_follows_the_features(
    noise: float, chosen: str, dataset: tw.ImageDataset, starter: tw.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def extract(sample: tw.ImageDataset, backbone: tw.Backbone, **_: Any) -> tw.Features:
        asked.append((backbone.precision, set(sample.digests)))
        values = np.random.default_rng(0).normal(5, 1, (len(sample), 16))
        if backbone.precision == "bf16":
            values += np.random.default_rng(1).normal(0, noise, values.shape)
        return tw.Features(values.astype(np.float32), np.arange(len(sample)), (), "", 0, 0.0)

    monkeypatch.setattr(precision, "extract_features", extract)
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    monkeypatch.setattr(precision, "FEWEST", 300)
    notes = Notes()
    found = tw.choose_precision(dataset, starter, reporter=notes)
    assert found == replace(starter, precision=chosen)  # type: ignore[arg-type]
    assert notes.said.startswith(f"Precision {chosen}: features of 256 images agree to 0.9")
    smallest = set(np.unique(dataset.digests)[:256])
    assert asked == [("f32", smallest), ("bf16", smallest)]


@pytest.mark.skipif(not has_bf16("cpu"), reason="this processor has no bf16 arithmetic")
def test_what_was_tried_is_kept(
    dataset: tw.ImageDataset, starter: tw.Backbone, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "FEWEST", 300)
    for least, chosen in ((0.5, "bf16"), (1.1, "f32")):
        monkeypatch.setattr(precision, "LEAST_AGREEMENT", least)
        backbone = tw.choose_precision(dataset, starter, device="cpu")
        assert backbone.precision == chosen
        assert tw.extract_features(dataset, backbone, device="cpu").n_extracted == len(set(dataset.digests)) - 256


def test_it_is_f32_untried_where_bf16_is_missing_or_not_worth_it(
    dataset: tw.ImageDataset, starter: tw.Backbone, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    assert tw.choose_precision(dataset, replace(starter, precision="bf16"), reporter=notes).precision == "f32"
    monkeypatch.setattr(precision, "FEWEST", 300)
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    assert tw.choose_precision(dataset, starter, reporter=notes).precision == "f32"
    assert "fewer than 2,048 images" in notes.said
    assert "no bf16 arithmetic here" in notes.said
    assert tw.extract_features(dataset, starter).n_extracted == len(set(dataset.digests))


def test_a_sample_that_cannot_be_read_is_not_the_end(
    tmp_path: Path, starter: tw.Backbone, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos")
    for number in range(9):
        (photos / "ash" / f"broken {number}.png").write_bytes(bytes([number]))
    monkeypatch.setattr(precision, "FEWEST", 10)
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    notes = Notes()
    found = tw.choose_precision(tw.ImageDataset.from_directory(photos), starter, reporter=notes)
    assert found.precision == "f32"
    assert "can't be read" in notes.said


def test_bf16_where_there_is_none_is_refused(starter: tw.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "processor_has_bf16", lambda: False)
    assert not has_bf16("cpu")
    with pytest.raises(OptionError, match="no bf16 arithmetic.*`precision=f32`"):
        open_engine(replace(starter, precision="bf16"), "cpu")


def test_auto_on_the_command_line(topwork: Callable[..., Any], photos: Path) -> None:
    answer = topwork("train", photos, "--precision", "auto", "--no-check")
    assert answer.status == 0
    assert "Precision f32: of fewer than 2,048 images" in answer.err
