"""Tables find their images however paths are written; or the place that was looked at is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import topwork as tw
from helpers import COLOURS, make_photo, make_photos
from topwork.data.paths import locate
from topwork.errors import DataError

Topwork = Callable[..., Any]


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """`data/trees/CLASS/i.png`, 16 of each class."""
    for k, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / "data" / "trees" / name).mkdir(parents=True)
        for i in range(16):
            make_photo(colour, 100 * k + i).save(tmp_path / "data" / "trees" / name / f"{i}.png")
    return tmp_path / "data"


def write_table(folder: Path, form: str) -> Path:
    """A CSV whose paths are written as `form` says, from `{name}`, `{i}` and `{folder}`."""
    rows = [f'"{form.format(name=name, i=i, folder=folder)}",{name}' for name in COLOURS for i in range(16)]
    (folder / "t.csv").write_text("\n".join(["path,label", *rows]), "utf-8")
    return folder / "t.csv"


def train(topwork: Topwork, *arguments: object) -> Any:
    return topwork("train", *arguments, "--size", "32", "--no-check", "--quiet", "--out", "run")


@pytest.mark.parametrize(
    ("form", "is_said"),
    [
        ("trees/{name}/{i}.png", False),
        ("trees\\{name}\\{i}.png", False),
        (" trees/{name}/{i}.png ", False),
        ("file://{folder}/trees/{name}/{i}.png", False),
        ("~/trees/{name}/{i}.png", False),
        ("{name}/{i}.png", True),
        ("trees/{name}/{i}", True),
        ("C:\\Users\\me\\trees\\{name}\\{i}.PNG", True),
        ("/elsewhere/{name}/{i}.png", True),
        ("{i}.png", True),  # of several images called so, the one in the folder of its label
    ],
)
def test_images_are_found_however_their_paths_are_written(
    topwork: Topwork, trees: Path, monkeypatch: pytest.MonkeyPatch, form: str, is_said: bool
) -> None:
    monkeypatch.setenv("HOME", str(trees))
    answer = train(topwork, write_table(trees, form))
    assert answer.status == 0, answer.err
    assert json.loads(Path("run/run.json").read_text())["data"]["images"] == 48
    assert ("48 of 48 paths" in answer.err) == is_said
    dataset = tw.ImageDataset.from_table(trees / "t.csv")
    folders = [Path(name).parent.name for name in dataset.names]
    assert folders == [dataset.class_names[k] for k in dataset.labels]


def test_paths_start_where_one_says(topwork: Topwork, trees: Path, tmp_path: Path) -> None:
    table = write_table(trees, "{name}/{i}.png").rename(tmp_path / "t.csv")
    answer = train(topwork, table, "--image-root", trees / "trees")
    assert answer.status == 0, answer.err
    assert "paths" not in answer.err
    answer = topwork("predict", "run", table, "--image-root", trees / "trees", "--format", "csv")
    assert answer.status == 0, answer.err
    assert len(answer.out.splitlines()) == 49
    answer = topwork("export", "run", "--to", "openvino", "--quiet")  # it looks for the images where they were
    assert answer.status == 0, answer.err


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("tree/{name}/x{i}.png", ["no folder 'tree' in", "Did you mean 'trees'?"]),
        ("trees/{name}/{i}.jpg", ["no image '0.jpg' in", "Did you mean '0.png'?"]),
        ("trees/{name}/{i}.jpg", ["looked for at '{folder}/trees/ash/0.jpg'", "--image-root FOLDER"]),
        ("https://example.org/{name}/x{i}.png", ["48 of 48 images", "'https://example.org/ash/x0.png'", "wget -x"]),
        ("https://example.org/{name}/x{i}.png", ["are not fetched", "--image-root photos"]),
        ("s3://bucket/{name}/x{i}.png", ["are not fetched", "Copy them to a folder"]),
    ],
)
def test_images_that_are_not_there_are_looked_for_in_a_place_that_is_shown(
    topwork: Topwork, trees: Path, form: str, said: list[str]
) -> None:
    answer = train(topwork, write_table(trees, form))
    assert answer.status == 1
    for text in said:
        assert text.format(folder=trees) in answer.err


def test_images_at_addresses_are_found_where_wget_puts_them(topwork: Topwork, trees: Path) -> None:
    table = write_table(trees, "https://example.org/some%20trees/{name}/{i}.png")
    (trees / "photos" / "example.org").mkdir(parents=True)
    (trees / "trees").rename(trees / "photos" / "example.org" / "some trees")
    answer = train(topwork, table, "--image-root", trees / "photos")
    assert answer.status == 0, answer.err
    assert "paths" not in answer.err
    assert tw.ImageDataset.from_table(table, image_root=trees / "photos").names[0] == "example.org/some trees/ash/0.png"


def test_no_such_folder_to_start_from(topwork: Topwork, trees: Path) -> None:
    answer = train(topwork, write_table(trees, "{name}/{i}.png"), "--image-root", "nowhere")
    assert answer.status == 1
    assert "There is no folder 'nowhere' with the images" in answer.err
    assert "unpack the archive" in train(topwork, trees / "t.csv", "--image-root", "photos.zip").err


def test_a_few_images_that_are_gone_are_named_and_no_others_taken(topwork: Topwork, trees: Path) -> None:
    table = write_table(trees, "trees/{name}/{i}.png")
    (trees / "trees" / "ash" / "3.png").unlink()
    (trees / "trees" / "birch" / "3.png").rename(trees / "trees" / "spare 3.png")
    (trees / "trees" / "cedar" / "3.png").rename(trees / "3.png")  # the only one that is called so now
    answer = train(topwork, table)
    assert answer.status == 0, answer.err
    assert "3 of 48 images" in answer.err
    assert "The first is 'trees/ash/3.png', looked for at" in answer.err
    assert len(json.loads(Path("run/run.json").read_text())["quarantined"]) == 3


def test_predicting_from_a_table_names_what_is_gone(topwork: Topwork, trees: Path, digits_classifier: Path) -> None:
    table = write_table(trees, "trees/{name}/{i}.png")
    (trees / "trees" / "ash" / "3.png").unlink()
    answer = topwork("predict", digits_classifier, table, "--format", "csv")
    assert answer.status == 1
    assert len(answer.out.splitlines()) == 49
    assert "1 of 48 images" in answer.err
    (trees / "trees").rename(trees / "gone")
    (trees / "gone").rename(trees.parent / "gone")
    answer = topwork("predict", digits_classifier, table)
    assert answer.status == 1
    assert "no folder 'trees' in" in answer.err


def test_one_image_is_never_taken_for_two_rows(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", n=2, classes=("ash",))
    found = locate(["x/0.png", "y/0.png", "x/1.jpg"], tmp_path, "t.csv")
    assert found.missing == 1
    assert found.paths == (
        str(tmp_path / "photos/ash/0.png"),
        str(tmp_path / "y/0.png"),
        str(tmp_path / "photos/ash/1.jpg"),
    )


def test_the_image_whose_folders_agree_best_is_taken(tmp_path: Path) -> None:
    for name in ("a/left", "b/left", "b/right"):
        make_photos(tmp_path / "photos" / name, n=1, classes=("ash",))
    found = locate(["old/b/left/ash/0.png", "old/b/right/ash/0.png"], tmp_path, "t.csv")
    assert found.missing == 0
    assert found.paths[0].endswith("photos/b/left/ash/0.png")
    assert locate(["left/ash/0.png"], tmp_path, "t.csv").missing == 1  # two agree equally well


def test_too_many_files_are_not_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import topwork.data.paths as paths

    make_photos(tmp_path / "photos", n=3, classes=("ash",))
    monkeypatch.setattr(paths, "MOST_SEARCHED", 2)
    assert locate(["0.png"], tmp_path, "t.csv").missing == 1
    with pytest.raises(DataError, match="0.png"):
        (tmp_path / "t.csv").write_text("path,label\n0.png,ash\n")
        tw.ImageDataset.from_table(tmp_path / "t.csv")
