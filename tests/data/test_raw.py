"""Raw files of cameras: developed by LibRaw, named without it, and no picture of their thumbnails."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import COLOURS, encoded_dng, make_photo
from topwork.data.decoding import has_8_bits, has_several_frames, picture_size, quiet_pillow, read_image
from topwork.data.raw import raw_kind
from topwork.errors import BadImageError

rawpy = pytest.importorskip("rawpy")
Topwork = Callable[..., Any]


def photo(kind: str, seed: int) -> np.ndarray:
    return np.asarray(make_photo(COLOURS[kind], seed, size=(120, 90)))


def test_a_raw_file_is_developed_and_upright() -> None:
    content = encoded_dng(photo("ash", 0))
    found = np.asarray(read_image(content, "raw"))
    assert found.shape == (90, 120, 3)
    assert picture_size(content) == (120, 90)
    assert has_8_bits(content)
    assert not has_several_frames(content)
    middle = found[30:60, 40:80].reshape(-1, 3).mean(axis=0)
    assert middle[0] > middle[1]  # ash is drawn in red
    assert middle[0] > middle[2]
    assert read_image(content, "raw", at_least=40).size == (60, 45)
    turned = encoded_dng(photo("ash", 0), orientation=6)
    assert picture_size(turned) == read_image(turned, "raw").size == (90, 120)
    with pytest.raises(BadImageError, match="refused as a decompression bomb"):
        read_image(content, "raw", max_pixels=1000)


def camera_tiff(maker: bytes, *, order: str = "<") -> bytes:
    """How a Nikon's or a Sony's file begins: a thumbnail, and the sensor's values in a sub-picture."""
    entries = [(256, 3, 1, 8), (271, 2, len(maker), 100), (330, 4, 1, 200)]
    packed = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries)) + packed
    return head.ljust(100, b"\0") + maker.ljust(200, b"\0")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (camera_tiff(b"NIKON CORPORATION"), "NEF"),
        (camera_tiff(b"Sony", order=">"), "ARW"),
        (camera_tiff(b"Pentax"), "PEF"),
        (camera_tiff(b"A scanner"), ""),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "CR2"),
        (b"\0\0\0\x18ftypcrx " + bytes(100), "CR3"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "RAF"),
        (b"IIRO\x08\0\0\0" + bytes(100), "ORF"),
        (b"IIU\0\x08\0\0\0" + bytes(100), "RW2"),
        (b"II*\0\xff\xff\xff\xff", ""),
        (b"", ""),
    ],
)
def test_formats_are_told_by_their_bytes(content: bytes, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert raw_kind(io.BytesIO(content)) == kind
    if kind:
        with pytest.raises(BadImageError, match=rf"a camera's raw file \({kind}\) that can't be read"):
            read_image(content, "raw")
        monkeypatch.setitem(sys.modules, "rawpy", None)
        with pytest.raises(
            BadImageError, match=rf"raw file \({kind}\), which needs rawpy: pip install 'topwork\[raw\]'"
        ):
            read_image(content, "raw")


def test_damaged_raw_files_are_named() -> None:
    content = encoded_dng(photo("ash", 0))
    start = struct.unpack("<I", content[4:8])[0]
    for broken in (content[:start], content[: start + 100], content[:start] + b"\xff" * 400):
        with quiet_pillow(), pytest.raises(BadImageError):
            read_image(broken, "raw")


def test_raw_files_are_trained_on_answered_and_exported(topwork: Topwork, tmp_path: Path) -> None:
    for kind in COLOURS:
        (tmp_path / "set" / kind).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "set" / kind / f"{i}.DNG").write_bytes(encoded_dng(photo(kind, i)))
        make_photo(COLOURS[kind], 0, size=(120, 90)).save(tmp_path / "set" / kind / "0.jpg")
    answer = topwork("train", "set", "--size", "32", "--no-check", "--out", "run")
    assert answer.status == 0, answer.err
    assert "3 raw files of cameras, each beside a picture of the same name: left out" in " ".join(answer.err.split())
    assert "24 images of 3 classes" in answer.err
    exported = topwork("export", "run", "--to", "openvino", "--quiet")
    assert exported.status == 0, exported.err
    answers = topwork("predict", "run", "set/ash/1.DNG", "set/birch/1.DNG")
    assert answers.status == 0, answers.err
