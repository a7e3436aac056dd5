"""The commands as a person uses them, one after another."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from helpers import make_photo, make_photos
from topwork.cli.main import main

Topwork = Callable[..., object]


def test_train_predict_evaluate(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    trained = topwork("train", photos, "--top", "16", "--epochs", "40", "--patience", "5", "--test", "0.2")
    assert trained.status == 0
    assert "36 images of 3 classes" in trained.err
    assert "val_loss" in trained.err  # the live table
    assert "Test accuracy" in trained.out
    assert "95 % interval" in trained.out
    assert "Best epoch" in trained.out
    assert "Next: topwork predict runs/photos-1 IMAGE" in trained.out

    folder = Path("runs/photos-1")
    expected = {"classifier", "history.csv", "metrics.json", "predictions.parquet", "images.parquet", "run.json"}
    assert {path.name for path in folder.iterdir()} == {*expected, "README.md", "report.html", "findings.csv"}
    assert not any(path.suffix in (".pkl", ".pickle", ".keras") for path in folder.rglob("*"))
    record = json.loads((folder / "run.json").read_text())
    assert record["command"].startswith("topwork train")
    assert sum(record["data"]["sides"].values()) == 36
    tested = parquet.read_table(folder / "predictions.parquet")
    assert tested.num_rows == record["data"]["sides"]["test"]

    image = photos / "cedar" / "0.png"
    assert "cedar" in topwork("predict", folder, image).out.split(str(image))[1]
    row = json.loads(topwork("predict", folder, image, "--format", "jsonl", "--runners-up", "1").out)
    assert row["class"] == "cedar"
    assert len(row["runners_up"]) == 1

    other = make_photos(tmp_path / "other", n=5, seed=9000)
    evaluated = json.loads(topwork("evaluate", folder, other, "--json").out)
    assert evaluated["n"] == 15
    assert evaluated["accuracy"]["value"] > 0.8
    assert "recall" in topwork("evaluate", folder, other).out


def test_predict_answers_in_order_and_names_what_it_cannot_read(topwork: Topwork, photos: Path) -> None:
    topwork("train", photos)
    (photos / "ash" / "00 broken.png").write_bytes(b"x")
    answer = topwork("predict", "runs/photos-1", photos / "ash", photos / "none.jpg", "--format", "csv")
    assert answer.status == 1  # something could not be read
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert len(rows) == 14
    assert [row["image"] for row in rows[:13]] == sorted(row["image"] for row in rows[:13])
    errors = {Path(row["image"]).name: row["error"] for row in rows if row["error"]}
    assert errors.keys() == {"00 broken.png", "none.jpg"}
    assert errors["00 broken.png"].startswith("not a JPEG")
    assert errors["none.jpg"] == "No such file or directory"
    assert all(row["class"] == "ash" and 0.3 < float(row["probability"]) <= 1 for row in rows if not row["error"])


def test_images_that_were_trained_on_do_not_flatter_an_evaluation(topwork: Topwork, photos: Path) -> None:
    topwork("train", photos, "--test", "0.2")
    n_test = json.loads(Path("runs/photos-1/run.json").read_text())["data"]["sides"]["test"]
    answer = topwork("evaluate", "runs/photos-1", photos, "--json")
    assert f"{36 - n_test} of 36 images were used in training; they are left out" in answer.err
    assert json.loads(answer.out)["n"] == n_test


def test_classifier_folder_knows_its_training_images_too(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    topwork("train", photos, "--test", "0.2")
    assert "were used in training; they are left out" in topwork("evaluate", "runs/photos-1/classifier", photos).err
    Path("runs/photos-1/classifier").rename(tmp_path / "lone")
    assert "no list of the images it was trained on" in topwork("evaluate", "lone", photos).err


def test_evaluating_on_one_class_alone(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    topwork("train", photos)
    other = make_photos(tmp_path / "other", n=4, classes=("birch",), seed=4000)
    assert json.loads(topwork("evaluate", "runs/photos-1", other, "--json").out)["n"] == 4


def test_evaluating_on_training_images_alone_is_refused(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    topwork("train", photos, "--test", "0.2")
    images = parquet.read_table("runs/photos-1/images.parquet").to_pylist()
    for image in images:
        if image["side"] == "test":
            (photos / image["image"]).unlink()
    answer = topwork("evaluate", "runs/photos-1", photos)
    assert answer.status == 1
    assert "were used in training" in answer.err


def test_evaluating_a_class_that_it_does_not_know(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    topwork("train", photos)
    other = make_photos(tmp_path / "other", n=3, seed=700)
    (other / "ash").rename(other / "fox")
    answer = topwork("evaluate", "runs/photos-1", other)
    assert answer.status == 1
    assert "has the class 'fox' that the classifier does not know" in answer.err


def test_second_run_extracts_nothing_and_takes_the_next_number(topwork: Topwork, photos: Path, own_cache: Path) -> None:
    assert json.loads(topwork("train", photos, "--json").out)["n_extracted"] == 36
    second = json.loads(topwork("train", photos, "--json", "--quiet", "--top", "8", "--epochs", "3").out)
    assert second["n_extracted"] == 0
    assert second["run"] == "runs/photos-2"


def test_flipped_views_are_counted_as_what_they_are(topwork: Topwork, photos: Path, own_cache: Path) -> None:
    plain = json.loads(topwork("train", photos, "--json").out)
    flipped = json.loads(topwork("train", photos, "--flip", "--json").out)
    assert flipped["n_extracted"] == flipped["n_flipped"] == flipped["n_train"] == plain["n_train"]
    n_train = plain["n_train"]
    said = topwork("train", photos, "--flip").out
    assert f"then trained on all of them ({n_train} of them seen flipped too)" in said
    assert "Features of 0 views computed" in said
    assert f"{36 + n_train} were there already" in said
    folder = Path("runs/photos-3")
    assert json.loads((folder / "run.json").read_text())["n_flipped"] == n_train
    assert (
        f"for training ({n_train} of them seen flipped too), 5-fold cross-validated"
        in (folder / "README.md").read_text()
    )
    assert {"plain", "flipped"} <= set(topwork("cache").out.split())


def test_quiet_says_nothing_but_the_result(topwork: Topwork, tmp_path: Path) -> None:
    answer = topwork("train", make_photos(tmp_path / "many", n=50), "--quiet")
    assert answer.err == ""
    assert "Test accuracy" in answer.out


def test_random_weights_are_said_loudly(topwork: Topwork, photos: Path) -> None:
    answer = topwork("train", photos, "--backbone", "starter", "--weights", "random", "--quiet")
    assert "Warning: the weights of starter are random, not pretrained" in answer.err


def test_copies_across_a_given_split_are_a_warning(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "train", n=20)
    make_photos(tmp_path / "set" / "test", n=4)  # the same seeds: the same images
    assert "12 of 12 test images are in training or validation too" in topwork("train", "set").err


def test_flatten_warns_of_its_size(topwork: Topwork, photos: Path) -> None:
    answer = topwork("train", photos, "--pooling", "flatten", "--quiet")
    assert answer.status == 0
    assert "flatten keeps about" in answer.err


def test_backbones_table(topwork: Topwork) -> None:
    lines = topwork("backbones").out.splitlines()
    assert lines[1].split()[0] == "starter"
    assert any(line.startswith("densenet121") and "75.0" in line for line in lines)
    table = json.loads(topwork("backbones", "--json").out)
    assert {row["name"]: row["n_features"] for row in table}["resnet50"] == 2048


def test_cache_shows_and_prunes(topwork: Topwork, photos: Path, own_cache: Path) -> None:
    assert "No features are kept yet" in topwork("cache").out
    topwork("train", photos)
    assert "36" in topwork("cache").out.splitlines()[1]
    assert "Deleted 0 vectors" in topwork("cache", "--prune", "--older-than", "1").out
    assert "Deleted 72 vectors of features and thumbnails" in topwork("cache", "--prune").out


@pytest.mark.parametrize("command", list(main.commands))
def test_help_has_examples(topwork: Topwork, command: str) -> None:
    text = topwork(command, "--help").out
    assert "Examples:" in text
    assert f"topwork {command}" in text.split("Examples:")[1]


def test_images_of_many_kinds_in_one_folder(topwork: Topwork, photos: Path) -> None:
    make_photo((200, 60, 40), 50).convert("L").save(photos / "ash" / "grey.webp")
    make_photo((200, 60, 40), 51).convert("P").save(photos / "ash" / "palette.gif")
    make_photo((200, 60, 40), 52, (300, 20)).convert("CMYK").save(photos / "ash" / "cmyk.tiff")
    make_photo((200, 60, 40), 53, (20, 300)).convert("RGBA").save(photos / "ash" / "alpha.PNG")
    answer = topwork("train", photos)
    assert "40 images of 3 classes" in answer.err
    assert "could not be read" not in answer.out


def test_findings_that_were_filled_in_are_acted_on_and_recorded(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    (photos / "birch" / "ash.png").write_bytes((photos / "ash" / "0.png").read_bytes())
    (photos / "birch" / "turned.png").write_bytes((photos / "ash" / "2.png").read_bytes())
    (photos / "ash" / "2.png").unlink()
    first = topwork("train", photos)
    assert "Findings: runs/photos-1/findings.csv; fill in exclude or new_label" in first.out
    rows = list(csv.DictReader(Path("runs/photos-1/findings.csv").read_text().splitlines()))
    assert list(rows[0])[-2:] == ["exclude", "new_label"]
    next(row for row in rows if row["image"] == "birch/ash.png")["exclude"] = "x"
    rows.append({"image": "birch/turned.png", "new_label": "ash"})
    with Path("filled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    again = topwork("train", photos, "--exclude", "filled.csv", "--relabel", "filled.csv")
    assert "1 image left out by --exclude" in again.err
    assert "1 label changed by --relabel" in again.err
    record = json.loads(Path("runs/photos-2/run.json").read_text())
    assert record["data"]["images"] == 36
    assert record["data"]["excluded"] == ["birch/ash.png"]
    assert record["data"]["relabelled"] == [{"image": "birch/turned.png", "from": "birch", "to": "ash"}]
    said = "1 image left out, 1 label changed"
    assert said in Path("runs/photos-2/README.md").read_text()
    assert said in Path("runs/photos-2/report.html").read_text()
    images = parquet.read_table("runs/photos-2/images.parquet").to_pylist()
    assert {row["image"]: row["label"] for row in images}["birch/turned.png"] == "ash"
    assert "birch/ash.png" not in {row["image"] for row in images}
    assert "birch/ash.png" not in topwork("check", photos, "--exclude", "filled.csv", "--json").out
    answer = topwork("train", photos, "--exclude", "filled.csv", "--exclude", "none.csv")
    assert answer.status == 1
    assert "There is no file 'none.csv'" in answer.err
