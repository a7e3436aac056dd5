"""Pictures of every mode that Pillow can write become the pixels that arithmetic says."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topwork.data.decoding import read_image

EXACT = {
    "1": ("PNG", "TIFF", "BMP"),
    "L": ("PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000"),
    "LA": ("PNG", "TIFF", "JPEG2000"),
    "P": ("PNG", "TIFF", "BMP", "GIF"),
    "RGB": ("PNG", "TIFF", "BMP", "WEBP", "JPEG2000"),
    "RGBA": ("PNG", "TIFF", "WEBP", "JPEG2000"),
    "CMYK": ("TIFF",),
    "I;16": ("PNG", "TIFF", "JPEG2000"),
    "I;16B": ("TIFF",),
    "I": ("TIFF",),
    "F": ("TIFF",),
}
"""Which modes each format keeps as they are."""
LOSSY = {"L": ("JPEG", "WEBP", "AVIF"), "RGB": ("JPEG", "WEBP", "AVIF"), "CMYK": ("JPEG",), "YCbCr": ("JPEG", "TIFF")}
"""Which it keeps nearly, of a picture of one colour."""
CHANNELS = {"1": 1, "L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}
DEEP = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)


def picture_of(mode: str, values: np.ndarray) -> Image.Image:
    """A picture whose stored values are `(H, W, C)`."""
    if mode in DEEP:
        return Image.fromarray(values[..., 0].astype(DEEP[mode]))
    height, width, n = values.shape
    if mode == "1":
        return Image.fromarray((values[..., 0] > 127).astype(np.uint8) * 255).convert("1")
    picture = Image.frombytes(mode, (width, height), values.tobytes()) if n != 2 else None
    if picture is None:
        picture = Image.merge("LA", [Image.fromarray(values[..., i]) for i in range(2)])
    if mode == "P":
        picture.putpalette(PALETTE.tobytes())
    return picture


def expected_of(mode: str, values: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` of `(H, W, C)`, by arithmetic alone."""
    x = values.astype(np.float64)
    if mode == "1":
        return np.repeat(255.0 * (x > 127), 3, axis=-1)
    if mode == "P":
        return PALETTE[values[..., 0]].astype(np.float64)
    if mode in DEEP:
        return np.repeat(x // 256, 3, axis=-1)
    if mode in ("LA", "RGBA"):  # on white
        alpha = x[..., -1:] / 255
        return np.broadcast_to(x[..., :-1] * alpha + 255 * (1 - alpha), (*x.shape[:2], 3))
    if mode == "CMYK":
        return (255 - x[..., :3]) * (255 - x[..., 3:]) / 255
    if mode == "YCbCr":  # JFIF 1.02
        y, cb, cr = (x[..., i] - (128 if i else 0) for i in range(3))
        rgb = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
        return np.clip(np.stack(rgb, axis=-1), 0, 255)
    return np.broadcast_to(x, (*x.shape[:2], 3))


def read_back(picture: Image.Image, form: str, value_range: Any = None, **options: Any) -> np.ndarray:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return np.asarray(read_image(file.getvalue(), "x", value_range=value_range)).astype(np.float64)


SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(mode, form) for mode, forms in EXACT.items() for form in forms]), SIDES, st.integers(0, 999))
def test_what_a_format_keeps_is_read_as_arithmetic_says(
    case: tuple[str, str], sides: tuple[int, int], seed: int
) -> None:
    mode, form = case
    most = 65_536 if mode in DEEP else 256
    values = np.random.default_rng(seed).integers(0, most, (*sides, CHANNELS.get(mode, 1)))
    values = values if mode in DEEP else values.astype(np.uint8)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    value_range = (0, 65_535) if mode == "F" else None
    found = read_back(picture_of(mode, values), form, value_range, **options)
    # transparency and ink are multiplied in whole numbers
    assert np.abs(found - expected_of(mode, values)).max() <= (1 if mode in ("LA", "RGBA", "CMYK") else 0)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([(mode, form) for mode, forms in LOSSY.items() for form in forms]), SIDES, st.integers(0, 999))
def test_one_colour_stays_nearly_itself_where_a_format_loses_some(
    case: tuple[str, str], sides: tuple[int, int], seed: int
) -> None:
    mode, form = case
    colour = np.random.default_rng(seed).integers(60, 200, CHANNELS[mode]).astype(np.uint8)
    values = np.broadcast_to(colour, (*sides, len(colour))).copy()
    options = {} if form == "TIFF" else {"quality": 95}
    assert np.abs(read_back(picture_of(mode, values), form, **options) - expected_of(mode, values)).max() <= 4


@pytest.mark.parametrize("form", ["PNG", "GIF"])
@pytest.mark.parametrize("clear", [0, 5])
def test_one_colour_of_a_palette_is_transparent(form: str, clear: int) -> None:
    values = np.random.default_rng(clear).integers(0, 9, (20, 30, 1)).astype(np.uint8)
    expected = np.where(values == clear, 255, expected_of("P", values))
    assert np.array_equal(read_back(picture_of("P", values), form, transparency=clear), expected)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* at D50 to sRGB, whose white Bradford's matrix takes from D65 (Lindbloom)."""
    y = (lab[0] / 255 * 100 + 16) / 116
    f = np.array([y + (lab[1] - 128) / 500, y, y - (lab[2] - 128) / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.033454],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


@pytest.mark.parametrize("lab", [(128, 128, 128), (200, 140, 120), (90, 118, 140), (255, 128, 128), (0, 128, 128)])
def test_lab_becomes_srgb(lab: tuple[int, int, int]) -> None:
    found = read_back(Image.new("LAB", (5, 5), lab), "TIFF")
    assert np.abs(found - lab_to_srgb(np.array(lab, float))).max() <= 2
