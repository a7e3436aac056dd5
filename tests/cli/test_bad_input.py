"""What bad input gets: a clear message, a non-zero exit, nothing lost, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import make_photo, make_photos
from topwork.features import store

Topwork = Callable[..., object]


def refused(answer: object, *parts: str) -> None:
    """The command failed with one message that has all `parts`, and without a traceback."""
    assert answer.status != 0  # type: ignore[attr-defined]
    message = answer.err  # type: ignore[attr-defined]
    assert "Traceback" not in message
    for part in parts:
        assert part in message


def test_no_such_folder(topwork: Topwork) -> None:
    refused(topwork("train", "nowhere"), "There is no 'nowhere'", "folder with a sub-folder per class", "digits")


def test_a_file_that_is_no_table(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "x.doc").write_text("x")
    refused(topwork("train", "x.doc"), "'x.doc' is a file", "in .csv or .parquet")


def test_no_images_in_it(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "photos" / "ash").mkdir(parents=True)
    refused(topwork("train", "photos"), "There are no images in 'photos'", ".jpg")


def test_images_without_class_folders(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    make_photo((1, 2, 3), 0).save(tmp_path / "photos" / "a.png")
    refused(topwork("train", "photos"), "holds 1 image but no class folders", "one sub-folder per class")


def test_one_class_only(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", classes=("ash",))
    refused(topwork("train", "photos"), "one class, 'ash'", "needs two")


def test_one_image_only(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", n=1, classes=("ash",))
    refused(topwork("train", "photos"), "only one class, 'ash', with 1 image.", "needs two")


def test_a_folder_with_a_blank_name_is_to_be_renamed(topwork: Topwork, photos: Path) -> None:
    """The advice was --skip-unlabelled, which is refused for folders."""
    (photos / "ash").rename(photos / " ")
    answer = topwork("train", photos)
    refused(answer, "12 of 36 images have no label", "its folder has a blank name", "Give it another")
    assert "--skip-unlabelled" not in answer.err  # type: ignore[attr-defined]


def test_a_class_with_too_few_images_to_split(topwork: Topwork, photos: Path) -> None:
    for i in range(2, 12):
        (photos / "ash" / f"{i}.{'jpg' if i % 2 else 'png'}").unlink()
    refused(
        topwork("train", photos, "--test", "0.2"),
        "1 of 3 classes has too few images to split: 'ash' (2 images)",
        "--min-images 3",
    )
    assert topwork("train", photos, "--no-check").status == 0  # type: ignore[attr-defined]
    answer = topwork("train", photos, "--min-images", "3", "--no-check")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "the class 'ash' with fewer than 3 images, 2 in all, left out" in answer.err  # type: ignore[attr-defined]


def test_class_folders_that_differ_between_splits(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "train")
    make_photos(tmp_path / "set" / "test", seed=100)
    (tmp_path / "set" / "test" / "ash").rename(tmp_path / "set" / "test" / "fox")
    refused(topwork("train", "set"), "no training images of the class 'fox'", "--ignore-class fox")
    answer = topwork("train", "set", "--ignore-class", "fox", "--no-check")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "there is no test image of 'ash'" in answer.err  # type: ignore[attr-defined]


def spoil(photos: Path) -> None:
    """One each: zero bytes, text called an image, a cut JPEG."""
    (photos / "ash" / "zero.png").write_bytes(b"")
    (photos / "birch" / "mislabelled.jpg").write_text("this is a text")
    whole = (photos / "cedar" / "1.jpg").read_bytes()
    (photos / "cedar" / "cut.jpg").write_bytes(whole[: len(whole) // 2])


def test_unreadable_images_are_named_listed_and_skipped(topwork: Topwork, photos: Path) -> None:
    spoil(photos)
    answer = topwork("train", photos)
    assert answer.status == 0
    assert "3 images could not be read and were left out" in answer.out
    for name, reason in (
        ("ash/zero.png", "empty"),
        ("birch/mislabelled.jpg", "not a JPEG"),
        ("cedar/cut.jpg", "runcated"),
    ):
        assert name in answer.out
        assert reason in answer.out
    listed = json.loads(Path("runs/photos-1/run.json").read_text())["quarantined"]
    assert sorted(image["image"] for image in listed) == ["ash/zero.png", "birch/mislabelled.jpg", "cedar/cut.jpg"]


def test_an_image_under_a_wrong_suffix_is_read_all_the_same(topwork: Topwork, photos: Path) -> None:
    (photos / "ash" / "0.png").rename(photos / "ash" / "really a png.jpg")
    answer = topwork("train", photos)
    assert answer.status == 0
    assert "could not be read" not in answer.out


def test_stop_at_the_first_unreadable_image(topwork: Topwork, photos: Path) -> None:
    spoil(photos)
    refused(topwork("train", photos, "--on-bad-image", "stop"), "'ash/zero.png': the file is empty")
    assert list(Path("runs").iterdir()) == []


def test_more_than_a_tenth_bad_stops_and_says_so(topwork: Topwork, photos: Path) -> None:
    for i in range(8):
        (photos / "ash" / f"bad {i}.png").write_bytes(bytes([i]))
    refused(topwork("train", photos), "more than a tenth", "bad 0.png")


def test_decompression_bomb(topwork: Topwork, photos: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(photos / "ash" / "bomb.png")
    answer = topwork("train", photos)
    assert answer.status == 0
    assert "ash/bomb.png: more than 178,956,970 pixels; refused as a decompression bomb" in answer.out


def test_file_name_that_is_not_utf8(topwork: Topwork, photos: Path) -> None:
    try:
        make_photo((200, 60, 40), 5).save(photos / "ash" / "new.png")
        os.rename(os.fsencode(photos / "ash" / "new.png"), os.fsencode(photos / "ash") + b"/\xff\xfe.png")
        (photos / "birch" / os.fsdecode(b"bad \xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    answer = topwork("train", photos)
    assert answer.status == 0
    assert "birch/bad \\xe9.jpg: the file is empty" in answer.out
    predicted = topwork("predict", "runs/photos-1", photos / "ash")
    assert predicted.status == 0
    assert "\\xff\\xfe.png" in predicted.out


def test_unknown_backbone_gets_the_nearest_name(topwork: Topwork, photos: Path) -> None:
    answer = topwork("train", photos, "--backbone", "resnet5")
    refused(answer, "Unknown backbone 'resnet5'. Did you mean 'resnet50'?", "topwork backbones")


def test_size_below_the_smallest(topwork: Topwork, photos: Path) -> None:
    answer = topwork("train", photos, "--backbone", "inception_v3", "--weights", "random", "--size", "64")
    refused(answer, "inception_v3 can't take 64-pixel images", "--size 75 or more")


@pytest.fixture
def no_keras_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.mark.usefixtures("no_keras_cache", "own_cache")
def test_no_network_and_no_weights(topwork: Topwork, photos: Path) -> None:
    refused(
        topwork("train", photos, "--backbone", "densenet121"),
        "http://127.0.0.1:9/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5 could not be fetched",
        "put it at",
        "weights/densenet121/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "--backbone starter",
    )


@pytest.mark.usefixtures("no_keras_cache", "own_cache")
def test_offline_and_no_weights(topwork: Topwork, photos: Path) -> None:
    answer = topwork("train", photos, "--backbone", "densenet121", "--offline")
    refused(answer, "--offline forbids fetching", "put it at", "--backbone starter")


def test_no_such_weights_file(topwork: Topwork, photos: Path) -> None:
    answer = topwork("train", photos, "--backbone", "densenet121", "--weights", "mine.h5")
    refused(answer, "There is no weights file 'mine.h5'")


def test_weights_file_cut_short(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "whole.weights.h5", "w") as file:
        file["layers/x"] = np.zeros(100_000)
    (tmp_path / "cut.weights.h5").write_bytes((tmp_path / "whole.weights.h5").read_bytes()[:50_000])
    answer = topwork("train", photos, "--backbone", "mobilenet_v2", "--weights", "cut.weights.h5")
    refused(answer, "'cut.weights.h5' can't be used as weights of MobileNetV2", "Is the file whole")


def test_weights_of_another_network(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    import topwork as tw

    (tmp_path / "other.safetensors").write_bytes(tw.load_backbone("starter").weights.tensors.read_bytes())
    answer = topwork("train", photos, "--backbone", "mobilenet_v2", "--weights", "other.safetensors")
    refused(answer, "doesn't fit mobilenet", "Are these weights of another network?")


@pytest.mark.usefixtures("no_keras_cache")
def test_weights_with_a_wrong_checksum(topwork: Topwork, photos: Path, own_cache: Path) -> None:
    from topwork.backbones.cards import find_card
    from topwork.backbones.weights import pretrained_file

    path = pretrained_file(find_card("densenet121"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the weights")
    answer = topwork("train", photos, "--backbone", "densenet121")
    refused(answer, "has the checksum", "expected 30ee3e1110167f948a6b9946edeeb738", "Delete it and run again")


def test_label_column_that_is_not_there(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,species\na.png,x\n")
    answer = topwork("train", "t.csv", "--label-column", "specie")
    refused(answer, "no column 'specie'", "Did you mean 'species'?", "'path', 'species'")


def test_no_column_that_looks_like_a_label(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,kingdom\na.png,x\n")
    refused(topwork("train", "t.csv"), "no column that looks like the label", "--label-column")


def test_a_run_folder_that_is_none(topwork: Topwork, photos: Path) -> None:
    refused(topwork("predict", photos, photos / "ash" / "0.png"), "isn't a run folder", "topwork train")
    refused(topwork("predict", "runs/none", photos / "ash" / "0.png"), "There is no 'runs/none'")


def test_a_run_folder_by_a_newer_version(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "classifier"
    folder.mkdir(parents=True)
    manifest = {"format": "topwork-classifier", "format_version": 9, "topwork": "3.0"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    answer = topwork("predict", "run", photos / "ash" / "0.png")
    refused(answer, "written by a newer Topwork (3.0, format 9)", "Upgrade")


def test_a_run_folder_that_exists_already(topwork: Topwork, photos: Path) -> None:
    refused(topwork("train", photos, "--out", photos), "exists already")


@pytest.mark.usefixtures("own_cache")
def test_full_disk(topwork: Topwork, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    topwork("train", photos)  # the graph is there already
    store.prune()
    monkeypatch.setattr(os, "fsync", full)
    refused(topwork("train", photos), "the disk is full", "topwork cache", "is kept")
    monkeypatch.undo()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_really_full_disk(photos: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode:
        pytest.skip("this machine can't mount a small file system")
    try:
        command = [sys.executable, "-m", "topwork", "train", str(photos)]
        environment = {**os.environ, "TOPWORK_CACHE": str(disk)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "disk" in done.stderr


def test_ctrl_c_says_what_is_kept_and_the_next_run_goes_on_there(tmp_path: Path, own_cache: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(2000):
        folder = tmp_path / "photos" / f"class {i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    # a process started in the background ignores Ctrl-C: give it back its ears
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import topwork.__main__ as m; m.run()"
    )
    command = [sys.executable, "-c", code, "train", "photos", "--size", "256"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("Extracting features"):
                break
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
    assert child.returncode == 130
    assert "Traceback" not in rest
    assert "Interrupted. The features computed so far are kept" in rest
    (kept,) = (summary for summary in store.summaries() if summary.facts["view"] == "plain")
    assert 0 < kept.n_images < 2000
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n_extracted"] == 2000 - kept.n_images


def test_a_stray_folder_beside_train_and_test_is_named(topwork: Topwork, tmp_path: Path) -> None:
    for i, side in enumerate(("train", "test")):
        make_photos(tmp_path / "set" / side, n=8, seed=100 * i)
    make_photos(tmp_path / "set" / "masks", n=2, seed=900)
    refused(topwork("train", "set"), "'set' holds the folder 'masks' with images beside", "--ignore-class masks")
    assert topwork("train", "set", "--ignore-class", "masks").status == 0  # type: ignore[attr-defined]


def test_a_class_to_leave_out_that_is_not_there(topwork: Topwork, photos: Path) -> None:
    refused(
        topwork("train", photos, "--ignore-class", "ceder"), "no class 'ceder' to leave out", "Did you mean 'cedar'?"
    )


@pytest.mark.parametrize(
    ("side", "said"),
    [("test", ["Nothing would test", "--test cv"]), ("validation", ["There is no validation image", "above 0"])],
)
def test_a_side_of_nothing_is_refused_before_the_work(
    topwork: Topwork, photos: Path, own_cache: Path, side: str, said: list[str]
) -> None:
    refused(topwork("train", photos, f"--{side}", "0"), *said)
    assert store.summaries() == []


def test_column_that_is_there_twice(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,label\na.png,x,y\n")
    refused(topwork("train", "t.csv"), "2 columns called 'label'")


def test_cache_folder_that_is_a_file(topwork: Topwork, photos: Path, tmp_path: Path, monkeypatch: object) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "file"))  # type: ignore[attr-defined]
    refused(topwork("train", photos), "Error:", "file")


def test_run_folder_that_cannot_be_made_is_refused_before_the_work(
    topwork: Topwork, photos: Path, own_cache: Path
) -> None:
    refused(topwork("train", photos, "--out", photos / "ash" / "0.png" / "run"), "Can't write")
    assert store.summaries() == []


def test_folder_of_images_whose_name_is_not_utf8(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/ph\xff"
    try:
        os.rename(os.fsencode(photos), odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    answer = topwork("train", os.fsdecode(odd))
    assert answer.status == 0  # type: ignore[attr-defined]


@pytest.mark.usefixtures("own_cache")
def test_damaged_facts_of_the_store_are_made_again(topwork: Topwork, photos: Path) -> None:
    topwork("train", photos)
    (store.summaries()[0].folder / "facts.json").write_text("{")
    assert topwork("cache").status == 0  # type: ignore[attr-defined]
    assert topwork("train", photos).status == 0  # type: ignore[attr-defined]
    assert store.summaries()[0].n_images == 36


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "digits", "--seed", "-1"), "not in the range"),
        (("train", "digits", "--dropout", "0.5"), "--dropout is for Dense layers; add --top 256"),
        (("train", "digits", "--top", "big"), "Expected --top to be linear, or sizes"),
        (("train", "digits", "--top", "8", "--dropout", "1.5"), "dropout: 0 or more, below 1; got 1.5"),
        (("train", "digits", "--test", "2"), "test fraction in 0..0.9"),
        (("train", "digits", "--label-column", "x"), "--label-column x is for a table or an archive"),
        (("train", "digits", "--device", "gpu"), "JAX sees no accelerator"),
        (("train", "digits", "--backbone", "starter", "--weights", "imagenet"), "no ImageNet weights of starter"),
        (("cache", "--older-than", "3"), "go with --prune"),
        (("frobnicate",), "No such command"),
    ],
)
@pytest.mark.usefixtures("own_cache")
def test_options_that_make_no_sense(topwork: Topwork, arguments: tuple[str, ...], message: str) -> None:
    refused(topwork(*arguments), message)


def test_an_empty_name_is_not_the_current_folder(topwork: Topwork) -> None:
    refused(topwork("train", ""), "got an empty name")


def test_classes_one_folder_further_down(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    photos.rename(outer / "photos")
    refused(topwork("train", outer), "Are the classes further down? Then give", str(outer / "photos"))


def test_folders_that_may_not_be_meant_are_named(topwork: Topwork, photos: Path) -> None:
    (photos / "empty").mkdir()
    for inner in ("young", "old"):
        (photos / "ash" / inner).mkdir()
    (photos / "ash" / "0.png").rename(photos / "ash" / "young" / "0.png")
    (photos / "ash" / "2.png").rename(photos / "ash" / "old" / "2.png")
    answer = topwork("train", photos)
    assert answer.status == 0
    assert "empty' without images: left out" in answer.err
    assert "all count as its class: 'ash' (old, young)." in answer.err


def test_one_image_under_two_labels_is_named(topwork: Topwork, photos: Path) -> None:
    (photos / "birch" / "copy.png").write_bytes((photos / "ash" / "0.png").read_bytes())
    answer = topwork("train", photos)
    assert answer.status == 0
    assert "1 pair of copies or near copies with two labels" in answer.err
    assert "ash/0.png" in answer.err
    assert "birch/copy.png" in answer.err


def test_one_image_under_two_labels_is_named_without_the_check_too(topwork: Topwork, photos: Path) -> None:
    (photos / "birch" / "copy.png").write_bytes((photos / "ash" / "0.png").read_bytes())
    answer = topwork("train", photos, "--no-check")
    assert answer.status == 0
    assert "2 images are copies with different labels (such as 'ash/0.png')" in answer.err


def test_too_few_for_validation_is_said(topwork: Topwork, photos: Path) -> None:
    assert "images for validation: when to stop" in topwork("train", photos, "--top", "8", "--epochs", "2").err


def test_a_csv_with_semicolons(topwork: Topwork, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path;label\na.png;x\n")
    refused(topwork("train", "t.csv"), "separated by something else than commas")


def test_a_size_beyond_all_use(topwork: Topwork, photos: Path) -> None:
    refused(topwork("train", photos, "--size", "100000"), "2048 at most")


def test_fetching_the_starter_needs_nothing(topwork: Topwork) -> None:
    answer = topwork("backbones", "--fetch", "starter")
    assert answer.status == 0
    assert "starter.safetensors" in answer.out


def test_unknown_from_a_top_that_cannot_tell(photos: Path) -> None:
    from sklearn.naive_bayes import GaussianNB

    import topwork as tw

    classifier = tw.fit_classifier(tw.ImageDataset.from_directory(photos), top=GaussianNB(), verbose=False)
    with pytest.raises(tw.TopworkError, match="no detector of unknown images"):
        classifier.predict([photos / "ash" / "0.png"], unknown="unknown")


def test_training_that_diverges_says_so(topwork: Topwork, photos: Path) -> None:
    refused(topwork("train", photos, "--top", "16", "--learning-rate", "1e30"), "Training diverged", "--learning-rate")


def test_a_check_that_fails_loses_nothing(topwork: Topwork, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import topwork.runs.run as run
    from topwork.errors import TooManyBadImagesError

    def fail(*_: object, **__: object) -> None:
        raise TooManyBadImagesError("they vanished")

    monkeypatch.setattr(run, "check_dataset", fail)
    answer = topwork("train", photos)
    assert answer.status == 0
    assert "could not be checked: they vanished" in answer.err
    assert Path("runs/photos-1/report.html").exists()


def test_an_unknown_class_and_no_image_to_explain(topwork: Topwork, photos: Path) -> None:
    topwork("train", photos, "--no-check", "--quiet")
    refused(topwork("explain", "runs/photos-1", photos / "ash" / "0.png", "--class", "oak"), "knows no class 'oak'")
    refused(topwork("explain", "runs/photos-1", photos / "nothing.png"), "nothing.png")
    refused(topwork("explain", "nowhere", photos / "ash" / "0.png"), "There is no 'nowhere'")
