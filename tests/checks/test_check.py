"""Planted faults are found, sound data is left in peace, and the command says what was found."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import topwork as tw
from helpers import COLOURS, make_photo, make_photos
from topwork.checks.labels import find_label_issues

Topwork = Callable[..., object]


@pytest.fixture
def starter() -> tw.Backbone:
    return tw.load_backbone("starter")


def test_turned_labels_of_digits_are_found(starter: tw.Backbone) -> None:
    """2 % of scikit-learn's digits under another name: most are named, and few others."""
    dataset = tw.ImageDataset.from_name("digits")
    random = np.random.default_rng(0)
    labels = dataset.labels.copy()
    turned = random.choice(len(labels), 36, replace=False)
    labels[turned] = (labels[turned] + random.integers(1, 10, 36)) % 10
    images = list(dataset.source.payloads(dataset.rows))
    found = tw.check_dataset(tw.ImageDataset.from_arrays(images, labels, class_names=dataset.class_names), starter)
    hits = np.isin(found.label_issues.indices, turned)
    assert hits.sum() >= 0.65 * len(turned)
    assert hits.mean() >= 0.9
    right = dataset.labels[found.label_issues.indices[hits]] == found.label_issues.suggested[hits]
    assert right.mean() > 0.9


def test_no_labels_are_doubted_where_they_follow_their_probabilities() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(5, 0.3), 20_000)
    labels = (random.random(20_000)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    assert len(find_label_issues(np.minimum(labels, 4), probabilities).indices) < 10


def smooth_photos(folder: Path, n: int, seed: int = 0) -> Path:
    """Photographs of sorts without their noise, which no re-encoding would keep."""
    for path in make_photos(folder, n=n, seed=seed).rglob("*.*"):
        Image.open(path).filter(ImageFilter.GaussianBlur(2)).save(path, quality=95)
    return folder


def test_copies_are_found_however_they_were_made(tmp_path: Path, starter: tw.Backbone) -> None:
    photos = smooth_photos(tmp_path / "photos", n=30)
    original = Image.open(photos / "ash" / "0.png").convert("RGB")
    (photos / "ash" / "same.png").write_bytes((photos / "ash" / "0.png").read_bytes())
    original.save(photos / "ash" / "encoded.jpg", quality=80)
    original.resize((36, 30)).save(photos / "birch" / "small.png")
    found = tw.check_dataset(tw.ImageDataset.from_directory(photos), starter)
    names = [Path(name).name for name in found.names]
    pairs = [{names[i] for i in pair} for pair in found.copies.pairs]
    with_original = set().union(*(pair for pair in pairs if "0.png" in pair))
    assert {"same.png", "encoded.jpg", "small.png"} <= with_original
    assert found.copies.is_exact.sum() == 1
    assert len(found.contradictions) >= 1  # ash, and birch
    assert found.summary()["pairs_across_splits"] == 0  # there is no split


def test_copies_have_equal_pixels_and_each_pair_is_counted_once(tmp_path: Path, starter: tw.Backbone) -> None:
    photos = smooth_photos(tmp_path / "photos", n=30)
    jpeg = photos / "ash" / "1.jpg"
    Image.open(jpeg).save(photos / "ash" / "without-loss.png")
    for name in ("again", "and-again"):
        (photos / "birch" / f"{name}.jpg").write_bytes(jpeg.read_bytes())
    Image.open(jpeg).save(photos / "ash" / "smaller.jpg", quality=60)
    found = tw.check_dataset(tw.ImageDataset.from_directory(photos), starter)
    originals = ("ash/1.jpg", "ash/without-loss.png", "birch/again.jpg", "birch/and-again.jpg", "ash/smaller.jpg")
    pairs = {
        tuple(found.names[i] for i in pair): bool(is_exact)
        for pair, is_exact in zip(found.copies.pairs, found.copies.is_exact, strict=True)
        if {found.names[i] for i in pair} <= set(originals)
    }
    assert pairs == {
        ("ash/1.jpg", "birch/again.jpg"): True,
        ("ash/1.jpg", "birch/and-again.jpg"): True,
        ("ash/1.jpg", "ash/without-loss.png"): True,
        ("ash/1.jpg", "ash/smaller.jpg"): False,
        ("ash/smaller.jpg", "ash/without-loss.png"): False,
    }
    assert found.summary()["copies"] == 3
    rows = [row for row in found.findings() if row["finding"] in ("copy", "near copy")]
    assert [row["detail"] for row in rows[:2]] == ["the same picture as ash/1.jpg, which is labelled ash"] * 2
    assert {row["other_image"] for row in rows[:2]} == {"ash/1.jpg"}
    assert [row["finding"] for row in rows[:4]] == ["copy", "copy", "copy", "near copy"]  # the worst first


def test_copies_of_real_images_are_found(shared_data: Path, starter: tw.Backbone) -> None:
    """Of 2,000 CIFAR-10 images, forty come again: re-encoded, shrunk, mirrored."""
    whole = tw.ImageDataset.load(shared_data / "cifar10-jpeg.parquet")
    part = whole.select(np.arange(0, 60_000, 30))
    images = list(part.source.payloads(part.rows))
    for i in range(40):
        image = Image.open(io.BytesIO(images[i])).convert("RGB")
        image = (image, image.resize((24, 24)), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))[i % 3]
        file = io.BytesIO()
        image.save(file, "JPEG", quality=75)
        images.append(file.getvalue())
    labels = np.concatenate([part.labels, part.labels[:40]])
    found = tw.check_dataset(tw.ImageDataset.from_arrays(images, labels, class_names=whole.class_names), starter)
    pairs = {tuple(pair) for pair in found.copies.pairs.tolist()}
    assert sum((i, 2000 + i) in pairs for i in range(40)) >= 38
    assert len(pairs) < 60


