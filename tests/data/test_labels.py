"""Labels as people write them: one normal form, missing ones named, and names that look alike said aloud."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import topwork as tw
from helpers import COLOURS, make_photo
from topwork.data.labels import doubtful_names, normal_form, sorted_names
from topwork.errors import DataError

Topwork = Callable[..., Any]
KINDS = list(COLOURS)


def png(i: int) -> bytes:
    file = io.BytesIO()
    make_photo(COLOURS[KINDS[i % 3]], i).save(file, "PNG")
    return file.getvalue()


def write_parquet(path: Path, labels: Any, names: Sequence[str] | None = None) -> Path:
    """A Parquet table of `len(labels)` photographs; with Hugging Face's class names, where there are some."""
    table = pa.table({"image": [png(i) for i in range(len(labels))], "label": labels})
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, path)
    return path


def write_csv(path: Path, labels: Sequence[str]) -> Path:
    for i in range(len(labels)):
        (path.parent / f"{i}.png").write_bytes(png(i))
    path.write_text("\n".join(["path,label", *(f'{i}.png,"{label}"' for i, label in enumerate(labels))]), "utf-8")
    return path


def train(topwork: Topwork, *arguments: object) -> Any:
    return topwork("train", *arguments, "--size", "32", "--no-check", "--quiet", "--out", "run")


def classes(run: str = "run") -> list[str]:
    """The classes that a training ended with."""
    return list(tw.load_classifier(run).class_names)


