"""Answers in parts are the answers of one file, whoever wrote them; classifiers are read from an object store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import topwork as tw
from helpers import make_photos, upload
from topwork.errors import SavedFileError

STARTER = ("--backbone", "starter", "--size", "32")


@pytest.fixture
def run(photos: Path, tmp_path: Path, topwork: Callable[..., Any]) -> Path:
    assert topwork("train", photos, *STARTER, "--out", "run").status == 0
    return tmp_path / "run"


def test_parts_hold_what_one_file_holds(run: Path, photos: Path, tmp_path: Path, topwork: Callable[..., Any]) -> None:
    (photos / "ash" / "broken.jpg").write_bytes(b"no picture")
    assert topwork("predict", run, photos, "--out", "one.parquet").status == 1
    parts = ("predict", run, photos, "--out", "answers/", "--shard-size", "10")
    first = topwork(*parts, "--part", "1/3")
    assert "Other parts are to come" in first.err
    assert not (tmp_path / "answers" / "manifest.json").exists()
    for k in (0, 2):
        last = topwork(*parts, "--part", f"{k}/3")
    assert "All answers: manifest.json in answers/ lists the files" in last.err
    manifest = json.loads((tmp_path / "answers" / "manifest.json").read_text())
    assert [image["image"] for image in manifest["unreadable"]] == ["ash/broken.jpg"]
    tables = [parquet.read_table(tmp_path / "answers" / part["part"]) for part in manifest["parts"]]
    assert [table.num_rows for table in tables] == [part["n_images"] for part in manifest["parts"]] == [10, 10, 10, 7]
    found, one = pa.concat_tables(tables).to_pylist(), parquet.read_table(tmp_path / "one.parquet").to_pylist()
    assert [photos / row["image"] for row in found] == [Path(row["image"]) for row in one]
    for there, here in zip(found, one, strict=True):
        assert {**there, "image": "", "probability": 0, "probabilities": [], "novelty": 0} == {
            **here,
            "image": "",
            "probability": 0,
            "probabilities": [],
            "novelty": 0,
        }
        if here["probabilities"]:
            assert np.allclose(there["probabilities"], here["probabilities"], atol=1e-6)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "answers").rglob("*.parquet")}
    assert topwork(*parts).status == 0  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "answers").rglob("*.parquet")} == files


def test_what_does_not_go_with_parts_is_a_sentence(run: Path, photos: Path, topwork: Callable[..., Any]) -> None:
    assert "give --out FOLDER/ or an address" in topwork("predict", run, photos, "--ray", "local").err
    assert "leave --format" in topwork("predict", run, photos, "--out", "a/", "--format", "csv").err
    assert "leave --part out" in topwork("predict", run, photos, "--out", "a/", "--ray", "local", "--part", "0/2").err
    assert "There is no image" in topwork("predict", run, photos.parent / "run", "--out", "a/").err


def test_run_images_and_answers_in_an_object_store(
    run: Path, bucket: str, own_cache: Path, tmp_path: Path, topwork: Callable[..., Any]
) -> None:
    new = make_photos(tmp_path / "new", n=2, seed=9)
    images, there = upload(new, f"{bucket}new/"), upload(run, f"{bucket}runs/photos-1/")
    answer = topwork("predict", there, images, "--out", f"{bucket}answers/", "--shard-size", "4")
    assert answer.status == 0, answer.err
    assert "2 of 2 shards in the store, with 6 of 6 images" in answer.err
    paths = sorted(new.rglob("*.*"))
    here = tw.load_classifier(run).predict_proba(paths)
    for _ in range(2):  # fetched, then from the copy
        assert np.array_equal(tw.load_classifier(there).predict_proba(paths), here)
    with pytest.raises(SavedFileError, match="isn't a run folder"):
        tw.load_classifier(images)
