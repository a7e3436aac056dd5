"""Folders, tables, arrays and named sets become the same thing: labelled images with a side each."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import topwork as tw
from helpers import COLOURS, make_photo, make_photos
from topwork.data.decoding import read_image
from topwork.errors import DataError, OfflineError, ShapeError, UnknownNameError


def pixels(dataset: tw.ImageDataset, i: int) -> np.ndarray:
    payload = next(dataset.source.payloads(dataset.rows[i : i + 1]))
    return np.asarray(read_image(payload, "x"))


def test_folder_per_class(photos: Path) -> None:
    dataset = tw.ImageDataset.from_directory(photos)
    assert dataset.class_names == ("ash", "birch", "cedar")
    assert len(dataset) == 36
    assert np.bincount(dataset.labels).tolist() == [12, 12, 12]
    assert dataset.names[0] == "ash/0.png"


def test_folder_with_splits_above(tmp_path: Path) -> None:
    for i, side in enumerate(("train", "val", "test")):
        make_photos(tmp_path / "set" / side, n=4, seed=100 * i)
    dataset = tw.ImageDataset.from_directory(tmp_path / "set")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [12, 12, 12]
    assert all(name.startswith("test/") for name in dataset.test.names)


def test_validation_is_taken_from_train_where_the_data_brings_only_a_test_side(tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "train", n=30)
    make_photos(tmp_path / "set" / "test", n=4, seed=500)
    dataset = tw.ImageDataset.from_directory(tmp_path / "set")
    assert len(dataset.test) == 12
    assert len(dataset.train) + len(dataset.validation) == 90
    assert 0 < len(dataset.validation) < 30


def test_files_that_are_no_images_are_counted_not_passed_over_in_silence(photos: Path) -> None:
    (photos / "ash" / "notes.txt").write_text("x")
    (photos / "loose.png").write_bytes(b"x")
    notes = " ".join(tw.ImageDataset.from_directory(photos).notes)
    assert "1 file without an image's suffix was left out (1 .txt)" in notes
    assert "outside the class folders, left out" in notes


def test_csv_with_paths(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", n=4)
    rows = [f"photos/{name}/{i}.png,{name}" for name in COLOURS for i in (0, 2)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    dataset = tw.ImageDataset.from_table(tmp_path / "labels.csv")
    assert len(dataset) == 6
    assert dataset.class_names == ("ash", "birch", "cedar")
    assert pixels(dataset, 0).shape == (40, 48, 3)


def test_numbers_as_labels_are_sorted_by_value(tmp_path: Path) -> None:
    rows = [f"{i}.png,{i}" for i in range(12)]
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    (tmp_path / "t.csv").write_text("\n".join(["file,class", *rows]))
    assert tw.ImageDataset.from_table(tmp_path / "t.csv").class_names == tuple(map(str, range(12)))


def png(i: int) -> bytes:
    import io

    file = io.BytesIO()
    make_photo((9 * i % 256, 40, 40), i).save(file, "PNG")
    return file.getvalue()


def test_parquet_with_bytes_and_class_names_in_its_metadata(tmp_path: Path) -> None:
    table = pa.table(
        {"image": [png(i) for i in range(700)], "label": pa.array([i % 3 for i in range(700)], pa.int16())}
    )
    table = table.replace_schema_metadata({"classes": "ash\nbirch\ncedar\nnever seen"})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=300)
    dataset = tw.ImageDataset.from_table(tmp_path / "t.parquet")
    assert dataset.class_names == ("ash", "birch", "cedar")  # a class without images can't be learned
    some = dataset.select(np.array([0, 299, 300, 650]))  # in several row groups
    found = [np.asarray(read_image(p, "x")) for p in some.source.payloads(some.rows)]
    for i, image in zip([0, 299, 300, 650], found, strict=True):
        assert np.array_equal(image, np.asarray(read_image(png(i), "x")))


def test_hugging_face_image_struct_and_class_label(tmp_path: Path) -> None:
    make_photo((1, 2, 3), 5).save(tmp_path / "five.png")
    images = [{"bytes": png(0), "path": None}, {"bytes": None, "path": "five.png"}]
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": images, "label": [1, 0]}).replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, tmp_path / "t.parquet")
    dataset = tw.ImageDataset.from_table(tmp_path / "t.parquet")
    assert dataset.class_names == ("cat", "dog")
    assert np.array_equal(pixels(dataset, 1), np.asarray(make_photo((1, 2, 3), 5)))


def test_table_with_split_and_group_columns(tmp_path: Path) -> None:
    images = [png(i) for i in range(40)]
    table = pa.table(
        {
            "bytes": images,
            "species": ["a", "b"] * 20,
            "split": ["train"] * 30 + ["test"] * 10,
            "camera": [f"c{i // 2}" for i in range(40)],
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    dataset = tw.ImageDataset.from_table(tmp_path / "t.parquet", group_column="camera")
    assert len(dataset.test) == 10
    assert dataset.groups is not None
    train, validation = set(dataset.train.groups), set(dataset.validation.groups)
    assert not train & validation


def test_arrays_and_names() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 9, 7, 3), dtype=np.uint8)
    dataset = tw.ImageDataset.from_arrays(images, ["cat", "dog", "eel"] * 20)
    assert dataset.class_names == ("cat", "dog", "eel")
    assert np.array_equal(pixels(dataset, 3), images[3])


def test_images_of_different_sizes_in_one_set() -> None:
    images = [make_photo((200, 0, 0), i, (20 + i, 30)) for i in range(10)]
    assert len(tw.ImageDataset.from_arrays(images, [0, 1] * 5)) == 10


def test_as_many_labels_as_images() -> None:
    with pytest.raises(ShapeError, match="one label for each of 4 images"):
        tw.ImageDataset.from_arrays(np.zeros((4, 8, 8, 3), np.uint8), [0, 1])


def test_digits_needs_no_download() -> None:
    dataset = tw.ImageDataset.from_name("digits", offline=True)
    assert (len(dataset), len(dataset.class_names)) == (1797, 10)


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cifar10'"):
        tw.ImageDataset.from_name("cifar11")


def test_offline_forbids_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(OfflineError, match="`offline=True` forbids"):
        tw.ImageDataset.from_name("mnist", offline=True)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"not a table")
    with pytest.raises(DataError, match="can't be read as Parquet"):
        tw.ImageDataset.from_table(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(DataError, match="can't be read as CSV"):
        tw.ImageDataset.from_table(tmp_path / "t.csv")


def test_rows_without_label_are_named(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(png(1))
    (tmp_path / "t.csv").write_text("path,label\na.png,x\nb.png,\nc.png,y\n")
    with pytest.raises(DataError, match="1 of 3 images has no label \\(the first is 'b.png'\\)"):
        tw.ImageDataset.from_table(tmp_path / "t.csv")


def test_unknown_split_name(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png(1))
    (tmp_path / "t.csv").write_text("path,label,split\na.png,x,train\nb.png,y,holdout\n")
    with pytest.raises(DataError, match="Image 'b.png' is in an unknown split 'holdout'"):
        tw.ImageDataset.from_table(tmp_path / "t.csv")


NAMES = ["train", "val", "test", "Train_Set", "ash", "Ash", "birch ", "@eaDir", ".cache", "images", "pred", "1", "01"]
FILES = ["0.png", "1.jpg", "._0.png", "Thumbs.db", "notes.txt", "labels.json"]


PLACES = st.tuples(st.lists(st.sampled_from(NAMES), max_size=4).map("/".join), st.sampled_from(FILES))


@settings(deadline=None, max_examples=200)
@given(st.sets(PLACES, max_size=25))
def test_every_image_below_a_folder_is_taken_or_counted(places: set[tuple[str, str]]) -> None:
    """Whatever the folders are called: no traceback, and no image is left out without a word."""
    with tempfile.TemporaryDirectory() as folder:
        for place, name in places:
            (Path(folder) / place).mkdir(parents=True, exist_ok=True)
            (Path(folder) / place / name).write_bytes(b"x")
        n_images = sum(name.endswith((".png", ".jpg")) for _, name in places)
        try:
            dataset = tw.ImageDataset.from_directory(folder)
        except DataError as error:
            event(str(error).replace(folder, "")[:25])
            return
        counted = [int(n) for note in dataset.notes for n in re.findall(r"(\d+) images? (?:in|that|without)", note)]
        assert len(dataset) + sum(counted) == n_images
