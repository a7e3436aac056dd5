"""Sets at the edge, through every command that judges: two classes, a thousand, a class or a side that is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import topwork as tw
from helpers import COLOURS, make_photo, make_photos

Topwork = Callable[..., object]
JUDGES = ("check", "compare", "learning-curve")
USERS = ("predict", "evaluate", "explain")


def make_table(folder: Path, **of_class: dict[str, int]) -> Path:
    """A table of photographs, as many as `class={side: n}` says."""
    rows = []
    for name, sides in of_class.items():
        for side, n in sides.items():
            for i in range(n):
                path = folder / f"{name}-{side}-{i}.png"
                make_photo(COLOURS[name], len(rows)).save(path)
                rows.append({"image": str(path), "label": name, "split": side})
    parquet.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    return folder / "table.parquet"


@pytest.mark.parametrize("command", JUDGES)
def test_two_classes(topwork: Topwork, tmp_path: Path, command: str) -> None:
    photos = make_photos(tmp_path / "photos", n=40, classes=("ash", "birch"))
    options = ("--backbones", "starter@32") if command == "compare" else ("--size", "32")
    answer = topwork(command, photos, *options, "--json", "--quiet")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert json.loads(answer.out)  # type: ignore[attr-defined]


def test_two_classes_from_training_to_explanation(topwork: Topwork, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=20, classes=("ash", "birch"))
    assert topwork("train", photos, "--size", "32", "--out", "run").status == 0  # type: ignore[attr-defined]
    assert 'class="matrix"' in (tmp_path / "run" / "report.html").read_text("utf-8")
    other = make_photos(tmp_path / "other", n=3, classes=("ash", "birch"), seed=900)
    assert topwork("evaluate", "run", other).status == 0  # type: ignore[attr-defined]
    assert topwork("explain", "run", other / "ash" / "0.png", "--out", "e.html").status == 0  # type: ignore[attr-defined]
    shown = (tmp_path / "e.html").read_text("utf-8")
    assert shown.count("data:image/jpeg") == 2 + 5  # the image twice, and its neighbours
    itself = photos / "ash" / "0.png"
    assert "ash/0.png" not in topwork("explain", "run", itself).out.split("Nearest")[1]  # type: ignore[attr-defined]
    other_picture, gone = sorted((photos / "ash").iterdir())[1:3]
    other_picture.write_bytes((photos / "birch" / "0.png").read_bytes())
    gone.unlink()
    assert topwork("explain", "run", itself, "--out", "e.html").status == 0  # type: ignore[attr-defined]


def test_a_thousand_classes(topwork: Topwork, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (1000, 1, 4, 4, 3)) + random.integers(-20, 20, (1000, 3, 4, 4, 3))
    images = np.clip(pixels, 0, 255).astype(np.uint8).reshape(-1, 4, 4, 3).repeat(8, 1).repeat(8, 2)
    names = [f"kind {k:04d}" for k in range(1000)]
    sides = np.array(["train", "validation", "test"] * 1000)
    dataset = tw.ImageDataset.from_arrays(images, np.repeat(np.arange(1000), 3), class_names=names, splits=sides)
    backbone = tw.load_backbone("starter", size=32)
    run = tw.train(dataset, backbone, top=tw.LinearTop((1.0, 0.3)), check=False, out=tmp_path / "run")
    assert run.test.accuracy.value > 0.5
    assert len(json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["classes"]) == 1000
    assert 'class="matrix"' not in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_a_class_without_test_images_is_said(topwork: Topwork, tmp_path: Path) -> None:
    both = {"train": 30, "test": 6}
    table = make_table(tmp_path, ash=both, birch=both, cedar={"train": 30})
    answer = topwork("train", table, "--split-column", "split", "--size", "32", "--out", "run")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "there is no test image of 'cedar'" in answer.err  # type: ignore[attr-defined]
    rows = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["classes"]
    assert [row["name"] for row in rows] == ["ash", "birch"]
    curve = topwork("learning-curve", table, "--split-column", "split", "--size", "32", "--draws", "2")
    assert curve.status == 0, curve.err  # type: ignore[attr-defined]


def test_a_split_column_that_says_train_of_all_is_no_split(topwork: Topwork, tmp_path: Path) -> None:
    table = make_table(tmp_path, ash={"train": 40}, birch={"train": 40})
    for test, n_tested in (("auto", range(80, 81)), ("0.2", range(6, 30))):
        answer = topwork("train", table, "--split-column", "split", "--test", test, "--json", "--no-check")
        assert answer.status == 0, answer.err  # type: ignore[attr-defined]
        assert json.loads(answer.out)["test"]["accuracy"]["n"] in n_tested  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", USERS)
def test_no_run(topwork: Topwork, photos: Path, command: str) -> None:
    target = photos if command == "evaluate" else photos / "ash" / "0.png"
    answer = topwork(command, "runs/none", target)
    assert answer.status == 1  # type: ignore[attr-defined]
    assert "There is no 'runs/none'" in answer.err  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", JUDGES)
def test_one_class(topwork: Topwork, tmp_path: Path, command: str) -> None:
    photos = make_photos(tmp_path / "photos", classes=("ash",))
    answer = topwork(command, photos)
    assert answer.status == 1  # type: ignore[attr-defined]
    assert "one class" in answer.err  # type: ignore[attr-defined]
    assert "two at least" in answer.err  # type: ignore[attr-defined]