def test_sound_images_raise_no_alarm(tmp_path: Path, starter: tw.Backbone) -> None:
    found = tw.check_dataset(tw.ImageDataset.from_directory(make_photos(tmp_path / "photos", n=40)), starter)
    assert found.summary() | {"share_of_small_images": 0} == {
        "images": 120,
        "unreadable": 0,
        "copies": 0,
        "near_copies": 0,
        "pairs_across_splits": 0,
        "pairs_with_two_labels": 0,
        "probable_label_errors": 0,
        "strange": 0,
        "groups_in_several_splits": 0,
        "imbalance": 1.0,
        "share_of_small_images": 0,
        "share_of_cut_images": 0.0,
        "images_with_several_frames": 0,
        "images_looked_at_for_frames": 120,
    }


def test_a_strange_image_is_named(tmp_path: Path, starter: tw.Backbone) -> None:
    photos = make_photos(tmp_path / "photos", n=60)
    Image.new("RGB", (48, 40), (255, 255, 255)).save(photos / "ash" / "white.png")
    found = tw.check_dataset(tw.ImageDataset.from_directory(photos), starter)
    assert Path(found.names[found.strange[0]]).name == "white.png"
    assert len(found.strange) <= 3


def test_the_command_shows_five_and_lists_all(topwork: Topwork, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=30)
    for i in range(7):
        (photos / "ash" / f"copy{i}.png").write_bytes((photos / "ash" / f"{2 * i}.png").read_bytes())
    (photos / "birch" / "broken.jpg").write_bytes(b"no image")
    answer = topwork("check", photos, "--out", "findings.csv")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    out = answer.out  # type: ignore[attr-defined]
    assert "Pairs of copies (equal bytes, or equal pixels): 7" in out
    assert "… and 2 more" in out
    assert "broken.jpg (birch): not a JPEG" in out
    assert "Classes: birch has 30 images, ash 37" in out
    rows = list(csv.DictReader((tmp_path / "findings.csv").read_text().splitlines()))
    assert sum(row["finding"] == "copy" for row in rows) == 7
    as_json = json.loads(topwork("check", photos, "--json", "--quiet").out)  # type: ignore[attr-defined]
    assert as_json["copies"] == 7
    assert len(as_json["findings"]) == len(rows)


def test_train_warns_of_near_copies_in_two_folds(topwork: Topwork, tmp_path: Path) -> None:
    photos = smooth_photos(tmp_path / "photos", n=30)
    for i, file in enumerate(sorted((photos / "ash").iterdir())[:8]):
        image = Image.open(file)
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(photos / "ash" / f"small{i}.png")
    answer = topwork("train", photos)
    assert "in another fold of the cross-validation too, as copies or near copies" in answer.err  # type: ignore[attr-defined]
    assert "across folds" in answer.out  # type: ignore[attr-defined]
    assert "one is in fold " in (tmp_path / "runs" / "photos-1" / "findings.csv").read_text()


