"""Files of several pages or frames: the first of each is used, and that is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import COLOURS, encoded_dicom, make_photo
from topwork.checks import check as check_module
from topwork.data.decoding import has_several_frames, quiet_pillow

Topwork = Callable[..., Any]
KINDS = {"pages.tif": "TIFF", "film.gif": "GIF", "film.png": "PNG", "film.webp": "WEBP", "film.avif": "AVIF"}


def add_films(photos: Path) -> None:
    """In the first class, one film of each kind."""
    for k, (name, form) in enumerate(KINDS.items()):
        first, *others = (make_photo(COLOURS["ash"], 900 + 10 * k + i) for i in range(3))
        first.save(photos / "ash" / name, form, save_all=True, append_images=others)


def test_train_and_check_count_them(topwork: Topwork, photos: Path) -> None:
    for answer in (topwork("train", photos, "--size", "32"), topwork("check", photos, "--size", "32")):
        assert "several pages or frames" not in answer.out
    add_films(photos)
    remark = "5 images have several pages or frames; the first of each is used"
    trained = topwork("train", photos, "--size", "32")
    assert remark in trained.out, trained.err
    assert remark in topwork("check", photos, "--size", "32").out
    found = json.loads(topwork("check", photos, "--size", "32", "--json").out)
    assert (found["images_with_several_frames"], found["images_looked_at_for_frames"]) == (5, 41)


def test_of_many_images_a_part_is_looked_at_and_that_is_said(
    topwork: Topwork, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "_FRAMES_LOOKED_AT", 20)
    for path in (photos / "ash").iterdir():
        path.unlink()
    for i in range(12):
        frames = [make_photo(COLOURS["ash"], 50 + 2 * i + k) for k in range(2)]
        frames[0].save(photos / "ash" / f"{i}.gif", save_all=True, append_images=frames[1:])
    assert "6 of 18 images looked at have several pages or frames" in topwork("check", photos, "--size", "32").out


def test_one_picture_is_not_several(tmp_path: Path) -> None:
    for name, form in {**KINDS, "photo.jpg": "JPEG", "photo.bmp": "BMP"}.items():
        make_photo((200, 90, 30), 1).save(tmp_path / name, form)
        assert not has_several_frames(tmp_path / name)
        with quiet_pillow():
            assert not has_several_frames((tmp_path / name).read_bytes()[:60])


def test_frames_of_a_scan_are_counted() -> None:
    pytest.importorskip("pydicom")
    frames = np.arange(3 * 64 * 64, dtype=np.uint16).reshape(3, 64, 64) % 4096
    assert has_several_frames(encoded_dicom(frames, NumberOfFrames=3))
    assert not has_several_frames(encoded_dicom(frames[0]))
    assert not has_several_frames(encoded_dicom(frames, NumberOfFrames=3)[:200])
