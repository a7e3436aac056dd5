"""Colour with 16 bits a channel follows the rule of grey: the values that the training images use become 0 to 255."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import COLOURS, make_photo
from topwork.data.decoding import deep_values, has_8_bits, read_image

Topwork = Callable[..., Any]


def encoded_png(values: np.ndarray, *, transparent: tuple[int, int, int] | None = None) -> bytes:
    """`(H, W, 3 | 4)` uint16 as a PNG, which Pillow can't write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, n = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[n], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    clear = chunk(b"tRNS", struct.pack(">HHH", *transparent)) if transparent else b""
    body = chunk(b"IHDR", head) + clear + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded_tiff(values: np.ndarray, order: str = "<", *, deflated: bool = False, orientation: int = 1) -> bytes:
    """`(H, W, 3 | 4)` uint16 as a TIFF with one strip."""
    height, width, n = values.shape
    strip = values.astype(f"{order}u2").tobytes()
    strip = zlib.compress(strip) if deflated else strip
    tags = [(256, width), (257, height), (258, None), (259, 8 if deflated else 1), (262, 2), (273, 8)]
    tags += [(274, orientation), (277, n), (278, height), (279, len(strip)), *([(338, 2)] if n == 4 else [])]
    place = 8 + len(strip)
    beyond = place + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, value in tags:
        kind, count, value = (3, n, beyond) if value is None else (4, 1, value)
        entries += struct.pack(f"{order}HHII", tag, kind, count, value)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + struct.pack(f"{order}{n}H", *[16] * n)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", place) + strip + directory


def in_12_bits(image: Image.Image) -> np.ndarray:
    """The same picture by a detector with 12 bits; the added 8 lies in the middle of each of its 256 levels."""
    return np.asarray(image).astype(np.uint16) * 16 + 8


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "PNG": encoded_png,
    "TIFF": encoded_tiff,
    "TIFF, upper byte first": lambda values: encoded_tiff(values, ">"),
    "TIFF, deflated": lambda values: encoded_tiff(values, deflated=True),
    "TIFF, upper byte first, deflated": lambda values: encoded_tiff(values, ">", deflated=True),
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_colour_with_12_bits_keeps_all_its_levels(encode: Callable[[np.ndarray], bytes]) -> None:
    photo = make_photo(COLOURS["ash"], 0)
    values = in_12_bits(photo)
    content = encode(values)
    assert not has_8_bits(content)
    found = deep_values(content, "image")
    assert found is not None
    assert np.array_equal(np.moveaxis(found, 0, -1), values)
    pixels = np.asarray(read_image(content, "image", value_range=(0, 4095)))
    assert np.array_equal(pixels, np.asarray(photo))
    upper = np.asarray(read_image(content, "image"))
    assert np.array_equal(upper, values >> 8)

    alpha = np.full((*values.shape[:2], 1), 0xFFFF, np.uint16)
    alpha[0, 0] = 0
    pixels = np.asarray(read_image(encode(np.dstack([values, alpha])), "image", value_range=(0, 4095)))
    expected = np.asarray(photo).copy()
    expected[0, 0] = 255
    assert np.array_equal(pixels, expected)


def test_turned_and_transparent_pictures_in_deep_colour() -> None:
    photo = make_photo(COLOURS["ash"], 0)
    values = in_12_bits(photo)
    turned = read_image(encoded_tiff(values, orientation=6), "image", value_range=(0, 4095))
    assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(photo), -1))
    values[3, 5] = values[3, 6] = (1, 2, 3)
    pixels = np.asarray(read_image(encoded_png(values, transparent=(1, 2, 3)), "image", value_range=(0, 4095)))
    white = np.all(pixels == 255, axis=-1)
    assert white[3, 5]
    assert white[3, 6]
    assert white.sum() == 2


def test_the_range_of_colour_is_found_said_kept_and_exported(topwork: Topwork, tmp_path: Path) -> None:
    for kind, colour in COLOURS.items():
        (tmp_path / "deep" / kind).mkdir(parents=True)
        (tmp_path / "plain" / kind).mkdir(parents=True)
        for i in range(12):
            photo = make_photo(colour, i)
            photo.save(tmp_path / "plain" / kind / f"{i}.png")
            encode = encoded_tiff if i % 2 else encoded_png
            (tmp_path / "deep" / kind / f"{i}.{'tif' if i % 2 else 'png'}").write_bytes(encode(in_12_bits(photo)))
    answer = topwork("train", "deep", "--size", "32", "--no-check", "--out", "run")
    assert answer.status == 0, answer.err
    assert "their values 0 to 4,095 become black to white" in answer.err
    exported = topwork("export", "run", "--to", "openvino", "--quiet")
    assert exported.status == 0, exported.err
    of_deep, of_plain = (
        [
            json.loads(line)["probability"]
            for line in topwork("predict", "run", name, "--format", "jsonl").out.splitlines()
        ]
        for name in ("deep", "plain")
    )
    assert np.allclose(sorted(of_deep), sorted(of_plain), atol=1e-6)