def test_train_warns_of_copies_across_a_split_that_the_data_brings(topwork: Topwork, tmp_path: Path) -> None:
    smooth_photos(tmp_path / "set" / "train", n=30)
    smooth_photos(tmp_path / "set" / "test", n=15, seed=5000)
    Image.open(tmp_path / "set" / "train" / "ash" / "0.png").save(
        tmp_path / "set" / "test" / "ash" / "leak.webp", quality=95
    )
    answer = topwork("train", tmp_path / "set")
    assert "in training or validation too, as copies or near copies" in answer.err  # type: ignore[attr-defined]
    assert "Test accuracy may be too high by up to" in answer.err  # type: ignore[attr-defined]
    assert "across splits" in answer.out  # type: ignore[attr-defined]
    page = (tmp_path / "runs" / "set-1" / "report.html").read_text("utf-8")
    assert "two splits" in page
    assert "leak.webp" in (tmp_path / "runs" / "set-1" / "findings.csv").read_text("utf-8")
    unchecked = topwork("train", tmp_path / "set", "--no-check", "--json", "--quiet")
    assert json.loads(unchecked.out)["data"] is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("n", [3, 5, 8])
def test_few_images_are_checked_as_far_as_they_go(starter: tw.Backbone, n: int) -> None:
    images = [make_photo(colour, 10 * i + k) for k, colour in enumerate(COLOURS.values()) for i in range(n)]
    found = tw.check_dataset(tw.ImageDataset.from_arrays(images, np.repeat(["a", "b", "c"], n)), starter)
    assert found.summary()["probable_label_errors"] == 0


def test_one_class_and_no_folder(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "one", classes=("ash",))
    answer = topwork("check", tmp_path / "one")
    assert answer.status == 1  # type: ignore[attr-defined]
    assert "needs two at least" in answer.err  # type: ignore[attr-defined]
    assert topwork("check", tmp_path / "nowhere").status == 1  # type: ignore[attr-defined]


def test_many_copies_of_one_picture_are_all_found(starter: tw.Backbone) -> None:
    random = np.random.default_rng(0)
    base = [make_photo(tuple(random.integers(0, 255, 3)), i).filter(ImageFilter.GaussianBlur(2)) for i in range(60)]
    copies = []
    for quality in range(60, 90):
        file = io.BytesIO()
        base[0].save(file, "JPEG", quality=quality)
        copies.append(file.getvalue())
    images = [*base, *copies]
    found = tw.check_dataset(tw.ImageDataset.from_arrays(images, np.arange(len(images)) % 2), starter)
    named = {i for pair in found.copies.pairs.tolist() for i in pair}
    assert {0, *range(60, 90)} <= named


def test_a_thousand_equal_pictures_take_no_time(starter: tw.Backbone) -> None:
    pages = np.full((1500, 16, 16, 3), 255, np.uint8)
    pages[:, 0, 0, 0] = np.arange(1500) % 250  # not byte for byte
    found = tw.check_dataset(tw.ImageDataset.from_arrays(pages, np.arange(1500) % 2), starter)
    assert found.summary()["probable_label_errors"] == 0
    assert len(found.copies.pairs) < 20 * 1500 + 1500


def test_unreadable_images_are_no_copies(tmp_path: Path, starter: tw.Backbone) -> None:
    photos = make_photos(tmp_path / "photos", n=30)
    for name in ("ash", "birch"):
        (photos / name / "empty.jpg").write_bytes(b"")
    found = tw.check_dataset(tw.ImageDataset.from_directory(photos), starter)
    assert found.summary()["unreadable"] == 2
    assert found.summary()["copies"] == 0


def test_leaks_through_a_third_copy_are_counted_and_the_pair_shown_is_one(starter: tw.Backbone) -> None:
    images = [
        make_photo(colour, i).filter(ImageFilter.GaussianBlur(2)) for i in range(20) for colour in COLOURS.values()
    ]
    images = [*images, images[0], images[0], images[5]]
    sides = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10 + ["test", "test", "validation"])
    labels = np.array([i % 3 for i in range(60)] + [0, 0, 2])
    found = tw.check_dataset(tw.ImageDataset.from_arrays(images, labels, splits=sides), starter)
    assert {60, 61} <= set(found.leaked_tests.tolist())
    for place in found.leaks:
        assert (found.splits[found.copies.pairs[place]] == "test").sum() == 1


@pytest.mark.parametrize("seed", range(3))
def test_small_clean_sets_raise_few_issues(seed: int) -> None:
    """100 examples of two overlapping classes in 256 dimensions: nothing is wrong with their labels."""
    from topwork.tops.cross_validation import out_of_sample_probabilities
    from topwork.tops.linear import FOLDS

    random = np.random.default_rng(seed)
    labels = np.arange(100) % 2
    X = random.normal(size=(100, 256)).astype(np.float32)
    X[:, :4] += 0.8 * labels[:, None]
    assert (
        len(
            find_label_issues(
                labels, out_of_sample_probabilities(X, labels, np.arange(len(labels)) // 7 % FOLDS)
            ).indices
        )
        <= 3
    )
