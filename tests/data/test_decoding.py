"""Any image becomes upright 8-bit RGB, a square of the input size; what can't be read says why."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from helpers import make_photo
from topwork.data.dataset import as_payloads
from topwork.data.decoding import (
    SUFFIXES,
    begins_as_image,
    digest_of,
    picture_size,
    quiet_pillow,
    read_image,
    read_square,
)
from topwork.errors import BadImageError, ShapeError
from topwork.recipe import Recipe

PHOTO = make_photo((200, 40, 40), 1, (64, 64))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    assert np.array_equal(np.asarray(read_image(encoded(PHOTO, form), "x")), np.asarray(PHOTO))


@pytest.mark.parametrize(("form", "tolerance"), [("JPEG", 4), ("WEBP", 4), ("GIF", 12)])
def test_lossy_formats_come_near(form: str, tolerance: float) -> None:
    smooth = PHOTO.filter(ImageFilter.GaussianBlur(3))  # colour noise is what these formats throw away
    found = np.asarray(read_image(encoded(smooth, form), "x"), dtype=int)
    assert np.abs(found - np.asarray(smooth, dtype=int)).mean() < tolerance


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data, "x").getpixel((0, 0)) == (255, 0, 0)


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    turned = read_image(encoded(image, "PNG", exif=exif), "x")
    assert turned.size == (20, 40)
    assert turned.getpixel((10, 2)) == (255, 255, 255)
    assert turned.getpixel((10, 38)) == (0, 0, 0)


def test_grey_becomes_three_equal_channels() -> None:
    found = np.asarray(read_image(encoded(PHOTO.convert("L"), "PNG"), "x"))
    assert np.array_equal(found, np.repeat(np.asarray(PHOTO.convert("L"))[..., None], 3, axis=2))


def test_palette_is_looked_up() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert read_image(encoded(image, "PNG"), "x").getpixel((0, 0)) == (10, 200, 30)


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert read_image(encoded(image, "PNG"), "x").getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_becomes_rgb() -> None:
    found = read_image(encoded(Image.new("RGB", (8, 8), (250, 10, 10)).convert("CMYK"), "JPEG"), "x")
    assert found.mode == "RGB"
    assert found.getpixel((4, 4))[0] > 200
    assert found.getpixel((4, 4))[1] < 60


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_bits(form: str) -> None:
    values = np.array([[0, 0x1234], [0x80FF, 0xFFFF]], dtype=np.uint16)
    found = np.asarray(read_image(encoded(Image.fromarray(values), form), "x"))[..., 0]
    assert found.tolist() == [[0x00, 0x12], [0x80, 0xFF]]


def test_square_is_the_centre_of_the_picture() -> None:
    image = Image.new("RGB", (90, 30), "black")
    image.paste((255, 255, 255), (30, 0, 60, 30))
    assert np.all(read_square(encoded(image, "PNG"), Recipe(30), "x") == 255)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    pixels = np.asarray(PHOTO)
    assert np.array_equal(read_square(pixels, Recipe(64), "x"), pixels)
    assert np.array_equal(read_square(encoded(PHOTO, "PNG"), Recipe(64), "x"), pixels)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_decoded_at_a_fraction_is_nearly_the_same(orientation: int) -> None:
    large = PHOTO.resize((1024, 768), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(large, "JPEG", quality=95, exif=exif)
    quick = read_square(data, Recipe(64), "x").astype(int)
    whole = read_square(np.asarray(read_image(data, "x")), Recipe(64), "x")
    assert np.abs(quick - whole).mean() < 1.5
    assert read_image(data, "x", at_least=128).size in ((256, 192), (192, 256))
    assert read_image(data, "x").size in ((1024, 768), (768, 1024))


def test_resizing_golden_values() -> None:
    """The pixels that features are made of: if these change, DECODING_VERSION must count up."""
    ramp = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    small = read_square(ramp, Recipe(4), "x")
    assert small[:, :, 0].tolist() == [[15, 20, 27, 32], [61, 66, 73, 78], [111, 116, 123, 128], [157, 162, 169, 174]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text", "not a JPEG, PNG"),
        (encoded(PHOTO, "JPEG")[:700], "truncated"),
        (encoded(PHOTO, "PNG")[:300], ""),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
    ],
)
def test_broken_bytes_are_named_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match="the name") as caught:
        read_image(data, "the name")
    assert reason in caught.value.reason


def test_every_cut_of_a_file_is_an_error_or_an_image() -> None:
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        data = encoded(PHOTO, form)
        for cut in range(0, len(data), max(1, len(data) // 40)):
            try:
                read_square(data[:cut], Recipe(32), "x")
            except BadImageError:
                continue


def test_missing_file_is_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="No such file"):
        read_image(tmp_path / "none.png", "none.png")


def test_decompression_bomb_is_refused() -> None:
    with pytest.raises(BadImageError, match="decompression bomb"):
        read_image(encoded(Image.new("1", (20_000, 20_000)), "PNG"), "x")


def test_digest_depends_on_content_alone(tmp_path: Path) -> None:
    data = encoded(PHOTO, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    assert digest_of(tmp_path / "a.png") == digest_of(data)
    assert digest_of(np.asarray(PHOTO)) != digest_of(np.asarray(PHOTO)[::-1])


def test_digest_of_a_picture_depends_on_what_it_shows() -> None:
    red, blue = (Image.new("P", (4, 4), 1) for _ in range(2))
    red.putpalette([0, 0, 0, 255, 0, 0])
    blue.putpalette([0, 0, 0, 0, 0, 255])
    assert digest_of(red) != digest_of(blue)


def test_broken_exif_does_not_cost_the_image_or_the_run() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "camera", 72.0
    random = np.random.default_rng(0)
    for form in ("JPEG", "WEBP", "PNG", "TIFF"):
        whole = encoded(PHOTO, form, exif=exif)
        for _ in range(150):
            data = bytearray(whole)
            for place in random.integers(0, min(len(data), 220), 3):
                data[place] = random.integers(0, 256)
            try:
                with quiet_pillow():
                    read_square(bytes(data), Recipe(32), "x")
            except BadImageError:
                continue


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 8, 8, 3)),
        np.zeros((2, 8, 8, 2), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        PHOTO,
        "a.png",
        [1, 2],
    ],
)
def test_what_is_no_list_of_images_is_refused(images: object) -> None:
    with pytest.raises(ShapeError, match="Expected"):
        as_payloads(images)  # type: ignore[arg-type]


@pytest.mark.parametrize(("form", "suffix"), [("AVIF", ".avif"), ("JPEG2000", ".jp2"), ("JPEG2000", ".j2k")])
def test_avif_and_jpeg_2000_are_read(tmp_path: Path, form: str, suffix: str) -> None:
    picture = Image.new("RGB", (40, 30), (200, 60, 40))
    path = tmp_path / f"picture{suffix}"
    picture.save(path, form)
    content = path.read_bytes()
    assert begins_as_image(content[:16])
    assert suffix in SUFFIXES
    found = read_image(path, "picture")
    assert found.size == (40, 30)
    assert np.abs(np.asarray(found).astype(int) - (200, 60, 40)).max() <= 4
    assert read_square(content, Recipe(16), "picture").shape == (16, 16, 3)


def test_heic_is_read_upright() -> None:
    plain, turned = (Path(__file__).with_name(name) for name in ("drawn.heic", "drawn-turned.heic"))
    assert begins_as_image(plain.read_bytes()[:16])
    assert picture_size(plain) == (96, 64)
    assert read_image(plain, "plain").size == (96, 64)
    upright = read_image(turned, "turned")
    assert upright.size == (64, 96)
    difference = np.asarray(upright.rotate(90, expand=True)).astype(int) - np.asarray(read_image(plain, "plain"))
    assert np.abs(difference).mean() < 3
    with pytest.raises(BadImageError, match="decompression bomb"):
        read_image(plain, "plain", max_pixels=6000)
    whole = plain.read_bytes()
    for place in range(20, len(whole), 97):
        with contextlib.suppress(BadImageError):
            read_image(whole[:place], "cut")
        with contextlib.suppress(BadImageError):
            read_image(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :], "flipped")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.7 ...", "it is a PDF"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM picture that can't be read"),
        (b"8BPS\0\1", "it is a Photoshop file"),
        (b"\xff\x0a\x00", "it is a JPEG XL"),
        (b"\0\0\0\x20ftypisom" + bytes(40), "it is a film"),
        (b"\0\0\0\x18ftypxyz " + bytes(40), "a picture of the kind 'xyz '"),
        (b"PK\x03\x04abc", "it is a ZIP archive"),
        (b"  <!DOCTYPE html><html>", "it is a web page, not the picture"),
        (b"\xef\xbb\xbf<HTML>", "it is a web page, not the picture"),
        (b"<?xml version='1.0'?><svg/>", "it is an XML file"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x93NUMPY\x01\0", "it is a NumPy array"),
        (b"II*\0\x08\0\0\0\0\0", "it begins as a TIFF does"),
    ],
)
def test_what_is_not_read_is_named_with_the_way_out(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    for payload in (content, tmp_path / "x.png"):
        with quiet_pillow(), pytest.raises(BadImageError, match=re.escape(said)):
            read_image(payload, "x")
