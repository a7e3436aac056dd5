"""Data as people lay it out: which images train, which test, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from helpers import COLOURS, make_photo, make_photos

Topwork = Callable[..., Any]


def sizes(answer: Any, run: str = "run") -> dict[str, int]:
    """How many images of a training lay in each split."""
    assert answer.status == 0, answer.err
    found: dict[str, int] = json.loads(Path(run, "run.json").read_text())["data"]["sides"]
    return found


def train(topwork: Topwork, *arguments: object) -> Any:
    return topwork("train", *arguments, "--size", "32", "--no-check", "--quiet", "--out", "run")


@pytest.fixture
def train_and_val(tmp_path: Path) -> Path:
    make_photos(tmp_path / "set" / "train", n=20)
    make_photos(tmp_path / "set" / "val", n=6, seed=500)
    return tmp_path / "set"


def test_classes_one_folder_below_the_splits(topwork: Topwork, tmp_path: Path) -> None:
    for split in ("train", "test"):
        make_photos(tmp_path / "set" / split / "images")
    answer = topwork("train", "set", "--no-check", "--size", "32")
    assert answer.status == 0, answer.err
    assert "the classes of 'train' are the folders in 'set/train/images'" in answer.err
    assert "3 classes in" in answer.err
    assert "images that training never saw" in answer.out


def test_folds_taken_for_classes_are_questioned(topwork: Topwork, tmp_path: Path) -> None:
    for fold in ("fold1", "fold2"):
        make_photos(tmp_path / "set" / fold)
    assert "all class folders hold the same sub-folders. If these" in topwork("check", "set", "--size", "32").err


def test_classes_three_folders_down_are_pointed_to(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "a" / "b" / "c")
    answer = topwork("train", "set")
    assert answer.status == 1
    assert "of 1 class in" in answer.err
    assert "Then give 'set/a/b/c'." in answer.err


def table_of(photos: Path, head: str, rest: Callable[[int], str]) -> None:
    paths = sorted(photos.rglob("*.png"))
    rows = [f"{path},{path.parent.name},{rest(i)}" for i, path in enumerate(paths)]
    Path("t.csv").write_text("\n".join([head, *rows]) + "\n")


def test_a_column_that_holds_a_split_under_another_name(topwork: Topwork, photos: Path) -> None:
    table_of(photos, "path,label,subset", lambda i: ("train", "Test")[i % 3 == 0])
    answer = topwork("train", "t.csv", "--no-check", "--size", "32")
    assert "the column 'subset' of 't.csv' is taken as the split." in answer.err
    assert "images that training never saw" in answer.out


@pytest.mark.parametrize("column", ["is_valid", "fold"])
def test_a_column_that_may_be_meant_as_a_split(topwork: Topwork, photos: Path, column: str) -> None:
    table_of(photos, f"path,label,{column}", lambda i: str(i % 2 == 0))
    err = topwork("train", "t.csv", "--no-check", "--size", "32").err
    assert f"the column '{column}' of 't.csv' may be meant as a split, and is not read." in err


def test_a_table_without_names_of_columns(topwork: Topwork, photos: Path) -> None:
    table_of(photos, "x", lambda i: "")
    Path("t.csv").write_text(Path("t.csv").read_text()[2:])
    assert "has no line with the names of its columns" in topwork("train", "t.csv").err


def test_val_beside_train_is_the_test(topwork: Topwork, train_and_val: Path) -> None:
    answer = train(topwork, train_and_val)
    found = sizes(answer)
    assert found["test"] == 18
    assert found["train"] + found["validation"] == 60
    assert "The validation images serve as test images" in answer.err
    assert "--val-as validation" in answer.err


def test_val_as_validation_is_the_other_reading(topwork: Topwork, train_and_val: Path) -> None:
    answer = train(topwork, train_and_val, "--val-as", "validation", "--test", "0.2")
    found = sizes(answer)
    assert found["validation"] == 18
    assert found["train"] + found["test"] == 60
    assert "serve as test images" not in answer.err


def test_a_split_column_with_train_and_val_is_read_the_same_way(topwork: Topwork, train_and_val: Path) -> None:
    files = sorted(path.relative_to(train_and_val) for path in train_and_val.rglob("*.*"))
    rows = [f"{path},{path.parts[1]},{path.parts[0].title()}" for path in files]
    (train_and_val / "t.csv").write_text("\n".join(["path,label,Split", *rows]))
    answer = train(topwork, train_and_val / "t.csv")
    assert sizes(answer)["test"] == 18
    assert "--val-as validation" in answer.err
    Path("run").rename("first")
    assert sizes(train(topwork, train_and_val / "t.csv", "--val-as", "validation"))["validation"] == 18


def test_train_val_and_test_mean_what_they_say(topwork: Topwork, train_and_val: Path) -> None:
    make_photos(train_and_val / "test", n=5, seed=900)
    assert sizes(train(topwork, train_and_val)) == {"train": 60, "validation": 18, "test": 15}


def test_a_flat_test_folder_without_labels_is_named(topwork: Topwork, train_and_val: Path) -> None:
    (train_and_val / "test").mkdir()
    for i in range(10):
        make_photo((9, 9, 200), 700 + i).save(train_and_val / "test" / f"{i}.png")
    answer = train(topwork, train_and_val)
    assert sizes(answer)["test"] == 18
    assert "holds 10 images without class folders: no labels, so left out" in answer.err
    assert f"topwork predict RUN {train_and_val}/test" in answer.err


def test_a_flat_test_folder_beside_train_alone(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "train", n=20)
    (tmp_path / "set" / "test").mkdir()
    make_photo((9, 9, 200), 700).save(tmp_path / "set" / "test" / "0.png")
    answer = train(topwork, tmp_path / "set")
    assert set(sizes(answer)) == {"train", "validation"}
    assert "holds 1 image without class folders" in answer.err


def test_folders_without_images_beside_train_are_passed_over_together(topwork: Topwork, train_and_val: Path) -> None:
    for name in ("logs", "cache"):
        (train_and_val / name).mkdir()
    answer = train(topwork, train_and_val)
    assert sizes(answer)["test"] == 18
    assert answer.err.count("without images: passed over") == 1
    assert "'cache', 'logs'" in answer.err


def test_classes_without_images_in_some_split_are_named_at_once(topwork: Topwork, train_and_val: Path) -> None:
    make_photos(train_and_val / "test", n=3, seed=900)
    (train_and_val / "val" / "ash").rename(train_and_val / "val" / "elm")
    (train_and_val / "test" / "ash").rename(train_and_val / "test" / "fir")
    answer = train(topwork, train_and_val)
    assert answer.status == 1
    assert "no training images of the classes 'elm', 'fir'" in answer.err
    assert "--ignore-class elm --ignore-class fir" in answer.err
    answer = train(topwork, train_and_val, "--ignore-class", "elm", "--ignore-class", "fir")
    assert sizes(answer) == {"train": 60, "validation": 12, "test": 6}
    assert "there is no validation image of the class 'ash'" in answer.err
    assert "there is no test image of 'ash'" in answer.err


def png(seed: int) -> bytes:
    import io

    file = io.BytesIO()
    make_photo(((37 * seed) % 256, 90, 40), seed).save(file, "PNG")
    return file.getvalue()


def test_groups_in_several_splits_of_the_data_are_counted(topwork: Topwork, tmp_path: Path) -> None:
    rows = {
        "image": [png(i) for i in range(60)],
        "label": ["ash", "birch"] * 30,
        "patient": [f"p{i // 6}" for i in range(60)],
        "split": ["test" if i % 3 == 0 else "train" for i in range(60)],
    }
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet")
    answer = train(topwork, "t.parquet", "--group-column", "patient")
    assert answer.status == 0, answer.err
    assert "10 of 10 groups have images in several splits (groups 'p0', 'p1'" in answer.err
    assert json.loads(Path("run/run.json").read_text())["data"]["groups_in_several_splits"] == 10
    for page in ("report.html", "README.md"):
        assert "10 groups have images in several splits" in Path("run", page).read_text()
    answer = topwork("check", "t.parquet", "--group-column", "patient", "--size", "32")
    assert "Groups with images in several splits: 10" in answer.out


def splits_of(run: str = "run") -> dict[str, str]:
    rows = parquet.read_table(Path(run) / "images.parquet").to_pylist()
    return {row["image"]: row["side"] for row in rows}


def test_images_of_one_folder_stay_together(topwork: Topwork, tmp_path: Path) -> None:
    for k, name in enumerate(("ash", "birch")):
        for site in range(12):
            folder = tmp_path / "set" / name / f"site{site}"
            folder.mkdir(parents=True)
            for i in range(3):
                make_photo((200 * k, 200 - 200 * k, 9), 100 * k + 10 * site + i).save(folder / f"{i}.png")
    answer = train(topwork, "set", "--group-by", "folder", "--test", "0.2")
    assert answer.status == 0, answer.err
    by_site: dict[str, set[str]] = {}
    for image, split in splits_of().items():
        by_site.setdefault(image.split("/")[1], set()).add(split)
    assert all(len(splits) == 1 for splits in by_site.values())
    answer = topwork(
        "train", "set", "--group-pattern", "(site[0-9]+)/", "--test", "0.2", "--no-check", "--out", "again"
    )
    assert answer.status == 0, answer.err
    assert splits_of("again") == splits_of()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--group-pattern", "("], "is no regular expression"),
        (["--group-pattern", "site"], "with a capture"),
        (["--group-pattern", "(1)[.]"], "finds nothing in 30 of 36 paths, such as"),
        (["--group-pattern", "(1)", "--group-by", "folder"], "got both"),
    ],
)
def test_groups_that_cannot_be_found(topwork: Topwork, photos: Path, options: list[str], said: str) -> None:
    answer = topwork("train", photos, *options)
    assert answer.status == 1
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_small_classes_are_named_at_once_and_left_out_on_demand(topwork: Topwork, tmp_path: Path) -> None:
    rows = [f"{i}.png,{'ash' if i % 2 else 'birch'}" for i in range(40)]
    rows += [f"{40 + j}.png,rare{j}" for j in range(6)]
    for i in range(46):
        make_photo((200 * (i % 2), 90, 40), i).save(tmp_path / f"{i}.png")
    (tmp_path / "tail.csv").write_text("\n".join(["path,label", *rows]))
    answer = topwork("train", "tail.csv", "--size", "32")
    assert answer.status == 1
    assert "6 of 8 classes have too few images to split: 'rare0' (1 image), 'rare1' (1 image)" in answer.err
    assert "--min-images 2" in answer.err
    answer = train(topwork, "tail.csv", "--min-images", "2")
    assert answer.status == 0, answer.err
    assert "the classes 'rare0', 'rare1', 'rare2', 'rare3', 'rare4' and 1 more with fewer than 2 images" in answer.err
    out = [part for j in range(6) for part in ("--ignore-class", f"rare{j}")]
    answer = topwork("train", "tail.csv", *out, "--size", "32", "--no-check", "--json")
    assert answer.status == 0, answer.err
    answer = topwork("evaluate", "run", "tail.csv", "--ignore-class", "rare0")
    assert "--ignore-class" in answer.err


def test_what_is_advised_about_small_classes_is_accepted(topwork: Topwork, tmp_path: Path) -> None:
    rows = [f"{i}.png,{'ash' if i % 2 else 'birch'},g{i}" for i in range(40)]
    rows += [f"{40 + i}.png,cedar,one" for i in range(30)]  # more images than the others, but of one group
    for i in range(70):
        make_photo((3 * i, 90, 40), i).save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_text("\n".join(["path,label,site", *rows]))
    answer = train(topwork, "t.csv", "--group-column", "site")
    assert "'cedar' (30 images, 1 when copies and groups are kept together)" in answer.err
    assert "--ignore-class cedar" in answer.err
    assert train(topwork, "t.csv", "--group-column", "site", "--ignore-class", "cedar").status == 0
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *[f"{i}.png,{i / 7}" for i in range(60)]]))
    answer = topwork("train", "t.csv", "--size", "32", "--out", "other")
    assert "60 of 60 classes have too few images" in answer.err
    assert "put them into a few classes first" in answer.err
    assert "--min-images" not in answer.err


def test_classes_that_the_classifier_does_not_know_can_be_left_out_of_a_table(topwork: Topwork, photos: Path) -> None:
    train(topwork, photos)
    for i in range(9):
        make_photo((190, 60, 40), 5000 + i).save(photos.parent / f"{i}.png")
    rows = [f"{i}.png,{name}" for i, name in enumerate(["ash", "elm", "fir"] * 3)]
    (photos.parent / "labels.csv").write_text("\n".join(["path,label", *rows]))
    answer = topwork("evaluate", "run", "labels.csv")
    assert "has the classes 'elm', 'fir' that the classifier does not know" in answer.err
    assert "--ignore-class elm --ignore-class fir" in answer.err
    answer = topwork("evaluate", "run", "labels.csv", "--ignore-class", "elm", "--ignore-class", "fir", "--json")
    assert json.loads(answer.out)["n"] == 3


@pytest.mark.parametrize(
    ("train_name", "test_name", "said"),
    [
        ("training_set", "test_set", True),
        ("seg_train", "seg_test", True),
        ("TrainImages", "testImages", True),
        ("trainset", "testset", True),
        ("train2017", "val2017", True),
        ("Train", "Test", False),
        ("Training", "Validation", False),
    ],
)
def test_folders_called_like_splits_are_splits(
    topwork: Topwork, tmp_path: Path, train_name: str, test_name: str, said: bool
) -> None:
    make_photos(tmp_path / "set" / train_name, n=12)
    make_photos(tmp_path / "set" / test_name, n=4, seed=500)
    answer = train(topwork, tmp_path / "set")
    assert sizes(answer)["test"] == 12
    assert (f"taken as splits: '{test_name}'" in answer.err or f"taken as splits: '{train_name}'" in answer.err) == said


def test_splits_that_are_packed_twice_and_images_to_be_answered(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "seg_train" / "seg_train", n=12)
    make_photos(tmp_path / "set" / "seg_test" / "seg_test", n=4, seed=500)
    (tmp_path / "set" / "seg_pred" / "seg_pred").mkdir(parents=True)
    make_photo((9, 9, 200), 700).save(tmp_path / "set" / "seg_pred" / "seg_pred" / "0.png")
    answer = train(topwork, tmp_path / "set")
    assert sizes(answer)["test"] == 12
    assert "'seg_train' (train)" in answer.err
    assert "seg_pred' holds 1 image without class folders" in answer.err


def test_one_folder_that_holds_the_splits(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "birds" / "train", n=12)
    make_photos(tmp_path / "set" / "birds" / "test", n=4, seed=500)
    (tmp_path / "set" / "__MACOSX").mkdir()
    assert sizes(train(topwork, tmp_path / "set"))["test"] == 12


def test_splits_below_the_classes(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "a", n=12)
    make_photos(tmp_path / "b", n=4, seed=500)
    for name in COLOURS:
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "a" / name).rename(tmp_path / "set" / name / "train")
        (tmp_path / "b" / name).rename(tmp_path / "set" / name / "test")
    answer = train(topwork, tmp_path / "set")
    assert sizes(answer)["test"] == 12
    assert "the folders below the classes are splits" in answer.err


@pytest.mark.parametrize("names", [("freight_train", "passenger_train", "truck"), ("train", "car", "plane")])
def test_classes_that_are_called_train_are_classes(topwork: Topwork, photos: Path, names: tuple[str, ...]) -> None:
    for old, new in zip(COLOURS, names, strict=True):
        (photos / old).rename(photos / new)
    answer = train(topwork, photos)
    assert set(sizes(answer)) == {"train", "validation"}
    assert "split" not in answer.err


def test_folders_that_may_be_splits_are_named(topwork: Topwork, photos: Path) -> None:
    for old, new in zip(COLOURS, ("train1", "train2", "test"), strict=True):
        (photos / old).rename(photos / new)
    answer = train(topwork, photos)
    assert "the folders 'test', 'train1', 'train2' may be meant as splits; they are taken as classes" in answer.err


def test_two_folders_for_one_split_are_refused(topwork: Topwork, train_and_val: Path) -> None:
    make_photos(train_and_val / "valid", n=3, seed=900)
    answer = train(topwork, train_and_val)
    assert answer.status == 1
    assert "several folders for one split: 'val', 'valid'" in answer.err
    assert sizes(train(topwork, train_and_val, "--ignore-class", "valid"))["test"] == 18


def test_what_other_programs_leave_beside_images_is_passed_over(topwork: Topwork, photos: Path) -> None:
    for place in ("__MACOSX/ash", "@eaDir/ash", "ash/@eaDir/0.png", "birch/.cache", "ash/old/__pycache__"):
        (photos / place).mkdir(parents=True)
        make_photo((9, 9, 9), 40).resize((24, 20)).save(photos / place / "SYNOFILE_THUMB_M.png")
    make_photo((9, 9, 9), 41).save(photos / "ash" / "._0.png")
    (photos / "ash" / "Thumbs.db").write_bytes(b"x")
    (photos / ".git").mkdir()
    answer = train(topwork, photos)
    assert sum(sizes(answer).values()) == 36
    assert "6 images that other programs keep in '._0.png', '.cache', '@eaDir', '__MACOSX', '__pycache__'" in answer.err
    assert "1 file without an image's suffix was left out (1 .db)" in answer.err
    answer = topwork("predict", "run", photos, "--format", "csv")
    assert len(answer.out.splitlines()) == 37
    assert "6 images that other programs keep" in answer.err or "._0" not in answer.out


def test_no_image_beside_class_folders_is_left_out_without_a_word(topwork: Topwork, train_and_val: Path) -> None:
    for place, n in (("", 1), ("train", 2), ("val", 3)):
        for i in range(n):
            make_photo((9, 9, 200), 700 + i).save(train_and_val / place / f"loose {i}.png")
    (train_and_val / "extra").mkdir()
    make_photo((9, 9, 200), 800).save(train_and_val / "extra" / "0.png")
    answer = train(topwork, train_and_val)
    assert f"1 image in '{train_and_val}', outside the class folders, left out" in answer.err
    assert f"2 images in '{train_and_val}/train', outside the class folders, left out" in answer.err
    assert f"3 images in '{train_and_val}/val', outside the class folders, left out" in answer.err
    assert "extra' holds 1 image without class folders" in answer.err


def test_links_inside_class_folders_are_said(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    more = make_photos(tmp_path / "more", n=3, seed=800)
    (photos / "ash" / "more").symlink_to(more / "ash", target_is_directory=True)
    answer = train(topwork, photos)
    assert "the link 'more' to other folders: not followed" in answer.err


def test_a_table_that_lies_beside_the_images_is_named(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "set" / "train").mkdir(parents=True)
    make_photo((9, 9, 200), 700).save(tmp_path / "set" / "train" / "0.png")
    (tmp_path / "set" / "labels.csv").write_text("path,label\ntrain/0.png,ash\n")
    answer = train(topwork, "set")
    assert "'set' holds 1 image but no class folders" in answer.err
    assert "give a table that lies there: set/labels.csv" in answer.err


def test_evaluating_on_the_test_folder_of_a_set(topwork: Topwork, train_and_val: Path) -> None:
    train(topwork, train_and_val)
    make_photos(train_and_val / "other" / "test", n=4, seed=3000)
    answer = topwork("evaluate", "run", train_and_val / "other", "--json")
    assert json.loads(answer.out)["n"] == 12
