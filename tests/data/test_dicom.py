"""DICOM pictures: windows, small values that are bright, slopes, frames, colour, damage, and no pydicom."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import COLOURS, make_photo
from helpers import encoded_dicom as encoded
from topwork.data.decoding import picture_size, read_image
from topwork.errors import BadImageError
from topwork.features.ranges import find_range

pydicom = pytest.importorskip("pydicom")
Topwork = Callable[..., Any]
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def grey(content: bytes, **options: Any) -> np.ndarray:
    return np.asarray(read_image(content, "scan", **options))[..., 0].astype(int)


def test_a_window_becomes_black_to_white() -> None:
    found = grey(encoded(RAMP, WindowCenter=1000, WindowWidth=401))
    expected = np.clip((RAMP.astype(float) - 799.5) / 400, 0, 1) * 255
    assert np.abs(found - expected).max() <= 0.51
    several = grey(encoded(RAMP, WindowCenter=[1000, 2000], WindowWidth=[401, 100]))
    assert np.array_equal(several, found)


def test_small_values_are_bright_in_monochrome1() -> None:
    plain, turned = (
        grey(encoded(RAMP, kind, WindowCenter=2048, WindowWidth=4096)) for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert np.abs(255 - plain - turned).max() <= 1
    deep = grey(encoded(RAMP, "MONOCHROME1"), value_range=(0, 4095))
    assert (deep[0, 0], deep[-1, -1]) == (255, 0)


def test_slope_and_intercept_come_before_the_window() -> None:
    """As of a CT: stored from 0 on, in Hounsfield units from -1024 on."""
    content = encoded(RAMP, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    assert np.array_equal(grey(content), grey(encoded(RAMP, WindowCenter=1064, WindowWidth=400)))


def test_without_a_window_the_range_of_the_set_counts() -> None:
    content = encoded(RAMP)
    dataset = tw.ImageDataset.from_arrays([content] * 4, ["a", "b", "a", "b"])
    assert find_range(dataset) == (0, 4095)
    assert np.array_equal(grey(content, value_range=(0, 4095)), RAMP >> 4)
    signed = encoded((RAMP.astype(np.int16) - 2048), bits=16)
    assert grey(signed, value_range=(-2048, 2047))[0, 0] == 0
    assert np.array_equal(grey(encoded((RAMP >> 4).astype(np.uint8), bits=8)), RAMP >> 4)


def test_the_first_frame_and_colour() -> None:
    frames = np.stack([RAMP, RAMP[::-1]])
    first = grey(encoded(frames, NumberOfFrames=2, WindowCenter=2048, WindowWidth=4096))
    assert np.array_equal(first, grey(encoded(RAMP, WindowCenter=2048, WindowWidth=4096)))
    colours = np.asarray(make_photo((200, 30, 40), 0, (40, 30)))
    content = encoded(colours, "RGB", bits=8)
    assert np.array_equal(np.asarray(read_image(content, "scan")), colours)
    assert picture_size(content) == (40, 30)


def test_damage_is_one_sentence_and_large_heads_are_refused() -> None:
    content, random = encoded(RAMP, WindowCenter=1000, WindowWidth=401), np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(content[: random.integers(133, len(content))])
        for place in random.integers(132, len(changed), 4):
            changed[place] = random.integers(256)
        with contextlib.suppress(BadImageError):
            read_image(bytes(changed), "scan", max_pixels=10_000_000)
    with pytest.raises(BadImageError, match="decompression bomb"):
        read_image(content, "scan", max_pixels=100)


def test_from_a_folder_to_answers(topwork: Topwork, tmp_path: Path) -> None:
    for k, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.asarray(make_photo(colour, 1000 * k + i).convert("L")).astype(np.uint16) << 4
            (tmp_path / "scans" / name / f"{i}.dcm").write_bytes(encoded(pixels))
    trained = topwork("train", tmp_path / "scans", "--out", tmp_path / "run")
    assert trained.status == 0, trained.err
    assert "their values 0 to 4,095 become black to white" in trained.err
    assert topwork("predict", tmp_path / "run", tmp_path / "scans").status == 0


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(BadImageError, match=r"pip install 'topwork\[dicom\]'"):
        read_image(content, "scan")
