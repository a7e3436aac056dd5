"""Pictures that are no squares: what of them is seen is the user's choice, said, kept, and the same everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork as tw
from helpers import COLOURS, answers_elsewhere, make_photo
from topwork.data.decoding import read_square
from topwork.errors import OptionError
from topwork.recipe import PAD_COLOUR, Recipe
from topwork.types import Frame

Topwork = Callable[..., Any]


def make_strips(folder: Path, n: int = 16) -> Path:
    """`n` wide pictures a class, 256×64, whose object lies at their left or right end."""
    for k, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            noise = np.random.default_rng(1000 * k + i).normal(110, 25, (64, 256, 3))
            strip = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
            strip.paste(make_photo(colour, 1000 * k + i, (64, 64)), (192 * (i % 2), 0))
            strip.save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_strips(tmp_path_factory.mktemp("strips") / "strips")


def test_what_each_frame_shows() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :10], pixels[:, -10:] = 200, 100
    crop, pad, squash = (read_square(pixels, Recipe(40, frame=frame), "x") for frame in ("crop", "pad", "squash"))
    assert not crop.any()
    assert np.all(squash[:, :8] == 200)
    assert np.all(squash[:, -8:] == 100)
    assert np.all(pad[:10] == PAD_COLOUR)
    assert np.all(pad[-10:] == PAD_COLOUR)
    assert np.array_equal(pad[10:30], pixels)


def test_part_of_a_square() -> None:
    """As others say it: resized to 256, and the centre 224 of it; here it is cut first, and resized once."""
    photo = make_photo((190, 60, 40), 0, (640, 512))
    resized = photo.resize((320, 256), Image.Resampling.BICUBIC).crop((48, 16, 272, 240))
    ours = read_square(photo, Recipe(224, crop=0.875), "x")
    assert np.abs(ours.astype(int) - np.asarray(resized)).mean() < 2
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    seen = read_square(pixels, Recipe(8, crop=0.5), "x")  # a picture that has the input's size is cut all the same
    assert np.array_equal(seen, Image.fromarray(pixels[2:6, 2:6]).resize((8, 8), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frame": "stretch"}, "Expected frame to be one of crop, pad, squash; got 'stretch'"),
        ({"crop": 0.05}, "Expected crop to be a part of the side in 0.1 to 1"),
        ({"filter": "nearest"}, "Expected filter to be one of bicubic, bilinear"),
    ],
)
def test_wrong_values_are_said(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Recipe(64, **wrong)


def test_wide_pictures_lose_their_object_to_the_crop_and_a_frame_keeps_it(
    topwork: Topwork, strips: Path, tmp_path: Path
) -> None:
    right = {}
    for frame in ("crop", "pad", "squash"):
        out = tmp_path / frame
        result = topwork("train", strips, "--frame", frame, "--json", "-q", "--out", out)
        right[frame] = json.loads(result.out)["test"]["accuracy"]["value"]
    assert right["crop"] < 0.7
    assert min(right["pad"], right["squash"]) > 0.9
    answers = topwork("predict", tmp_path / "squash", strips / "ash").out
    assert answers.count("ash") >= 15


def test_it_is_said_that_much_is_cut_away(topwork: Topwork, strips: Path, tmp_path: Path) -> None:
    remark = "Wide or tall pictures: of 100 % the backbone sees less than half"
    assert remark in topwork("check", strips).out
    assert remark in topwork("train", strips, "--out", tmp_path / "run").out
    assert remark not in topwork("check", strips, "--frame", "pad").out


@pytest.mark.parametrize("frame", ["pad", "squash"])
def test_a_frame_travels_with_the_classifier_and_its_exports(
    topwork: Topwork, strips: Path, tmp_path: Path, frame: Frame
) -> None:
    dataset = tw.ImageDataset.from_directory(strips)
    backbone = tw.load_backbone("starter", size=32, frame=frame)
    classifier = tw.fit_classifier(dataset, backbone, verbose=False)
    classifier.save(tmp_path / "classifier")
    images = sorted(strips.rglob("*.png"))[::6]
    expected = classifier.predict_proba(images)
    assert np.allclose(answers_elsewhere(tmp_path / "classifier", images), expected, atol=1e-6)
    assert json.loads((tmp_path / "classifier" / "manifest.json").read_text())["format_version"] == 3
    for form in ("openvino", "onnx", "keras"):
        tw.export_classifier(tw.load_classifier(tmp_path / "classifier"), form, tmp_path / form, images)


def test_a_classifier_without_a_frame_is_as_old_versions_read_it(strips: Path, tmp_path: Path) -> None:
    dataset = tw.ImageDataset.from_directory(strips)
    tw.fit_classifier(dataset, tw.load_backbone("starter", size=32), verbose=False).save(tmp_path / "classifier")
    manifest = json.loads((tmp_path / "classifier" / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert not {"frame", "crop", "filter"} & set(manifest["backbone"])
    for key, wrong in (("frame", "round"), ("crop", 0), ("crop", "half"), ("filter", 3)):
        broken = shutil.copytree(tmp_path / "classifier", tmp_path / "broken", dirs_exist_ok=True)
        changed = {**manifest, "format_version": 3, "backbone": {**manifest["backbone"], key: wrong}}
        (broken / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(tw.TopworkError, match=f"backbone.{key}"):
            tw.load_classifier(broken)
