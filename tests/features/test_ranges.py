"""Grey pictures with more than 8 bits: the range that a set uses is found, said, kept, and used everywhere."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import topwork as tw
from helpers import make_photos
from topwork.data.decoding import digest_of, read_image
from topwork.errors import BadImageError, OptionError
from topwork.features.ranges import find_range

Topwork = Callable[..., Any]


def deepen(folder: Path, to: Path, bits: int) -> Path:
    """The photographs in grey, each of its values as one of a detector with so many bits, in 16-bit files."""
    for path in sorted(folder.rglob("*.*")):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        target = to / path.relative_to(folder).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey << (bits - 8)).save(target)
    return to


def as_dataset(values: np.ndarray) -> tw.ImageDataset:
    """Four pictures of these values, of two classes."""
    images = [Image.fromarray(values) for _ in range(4)]
    return tw.ImageDataset.from_arrays(images, ["a", "b", "a", "b"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 4095, 10_000), (0, 4095)),
        (np.r_[np.linspace(0, 4000, 9_900), np.full(100, 4095)], (0, 4095)),  # overexposed in part
        (np.linspace(0, 1000, 10_000), (0, 1023)),
        (np.linspace(0, 200, 10_000), (0, 255)),
        (np.linspace(0, 65_535, 10_000), None),
        (np.r_[np.linspace(0, 4000, 9_995), np.full(5, 65_535)], (0, 4095)),  # a few hot pixels
        (np.linspace(7000, 9000, 10_000), (7000, 9000)),  # a thermal camera's
        (np.linspace(30_000, 34_000, 10_000), (30_000, 34_000)),
    ],
)
def test_whole_numbers(values: np.ndarray, expected: Any) -> None:
    assert find_range(as_dataset(values.astype(np.uint16).reshape(100, 100))) == expected


def test_fractions_negative_and_large_numbers() -> None:
    random = np.random.default_rng(0)
    assert find_range(as_dataset(random.random((100, 100), np.float32))) == (0, 1)
    low, high = find_range(as_dataset(random.normal(-500, 100, (100, 100)).astype(np.float32))) or (0, 0)
    assert low == pytest.approx(-810, abs=40)
    assert high == pytest.approx(-190, abs=40)
    low, high = find_range(as_dataset(random.integers(0, 2**24, (100, 100), np.int32))) or (0, 0)
    assert (low, high) == pytest.approx((16_800, 16_760_000), rel=0.1)
    assert find_range(as_dataset(np.full((9, 9), 300, np.uint16))) == (0, 511)
    assert find_range(as_dataset(np.full((9, 9), np.nan, np.float32))) is None
    assert find_range(tw.ImageDataset.from_name("digits")) is None


def test_unsigned_whole_numbers_of_32_bits(tmp_path: Path) -> None:
    """Pillow reads what is above 2^31 - 1 as negative numbers."""
    values = np.linspace(0, 4e9, 64).reshape(8, 8).astype("<u4")
    Image.fromarray(values.view("<i4")).save(tmp_path / "0.tif")
    signed, unsigned = (struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1))  # the tag of the numbers' kind
    content = (tmp_path / "0.tif").read_bytes()
    assert content.count(signed) == 1
    (tmp_path / "0.tif").write_bytes(content.replace(signed, unsigned))
    found = np.asarray(read_image(tmp_path / "0.tif", "x", value_range=(0, 4e9)))[..., 0]
    assert np.all(np.diff(found.ravel().astype(int)) >= 0)
    assert (found[0, 0], found[-1, -1]) == (0, 255)
    assert find_range(tw.ImageDataset.from_arrays([Image.open(tmp_path / "0.tif")] * 2, ["a", "b"])) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["I;16", "I;16B", "I", "F"]),
    st.sampled_from([None, (0, 4095), (0, 255), (-1000.0, 3000.0), (0.0, 1.0), (0, 65_535)]),
    st.integers(0, 2**32 - 1),
)
def test_pixels_are_those_of_an_independent_conversion(mode: str, value_range: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 2 ** int(random.integers(1, 17)), (5, 7))
    image = Image.fromarray(values.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]))
    if mode == "F" and value_range is None:
        with pytest.raises(BadImageError, match="no fixed range"):
            read_image(image, "x")
        return
    found = np.asarray(read_image(image, "x", value_range=value_range))
    low, high = value_range or (0, 65_535)
    for value, pixel in zip(values.ravel().tolist(), found.reshape(-1, 3).tolist(), strict=True):
        if value_range in (None, (0, 65_535)):
            level = value >> 8
        elif value_range in ((0, 4095), (0, 255)):
            level = min(255, (value * 256) // (high + 1))
        else:
            level = int(max(0, min(255, (value - low) * 255.999 / (high - low))))
        assert pixel == [level] * 3


def test_images_that_are_not_numbers_or_have_other_values_differ(tmp_path: Path) -> None:
    broken = np.zeros((4, 4), np.float32)
    broken[0, 0] = np.nan
    with pytest.raises(BadImageError, match="not finite"):
        read_image(Image.fromarray(broken), "x", value_range=(0, 1))
    one, other = (Image.fromarray(np.full((4, 4), value, np.float32)) for value in (0.1, 0.2))
    assert digest_of(one) != digest_of(other)


def test_a_12_bit_set_is_answered_as_its_8_bit_original(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    deep = deepen(photos, tmp_path / "deep", 12)
    plain = deepen(photos, tmp_path / "plain", 8)
    trained = topwork("train", deep, "--out", "run", "--size", "32", "--no-check")
    assert trained.status == 0, trained.err
    assert "their values 0 to 4,095 become black to white" in trained.err
    assert "--range 0,4095" in trained.err
    manifest = json.loads(Path("run/classifier/manifest.json").read_text())
    assert manifest["backbone"]["value_range"] == [0, 4095]
    assert manifest["format_version"] == 2  # an older Topwork refuses it
    topwork("train", plain, "--out", "eight", "--size", "32", "--no-check")
    answers = [
        json.loads(topwork("predict", run, folder / "ash" / "0.png", "--format", "jsonl").out)
        for run, folder in (("run", deep), ("eight", plain))
    ]
    assert answers[0]["class"] == answers[1]["class"]
    assert answers[0]["probability"] == pytest.approx(answers[1]["probability"], abs=0.02)  # other folds
    features = [
        tw.extract_features(
            tw.ImageDataset.from_directory(folder), tw.load_backbone("starter", size=32, value_range=value_range)
        ).values
        for folder, value_range in ((deep, (0, 4095)), (plain, (0, 255)))
    ]
    assert np.array_equal(*features)

    assert topwork("check", deep, "--size", "32").status == 0
    assert (
        topwork("evaluate", "run", deepen(make_photos(tmp_path / "o", n=4, seed=900), tmp_path / "other", 12)).status
        == 0
    )
    assert topwork("explain", "run", deep / "ash" / "0.png").status == 0
    assert topwork("export", "run", "--to", "onnx").status == 0
    program = [
        sys.executable,
        "run/exports/onnx/use.py",
        str(deep / "ash" / "0.png"),
        "none.png",
        str(deep / "birch" / "0.png"),
    ]
    said = subprocess.run(program, capture_output=True, text=True)
    assert said.returncode == 1
    lines = said.stdout.splitlines()
    assert len(lines) == 3
    assert " ash " in lines[0]
    assert "none.png  can't be read" in lines[1]
    assert " birch " in lines[2]
    assert "1 of 3 pictures can't be read" in said.stderr


def test_the_range_may_be_given(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    deep = deepen(photos, tmp_path / "deep", 12)
    given = topwork("train", deep, "--range", "0,1023", "--size", "32", "--out", "run", "--no-check")
    assert given.status == 0, given.err
    assert "black to white" not in given.err
    assert json.loads(Path("run/classifier/manifest.json").read_text())["backbone"]["value_range"] == [0, 1023]
    for wrong in ("4095", "5,5", "a,b", "1,nan", ""):
        refused = topwork("train", deep, "--range", wrong)
        assert refused.status == 2
        assert "Expected two rising numbers, such as 0,4095" in refused.err
    with pytest.raises(OptionError, match="two rising numbers"):
        tw.load_backbone("starter", value_range=(1, 1))
