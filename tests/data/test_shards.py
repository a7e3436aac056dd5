"""Several tables are one data set, and their names tell the splits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import topwork as tw
from helpers import COLOURS, make_photo

Topwork = Callable[..., Any]
KINDS = list(COLOURS)


def write_shard(path: Path, first: int, n: int, names: Sequence[str] = KINDS, **columns: Any) -> None:
    """A table as Hugging Face writes it, with `n` photographs from the number `first` on."""
    rows = []
    for i in range(first, first + n):
        file = io.BytesIO()
        make_photo(COLOURS[KINDS[i % 3]], i).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": f"{i}.png"})
    features = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
    table = pa.table({"image": rows, "label": [i % 3 for i in range(first, first + n)], **columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), path)


def train(topwork: Topwork, *arguments: object) -> Any:
    return topwork("train", *arguments, "--size", "32", "--no-check", "--quiet", "--out", "run")


def sizes() -> dict[str, int]:
    found: dict[str, int] = json.loads(Path("run/run.json").read_text())["data"]["sides"]
    return found


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two tables for training, one for testing."""
    for k in range(2):
        write_shard(tmp_path / "birds" / f"train-0000{k}-of-00002.parquet", 30 * k, 30)
    write_shard(tmp_path / "birds" / "test-00000-of-00001.parquet", 60, 15)
    return tmp_path / "birds"


@pytest.mark.parametrize("source", ["birds", "birds/*.parquet", "birds/**/t*.parquet", "."])
def test_tables_of_one_data_set(topwork: Topwork, shards: Path, source: str) -> None:
    answer = train(topwork, source)
    assert answer.status == 0, answer.err
    found = sizes()
    assert found["test"] == 15
    assert found["train"] + found["validation"] == 60
    assert tw.load_classifier("run").class_names == tuple(KINDS)
    answer = topwork("predict", "run", shards, "--format", "csv")
    assert len(answer.out.splitlines()) == 76
    if source == ".":  # where the run is too, with tables of its own
        assert "75 images of 3 classes" in topwork("check", ".", "--size", "32").err


def test_splits_by_the_names_of_folders(topwork: Topwork, tmp_path: Path) -> None:
    write_shard(tmp_path / "birds" / "default" / "train" / "0000.parquet", 0, 30)
    write_shard(tmp_path / "birds" / "default" / "validation" / "0000.parquet", 30, 9)
    answer = train(topwork, "birds")
    assert answer.status == 0, answer.err
    assert sizes()["test"] == 9
    assert "--val-as validation" in answer.err


def test_a_run_is_called_as_the_folder_of_the_pattern(topwork: Topwork, shards: Path) -> None:
    answer = topwork("train", "birds/*.parquet", "--size", "32", "--no-check", "--json")
    assert json.loads(answer.out)["run"] == "runs/birds-1"
    assert topwork("export", "runs/birds-1", "--to", "openvino", "--quiet").status == 0


def test_a_table_of_several_says_so(topwork: Topwork, shards: Path) -> None:
    answer = train(topwork, shards / "train-00000-of-00002.parquet")
    assert answer.status == 0, answer.err
    assert "1 of 2 files called 'train-…' is read" in answer.err
    assert set(sizes()) == {"train", "validation"}


def test_a_column_with_the_split_says_more_than_names(topwork: Topwork, tmp_path: Path) -> None:
    write_shard(tmp_path / "birds" / "train.parquet", 0, 30, split=["train"] * 24 + ["test"] * 6)
    write_shard(tmp_path / "birds" / "test.parquet", 30, 30, split=["train"] * 24 + ["test"] * 6)
    assert train(topwork, "birds").status == 0
    assert sizes()["test"] == 12


def test_a_table_without_split_beside_others_is_named(topwork: Topwork, shards: Path) -> None:
    write_shard(shards / "extra.parquet", 90, 9)
    answer = train(topwork, shards)
    assert answer.status == 1
    assert "extra.parquet' has no split in its name" in answer.err
    assert train(topwork, shards / "t*.parquet").status == 0


def test_tables_of_different_data_sets_are_refused(topwork: Topwork, shards: Path) -> None:
    write_shard(shards / "test-00000-of-00001.parquet", 60, 15, names=["oak", "elm", "fir"])
    answer = train(topwork, shards)
    assert answer.status == 1
    assert "has other class names than" in answer.err
    assert "'oak', 'elm', 'fir'" in answer.err


def test_tables_with_paths(topwork: Topwork, tmp_path: Path) -> None:
    for part, first in (("train", 0), ("test", 60)):
        (tmp_path / "lists" / part).mkdir(parents=True)
        rows = []
        for i in range(first, first + 30):
            make_photo(COLOURS[KINDS[i % 3]], i).save(tmp_path / f"{i}.png")
            rows.append(f"{i}.png,{KINDS[i % 3]}")
        (tmp_path / "lists" / f"{part}.csv").write_text("\n".join(["path,label", *rows]))
    answer = train(topwork, "lists", "--image-root", ".")
    assert answer.status == 0, answer.err
    assert sizes()["test"] == 30


@pytest.mark.parametrize(("pattern", "said"), [("nothing*.parquet", "nothing matches it"), ("*.txt", "'notes.txt'")])
def test_a_pattern_of_something_else(topwork: Topwork, tmp_path: Path, pattern: str, said: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    answer = train(topwork, pattern)
    assert answer.status == 1
    assert said in answer.err
    assert "Expected a pattern of tables" in answer.err


def test_a_table_beside_class_folders_gets_a_word(topwork: Topwork, photos: Path) -> None:
    (photos / "labels.csv").write_text("path,label\nash/0.png,ash\n")
    answer = train(topwork, photos)
    assert answer.status == 0, answer.err
    assert "labels.csv' lies beside the folders and is not read" in answer.err
