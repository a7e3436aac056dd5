"""What a person marked in findings.csv is left out, or relabelled; what can't be meant is an error with the names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import topwork as tw
from helpers import make_photos
from topwork.data.corrections import read_exclusions, read_labels
from topwork.errors import DataError

HEAD = "finding,image,label,suggested,score,other_image,detail,exclude,new_label\n"


def written(folder: Path, content: str | bytes, name: str = "findings.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(("separator", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16")])
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, separator: str, encoding: str) -> None:
    rows = [
        ["Image", "detail", "Exclude", "new_label"],
        ["ash/1.png", '"of a; b, or\nc"', "x", ""],
        ["äsche/2.png", "", "TRUE", ""],
        ["3.png", "", "False", "birch "],
        ["4.png", "", "no", ""],
        ["'=5.png", "", "1", ""],
        ["ash/1.png", "", "yes", "cedar"],
        [],
        ["6.png"],
    ]
    text = "\r\n".join(separator.join(row) for row in rows)
    path = written(tmp_path, text.encode(encoding))
    assert read_exclusions(path) == ("ash/1.png", "äsche/2.png", "=5.png")
    assert read_labels(path) == {"3.png": "birch", "ash/1.png": "cedar"}


def test_a_plain_list_has_a_name_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "ash/a, b.png\r\n\r\nimage.png\nash/a, b.png", "list.txt")
    assert read_exclusions(path) == ("ash/a, b.png", "image.png")
    assert read_exclusions(written(tmp_path, "", "empty.txt")) == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("image,label\na.png,x\n", "has no column 'exclude'. Its columns are 'image', 'label'"),
        ("image,exclude\n\xe4.png,x\n".encode("latin-1"), "isn't text in UTF-8. Save it as “CSV UTF-8”"),
        (f"image,exclude\n{'x' * 200_000},x\n", "can't be read as CSV"),
        (None, "There is no file"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: str | bytes | None, reason: str) -> None:
    path = tmp_path / "findings.csv" if content is None else written(tmp_path, content)
    with pytest.raises(DataError, match=reason):
        read_exclusions(path)


def test_new_labels_that_contradict_and_lists_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a.png' two new labels, 'ash' and 'birch'"):
        read_labels(written(tmp_path, "image,new_label\na.png,ash\na.png,birch\n"))
    with pytest.raises(DataError, match="is no table"):
        read_labels(written(tmp_path, "a.png\n"))


@pytest.fixture
def dataset(photos: Path) -> tw.ImageDataset:
    return tw.ImageDataset.from_directory(photos)


def test_images_are_left_out_and_relabelled(dataset: tw.ImageDataset, photos: Path) -> None:
    digests = dict(zip(dataset.names, dataset.digests, strict=True))
    changed = dataset.relabelled({"ash/0.png": "birch", "ash/2.png": "ash"}).without(
        ["ash/1.jpg", str(photos / "birch/3.jpg")]
    )
    assert len(changed) == 34
    assert not {"ash/1.jpg", "birch/3.jpg"} & set(changed.names)
    assert changed.class_names[changed.labels[changed.names.index("ash/0.png")]] == "birch"
    assert changed.corrections.excluded == ("ash/1.jpg", "birch/3.jpg")
    assert changed.corrections.relabelled == (("ash/0.png", "ash", "birch"),)
    assert dict(zip(changed.names, changed.digests, strict=True)).items() <= digests.items()
    assert len(dataset) == 36  # as it was


def test_no_other_image_comes_to_lie_on_another_split(dataset: tw.ImageDataset) -> None:
    before = dataset.split(test=0.3)
    sides = dict(zip(before.names, before.splits, strict=True))  # type: ignore[arg-type]
    after = dataset.without([before.names[5]]).split(test=0.3)
    assert dict(zip(after.names, after.splits, strict=True)).items() < sides.items()  # type: ignore[arg-type]


def test_a_class_that_is_left_without_images_is_gone(dataset: tw.ImageDataset) -> None:
    few = dataset.without([name for name in dataset.names if name.startswith("birch")])
    assert few.class_names == ("ash", "cedar")
    assert np.bincount(few.labels).tolist() == [12, 12]
    merged = dataset.relabelled({name: "ash" for name in dataset.names if name.startswith("cedar")})
    assert merged.class_names == ("ash", "birch")
    with pytest.raises(DataError, match="All 36 images"):
        dataset.without(dataset.names)


def test_names_that_match_nothing_and_unknown_classes_are_named(dataset: tw.ImageDataset) -> None:
    with pytest.raises(DataError, match=r"2 names without an image in '.*': 'x.png', 'y.png'. .*such as 'ash/0.png'"):
        dataset.without(["x.png", "ash/0.png", "y.png"])
    with pytest.raises(DataError, match=r"No class is called 'brich'. Did you mean 'birch'\?"):
        dataset.relabelled({"ash/0.png": "brich"})


def test_a_name_of_several_images_is_refused_and_names_of_tables_work(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=4)
    content = [path.read_bytes() for path in sorted(photos.rglob("*.*"))]
    names = [f"{i // 2}" for i in range(12)]
    labels = ["ash"] * 4 + ["birch"] * 4 + ["cedar"] * 4
    parquet.write_table(pa.table({"image": content, "label": labels, "name": names}), tmp_path / "named.parquet")
    parquet.write_table(pa.table({"image": content, "label": labels}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="1 name with several images"):
        tw.ImageDataset.from_table(tmp_path / "named.parquet").without(["3"])
    rows = tw.ImageDataset.from_table(tmp_path / "rows.parquet").without(["rows.parquet[row 3]"])
    assert len(rows) == 11
    listed = written(
        tmp_path, "path,label\nphotos/ash/0.png,ash\nphotos/ash/1.jpg,ash\nphotos/birch/0.png,birch\n", "t.csv"
    )
    assert tw.ImageDataset.from_table(listed).without(["photos/ash/1.jpg"]).names == [
        "photos/ash/0.png",
        "photos/birch/0.png",
    ]