def test_blanks_at_the_ends_and_the_encoding_of_accents_make_no_other_class(topwork: Topwork, tmp_path: Path) -> None:
    spelt = [("e\u0301rable", "\u00e9rable")[i // 3 % 2] for i in range(60)]
    labels = [(spelt[i], "birch" + " " * (i % 2), "\u00a0cedar")[i % 3] for i in range(60)]
    answer = train(topwork, write_csv(tmp_path / "t.csv", labels))
    assert answer.status == 0, answer.err
    assert classes() == ["birch", "cedar", "\u00e9rable"]
    assert "count as one" in answer.err
    assert "'birch ' (10 images) as 'birch'" in answer.err


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ash", "ash"), ("001", "1"), ("1.0", "1"), ("red oak", "red_oak"), ("site 01", "site 1"), ("a\u200bsh", "ash")],
)
def test_names_that_a_person_would_call_equal_are_named_and_kept(
    topwork: Topwork, tmp_path: Path, one: str, other: str
) -> None:
    labels = [("elm", one, other)[i % 3] for i in range(60)]
    answer = train(topwork, write_csv(tmp_path / "t.csv", labels))
    assert answer.status == 0, answer.err
    assert "a person may take for the same" in answer.err
    assert "(20 images) and" in answer.err
    assert len(classes()) == 3


@pytest.mark.parametrize(
    "names", [("1.05", "1.5"), ("1", "-1"), ("--1", "1"), ("room 10", "room 1"), ("v1.05", "v1.5")]
)
def test_names_that_differ_for_a_person_are_not(names: tuple[str, str]) -> None:
    assert doubtful_names(names, np.array([9, 9]), are_folders=False) == []


def test_class_folders_that_a_person_would_call_equal_are_named(topwork: Topwork, photos: Path) -> None:
    (photos / "birch").rename(photos / "Ash")
    answer = train(topwork, photos)
    assert answer.status == 0, answer.err
    assert "'Ash' (12 images) and 'ash' (12 images)" in answer.err


@pytest.mark.parametrize("missing", ["nan", "null", "blank"])
def test_missing_labels_are_counted_and_left_out_on_demand(topwork: Topwork, tmp_path: Path, missing: str) -> None:
    numbers = [i % 3 for i in range(60)]
    if missing == "nan":
        labels: Any = pa.array([float("nan") if i < 7 else float(k) for i, k in enumerate(numbers)])
    elif missing == "null":
        labels = pa.array([None if i < 7 else k for i, k in enumerate(numbers)], pa.int32())
    else:
        labels = [" " if i < 7 else str(k) for i, k in enumerate(numbers)]
    path = write_parquet(tmp_path / "t.parquet", labels)
    answer = train(topwork, path)
    assert answer.status == 1
    assert "7 of 60 images have no label (the first is 't.parquet[row 0]')" in answer.err
    assert "--skip-unlabelled." in answer.err
    answer = train(topwork, path, "--skip-unlabelled")
    assert answer.status == 0, answer.err
    assert "7 of 60 images have no label" in answer.err
    assert classes() == ["0", "1", "2"]  # whole numbers without a fraction
    assert json.loads(Path("run/run.json").read_text())["data"]["images"] == 53


def test_a_negative_label_beside_class_names_is_no_label(topwork: Topwork, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", [-1 if i < 12 else i % 3 for i in range(60)], KINDS)
    answer = train(topwork, path)
    assert answer.status == 1
    assert "12 of 60 images have a negative label, such as -1, which usually means that there is none" in answer.err
    assert train(topwork, path, "--skip-unlabelled").status == 0
    assert classes() == KINDS


def test_labels_beyond_the_class_names_are_counted(topwork: Topwork, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", [i % 4 for i in range(60)], KINDS)
    answer = train(topwork, path)
    assert answer.status == 1
    assert "15 images have a label beyond the 3 class names, which are numbered from 0: 3." in answer.err


def test_missing_numbers_beside_class_names_keep_the_names(topwork: Topwork, tmp_path: Path) -> None:
    labels = pa.array([None if i < 6 else i % 3 for i in range(60)], pa.int64())
    path = write_parquet(tmp_path / "t.parquet", labels, ["oak ", "elm", "fir"])
    assert train(topwork, path, "--skip-unlabelled").status == 0
    assert classes() == ["oak", "elm", "fir"]


def test_minus_one_among_numbers_without_names_gets_a_word(topwork: Topwork, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", [i % 4 - 1 for i in range(60)])
    answer = train(topwork, path)
    assert answer.status == 0, answer.err
    assert "the label '-1' (15 images) counts as a class" in answer.err
    assert "--ignore-class -1" in answer.err
    Path("run").rename("first")
    answer = train(topwork, path, "--ignore-class", "-1")
    assert answer.status == 0, answer.err
    assert classes() == ["0", "1", "2"]


@pytest.mark.parametrize("word", ["nan", "NA", "None"])
def test_words_for_a_missing_label_get_a_word(topwork: Topwork, tmp_path: Path, word: str) -> None:
    labels = [word if i % 4 == 0 else KINDS[i % 3] for i in range(60)]
    answer = train(topwork, write_csv(tmp_path / "t.csv", labels))
    assert answer.status == 0, answer.err
    assert f"some labels read like a missing one: {word!r} (15 images)" in answer.err
    assert f"--ignore-class {word}" in answer.err
    Path("run").rename("first")
    answer = train(topwork, "t.csv", "--ignore-class", word)
    assert answer.status == 0, answer.err
    assert "missing" not in answer.err


def test_signs_before_numbers_do_not_stop_it(topwork: Topwork, tmp_path: Path) -> None:
    answer = train(topwork, write_csv(tmp_path / "t.csv", ["--1", "1", "-1"] * 20))
    assert answer.status == 0, answer.err
    assert classes() == ["--1", "-1", "1"]


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([[i % 3] for i in range(60)]),
        pa.array([{"kind": i % 3} for i in range(60)]),
        [f"['{KINDS[i % 3]}']" for i in range(60)],
        [KINDS[i % 3] if i % 5 else "ash|birch" for i in range(60)],
    ],
    ids=["list", "struct", "written list", "several names"],
)
def test_several_labels_for_one_image_are_refused(topwork: Topwork, tmp_path: Path, labels: Any) -> None:
    answer = train(topwork, write_parquet(tmp_path / "t.parquet", labels))
    assert answer.status == 1
    assert "Expected one label for each image" in answer.err
    assert "Traceback" not in answer.err


def test_images_with_several_labels_can_be_left_out(topwork: Topwork, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [KINDS[i % 3] if i % 5 else "ash|birch" for i in range(60)])
    assert "12 images have several labels each, such as 'ash|birch'" in train(topwork, path).err
    answer = train(topwork, path, "--ignore-class", "ash|birch")
    assert answer.status == 0, answer.err


def test_a_folder_with_a_comma_in_its_name_is_one_class(topwork: Topwork, photos: Path) -> None:
    (photos / "cedar").rename(photos / "ash, birch")
    answer = train(topwork, photos)
    assert answer.status == 0, answer.err


def test_a_group_that_is_missing_is_no_group(topwork: Topwork, tmp_path: Path) -> None:
    rows = {"image": [png(i) for i in range(60)], "label": [KINDS[i % 3] for i in range(60)]}
    sites = pa.array([float("nan") if i == 4 else float(i // 6) for i in range(60)])
    parquet.write_table(pa.table({**rows, "site": sites}), tmp_path / "t.parquet")
    answer = train(topwork, "t.parquet", "--group-column", "site")
    assert answer.status == 1
    assert "1 row of 't.parquet' has no group (the first is row 4" in answer.err


def test_labels_from_python_can_be_missing_too() -> None:
    images = np.zeros((6, 4, 4, 3), np.uint8)
    for labels in (["a", None, "b", "b", "a", "a"], [0.0, np.nan, 1.0, 1.0, 0.0, 0.0]):
        with pytest.raises(DataError, match="1 of 6 images has no label .the first is 'image.1.'"):
            tw.ImageDataset.from_arrays(images, labels)
        dataset = tw.ImageDataset.from_arrays(images, labels, skip_unlabelled=True)
        assert len(dataset) == 5
        assert dataset.labels.tolist() == [0, 1, 1, 0, 0]
    with pytest.raises(DataError, match="Expected one label for each image"):
        tw.ImageDataset.from_arrays(images, [["a"], ["a", "b"], ["b"], ["a"], ["b"], ["a"]])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="[]|;,", exclude_categories=["Cs"]), max_size=6),
        min_size=2,
        max_size=12,
    )
)
def test_any_texts_are_labels(labels: list[str]) -> None:
    """Every image has the class that its label reads as; names are sorted, and none is doubled."""
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    assume(any(normal_form(label) for label in labels))
    dataset = tw.ImageDataset.from_arrays(images, labels, skip_unlabelled=True)
    named = [dataset.class_names[k] for k in dataset.labels]
    assert named == [form for label in labels if (form := normal_form(label))]
    assert list(dataset.class_names) == sorted_names(set(dataset.class_names))
