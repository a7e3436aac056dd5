"""How image bytes become pixels: the one place that opens images.

Any image becomes 8-bit RGB, upright, then a square of the backbone's input size, as its recipe says; where that says
nothing else, it is the centre square of the picture, resized with a bicubic filter that averages when it shrinks (short
side to input size, centre crop: Kornblith, Shlens, Le 2019, arXiv 1805.08974). Training, prediction and service all
come through here; an exported file does the same inside (`export/graph.py`), but for ties in rounding.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import struct
import sys
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import (  # importing a format is what makes Pillow know it
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from topwork.data.dicom import is_dicom, n_dicom_frames, open_dicom
from topwork.data.raw import SUFFIXES as RAW_SUFFIXES
from topwork.data.raw import open_raw, raw_kind, raw_size
from topwork.errors import BadImageError, ShapeError
from topwork.files import open_regular, read_regular
from topwork.recipe import PAD_COLOUR, Recipe
from topwork.types import Filter, ImageArray, ValueRange


class StoredImage(ABC):
    """An encoded image that isn't a file of its own; its bytes are read when they are asked for."""

    @property
    def held(self) -> int:
        """How many bytes of it are in memory already."""
        return 0

    @abstractmethod
    def read(self) -> bytes:
        """Its bytes, `MAX_BYTES` at most.

        Raises:
            OSError: they can't be read.
        """


Payload: TypeAlias = "Path | StoredImage | bytes | ImageArray | Image.Image"
"""One image as it comes: a file or what else stores it, encoded bytes, `(H, W)`, `(H, W, 1 | 3 | 4)` uint8, or a PIL
image."""

_DECODER_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(RuntimeError, MemoryError, struct.error, zlib.error),
)
"""What Pillow's decoders were seen to raise on broken bytes."""

_DEEP = ("I", "F")
"""How Pillow's modes for pictures deeper than 8 bits begin."""
_DEEPEST = 0xFFFF
_ORIENTATION, _SAMPLE_FORMAT = 0x0112, 0x0153
"""Tags of EXIF and TIFF."""
_NATIVE, _FOREIGN = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_OTHER_ORDER = {
    f"{mode};16{order}": f"{mode};16{_FOREIGN if order in (_NATIVE, 'N') else _NATIVE}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order in "BLN"
}
"""Pillow has no mode for colour with 16 bits a channel, and takes the upper byte of each, as one of these words says
where that lies. By the opposite word it takes the lower byte."""
_LOWER = "lower bytes"
"""Under which name a picture in such colour carries another, of its lower bytes."""

DECODING_VERSION = 4
"""Counts up when the pixels that come out of here change; part of every feature's key."""

_FINER = 2
"""A JPEG may be decoded at a fraction of its size as long as it stays so many times finer than what is asked for."""

MAX_PIXELS = 178_956_970
"""Larger pictures are refused as decompression bombs; Pillow's own limit for an error."""

MAX_BYTES = 1 << 30
"""Of an encoded image: as many as so many pixels take in 16-bit RGB, uncompressed."""

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
        *(".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpx", ".dcm", ".dicom"),
        *RAW_SUFFIXES,
    }
)
UNREAD_SUFFIXES = frozenset({".exr", ".jxl", ".psd"})
"""Of pictures that aren't read. Below a folder they count as images that can't be read, lest they be missed."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000")  # and HEIC, which pi-heif reads
_FORMATS_WITH_FRAMES = ("WEBP", "GIF", "PNG", "TIFF", "AVIF")
"""Of which one file may hold several pictures. (So may JPEG and HEIC: small copies and depths, which nobody misses.)"""
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif")
"""Brands of files by phones; `mif1` is AVIF's too, which names itself further on."""
_KINDS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    *((head, "TIFF") for head in (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
"""How files of formats that are read begin."""
_OTHER_KINDS = (
    (b"%PDF", "a PDF. Save its pages as PNG or JPEG"),
    (b"8BPS", "a Photoshop file. Save it as PNG or JPEG"),
    (b"\xff\x0a", "a JPEG XL. Save it as PNG or JPEG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL. Save it as PNG or JPEG"),
    (b"v/1\x01", "an OpenEXR picture. Save it as a 16-bit TIFF or PNG"),
    (b"SIMPLE  =", "a FITS picture. Save it as a TIFF with fractions, or a 16-bit PNG"),
    (b"\x93NUMPY", "a NumPy array. Save it as a PNG or TIFF, or give the array from Python"),
    (b"PK\x03\x04", "a ZIP archive. Unpack it"),
    (b"\x1f\x8b", "a gzip archive. Unpack it"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the picture. Fetch it: git lfs pull"),
    (b"<svg", "an SVG drawing. Save it as PNG"),
    (b"<?xml", "an XML file, perhaps an SVG drawing. Save that as PNG"),
    (b"<!doctype html", "a web page, not the picture. Download it again"),
    (b"<html", "a web page, not the picture. Download it again"),
)
"""How other files begin, in small letters where they are text, and the way out."""


_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, by EXIF's orientation."""


def read_square(payload: Payload, recipe: Recipe, name: str, *, max_pixels: int = MAX_PIXELS) -> ImageArray:
    """The image as the backbone's input: `(size, size, 3)` uint8 RGB. See `read_image`.

    Raises:
        BadImageError: it can't be read; `name` says which.
    """
    size, value_range = recipe.size, recipe.value_range
    is_whole = recipe.crop_thousandths == 1000
    if is_whole and isinstance(payload, np.ndarray) and payload.shape == (size, size, 3) and payload.dtype == np.uint8:
        return payload
    image = read_image(payload, name, at_least=fine_enough(recipe), max_pixels=max_pixels, value_range=value_range)
    if recipe.frame == "pad":
        return np.asarray(_padded(image, recipe))
    if recipe.frame == "crop":
        image = _cropped(image, recipe.crop_thousandths)
    return np.asarray(_resized(image, size, size, recipe.filter))


def fine_enough(recipe: Recipe) -> int:
    """The shorter side, in pixels, below which no picture for this recipe may be decoded; see `read_image`."""
    return _FINER * recipe.size * 1000 // recipe.crop_thousandths


def _cropped(image: Image.Image, thousandths: int) -> Image.Image:
    """The centre square, cut before it is resized, at whole pixels: exported graphs can do that too."""
    width, height = image.size
    side = max(1, (min(width, height) * thousandths + 500) // 1000)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side)) if (width, height) != (side, side) else image


def _padded(image: Image.Image, recipe: Recipe) -> Image.Image:
    size, longest = recipe.size, max(image.size)
    width, height = (max(1, (2 * side * size + longest) // (2 * longest)) for side in image.size)
    square = Image.new("RGB", (size, size), PAD_COLOUR)
    square.paste(_resized(image, width, height, recipe.filter), ((size - width) // 2, (size - height) // 2))
    return square


def _resized(image: Image.Image, width: int, height: int, filter: Filter) -> Image.Image:
    """First along, then across, which some versions of Pillow exchange where the one shrinks and the other grows."""
    if image.width != image.height:
        image = image.resize((width, image.height), _FILTERS[filter])
    return image if image.size == (width, height) else image.resize((width, height), _FILTERS[filter])


def read_image(
    payload: Payload,
    name: str,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    value_range: ValueRange | None = None,
) -> Image.Image:
    """The whole image, upright, in 8-bit RGB.

    Transparency is laid on white; of an animation the first frame counts. A large JPEG may come at a half, a quarter or
    an eighth of its size, with sides of `at_least` pixels; None: never. Encoded images of more than `max_pixels` are
    refused by what their heads say, before anything is decoded.

    Of pictures with 16 bits a channel, and of grey ones with 32, the values in `value_range` become black to white;
    None: 0 to 65,535, so that their upper 8 bits are kept, and floating-point pixels are refused.

    Raises:
        BadImageError: it can't be read; `name` says which.
    """
    try:
        return _to_rgb(_open(payload, at_least, max_pixels, whole_values=value_range is not None), value_range)
    except Image.DecompressionBombError as error:
        raise BadImageError(name, f"more than {max_pixels:,} pixels; refused as a decompression bomb") from error
    except UnidentifiedImageError as error:
        raise BadImageError(name, _why_unidentified(payload)) from error
    except _DECODER_ERRORS as error:
        raise BadImageError(name, _plain(error)) from error


def begins_as_image(head: bytes) -> bool:
    """Whether a file's first bytes (16 will do) are those of an encoded image that Topwork reads."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in (*_HEIC, b"avif", b"avis", b"crx ")
    if head.startswith(b"BM"):  # a path may begin so too, but has no zeros where BMP keeps a reserved field
        return head[6:10] == bytes(4)
    return any(head.startswith(beginning[:12]) for beginning, _ in _KINDS) or raw_kind(io.BytesIO(head)) != ""


def picture_size(payload: Payload) -> tuple[int, int] | None:
    """Width and height in pixels, from the head of the file; None where it can't be read."""
    if isinstance(payload, np.ndarray):
        return int(payload.shape[1]), int(payload.shape[0])
    head = _head(payload)
    return None if head is None else head.size


def has_several_frames(payload: Payload) -> bool:
    """Whether an image has several pages or frames, by what a file says of itself; False where it can't be read."""
    if isinstance(payload, np.ndarray):
        return False
    if isinstance(payload, Image.Image):
        return bool(getattr(payload, "is_animated", False))
    try:
        with _opened(payload) as file:
            is_scan = is_dicom(file.read(132))
            file.seek(0)
            if is_scan:
                return n_dicom_frames(file) > 1
            if raw_kind(file):
                return False
            with Image.open(file, formats=_FORMATS_WITH_FRAMES) as image:
                return bool(getattr(image, "is_animated", False))
    except (*_DECODER_ERRORS, Image.DecompressionBombError):
        return False


def has_8_bits(payload: Payload) -> bool:
    """Whether an image has 8 bits a channel, from the head of the file; False where it can't be read."""
    if isinstance(payload, np.ndarray):
        return True
    head = _head(payload)
    return head is not None and not head.mode.startswith(_DEEP) and not _is_deep_colour(head)


def deep_values(payload: Payload, name: str) -> NDArray[np.generic] | None:
    """The pixel values of a picture with more than 8 bits, as they are in the file; None of any other image.

    `(H, W)` of a grey one; `(3, H, W)` in colour.

    Raises:
        BadImageError: it can't be read.
    """
    if isinstance(payload, np.ndarray) or has_8_bits(payload):
        return None
    try:
        image = _open(payload, None, MAX_PIXELS, whole_values=True)
    except (Image.DecompressionBombError, *_DECODER_ERRORS) as error:
        raise BadImageError(name, _plain(error)) from error
    if _LOWER in image.info:
        return np.moveaxis(_whole_values(image, image.info[_LOWER])[..., :3], -1, 0)
    return np.asarray(image) if image.mode.startswith(_DEEP) else None


def developed(payload: Payload) -> Payload:
    """An image as it is; of a camera's raw file, which other programs can't read, the whole picture in it.

    Raises:
        ValueError: it can't be read, which never happens to an image that `read_image` has read.
        OSError: the same.
    """
    if not isinstance(payload, Path | StoredImage | bytes):
        return payload
    with _opened(payload) as file:
        is_raw = raw_kind(file) != ""
    return _open(payload, None, MAX_PIXELS, whole_values=False) if is_raw else payload


def read_encoded(payload: Path | StoredImage) -> bytes:
    """The bytes of a file or stored image, `MAX_BYTES` at most.

    Raises:
        OSError: they can't be read.
    """
    return read_regular(payload, at_most=MAX_BYTES) if isinstance(payload, Path) else payload.read()


def digest_of(payload: Payload) -> bytes:
    """A 128-bit digest of an image's content: its encoded bytes, or the pixels of an array or picture.

    Raises:
        OSError: the file can't be read.
        BadImageError: the picture can't be.
    """
    if isinstance(payload, Path | StoredImage):
        payload = read_encoded(payload)
    if isinstance(payload, bytes):
        salt = _TRANSPARENT if _has_transparent_colour(payload) else b""
        return hashlib.blake2b(payload, digest_size=16, salt=salt).digest()
    if isinstance(payload, Image.Image) and not payload.mode.startswith(_DEEP):
        payload = read_image(payload, "image")
    pixels = np.asarray(payload)
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings of odd metadata in files that it reads well. Enter it in the main thread only."""
    _silence_libtiff()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


@cache
def _silence_libtiff() -> None:
    """Stop the TIFF library that comes with Pillow from writing to standard error, hundreds of lines for one file.

    It names no file, and Pillow raises an error for what matters. Where Pillow uses another library, that goes on.
    """
    folder = Path(PIL.__file__).parent
    for path in [*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")]:
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(ctypes.CDLL(str(path)), name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


def as_image_array(images: NDArray[np.generic]) -> ImageArray:
    """`images` checked to be `(N, H, W, 3)`, `(N, H, W, 1)` or `(N, H, W)` uint8.

    Raises:
        ShapeError: any other shape or dtype.
    """
    if images.ndim == 3 and images.shape[-1] in (3, 4):
        raise ShapeError(f"Expected several images, got one of shape {images.shape}. Make it a list: images[None].")
    is_image_shape = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3, 4))
    if images.dtype != np.uint8 or not is_image_shape:
        raise ShapeError(
            f"Expected images as uint8 (N, H, W, 3) or (N, H, W), values 0..255; got {images.dtype} {images.shape}. "
            "Don't scale pixels yourself: the backbone's card does it."
        )
    return images  # type: ignore[return-value]


_TRANSPARENT = b"on white"


def _has_transparent_colour(content: bytes) -> bool:
    """Whether it is a PNG, in RGB or 16-bit grey, of which one colour is transparent.

    That colour was once not laid on white. Features kept from then must not be taken for those of now, and all others
    may: so the digest of these images alone was changed.
    """
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[24:26] not in (b"\x08\x02", b"\x10\x02", b"\x10\x00"):
        return False
    return b"tRNS" in content[: max(0, content.find(b"IDAT"))]


def _opened(payload: Path | StoredImage | bytes) -> BinaryIO:
    if isinstance(payload, Path):
        return open_regular(payload)
    return io.BytesIO(payload if isinstance(payload, bytes) else payload.read())


def _head(payload: Path | StoredImage | bytes | Image.Image) -> Image.Image | None:
    """An image of which the head alone was read; None where it can't be."""
    if isinstance(payload, Image.Image):
        return payload
    try:
        with _opened(payload) as file:
            head = file.read(132)
            if _is_heic(head) or is_dicom(head):
                file.seek(0)
                return (_open_heic if _is_heic(head) else open_dicom)(file.read(MAX_BYTES), MAX_PIXELS)
            file.seek(0)
            if kind := raw_kind(file):
                return Image.new("L", raw_size(file.read(MAX_BYTES), kind, MAX_PIXELS))
            with Image.open(file, formats=_FORMATS) as image:
                return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _open(payload: Payload, at_least: int | None, max_pixels: int, *, whole_values: bool) -> Image.Image:
    """A picture of which all is read; in colour with 16 bits a channel, its lower bytes too where that is asked for."""
    if isinstance(payload, Image.Image):
        return payload
    if isinstance(payload, np.ndarray):
        return Image.fromarray(np.squeeze(payload, -1) if payload.ndim == 3 and payload.shape[-1] == 1 else payload)
    if isinstance(payload, Path | StoredImage):
        payload = read_encoded(payload)
    if not payload:
        raise ValueError("the file is empty")
    if is_dicom(payload):
        return open_dicom(payload, max_pixels)
    if kind := raw_kind(io.BytesIO(payload)):
        return open_raw(payload, kind, at_least, max_pixels)
    image = _open_heic(payload, max_pixels) if _is_heic(payload) else Image.open(io.BytesIO(payload), formats=_FORMATS)
    if image.width * image.height > max_pixels:
        raise Image.DecompressionBombError
    if at_least is not None:
        image.draft(image.mode, (at_least, at_least))  # scaled while it is decoded: many times as fast
    is_deep_colour = whole_values and _is_deep_colour(image)
    image.load()
    if is_deep_colour:
        image.info[_LOWER] = _lower_bytes(payload)
    return _unsigned(image) if image.mode == "I" and image.format == "TIFF" else image


def _unsigned(image: Image.Image) -> Image.Image:
    """A TIFF with whole numbers of 32 bits; Pillow makes those above 2^31 - 1 negative."""
    values = np.asarray(image)
    is_signed = image.tag_v2.get(_SAMPLE_FORMAT, (1,))[0] == 2  # type: ignore[attr-defined]
    if is_signed or values.min(initial=0) >= 0:
        return image
    whole = Image.fromarray(values.view(np.uint32).astype(np.float32))
    whole.getexif()[_ORIENTATION] = _orientation(image)
    return whole


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether a picture that isn't read yet is in colour with 16 bits a channel."""
    return any(_rawmode(tile.args) in _OTHER_ORDER for tile in getattr(image, "tile", ()))


def _lower_bytes(content: bytes) -> Image.Image:
    """The lower byte of each channel of such a picture, as a picture."""
    image = Image.open(io.BytesIO(content), formats=_FORMATS)
    tiles = []
    for tile in image.tile:
        other = _OTHER_ORDER[_rawmode(tile.args)]
        tiles.append(tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other))
    image.tile = tiles
    image.load()
    return image


def _rawmode(args: object) -> str:
    """How Pillow is to take the pixels of a part of a picture, by what it gives the decoder."""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _whole_values(image: Image.Image, lower: Image.Image) -> NDArray[np.uint16]:
    """`(H, W, 3 | 4)`, from the upper and the lower bytes."""
    values: NDArray[np.uint16] = np.asarray(image).astype(np.uint16) << 8 | np.asarray(lower)
    return values


def _is_heic(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in _HEIC and b"avif" not in content[8:64]


def _open_heic(content: bytes, max_pixels: int) -> Image.Image:
    """A HEIC file's first picture, upright."""
    import pi_heif

    found = pi_heif.open_heif(io.BytesIO(content))
    if found.size[0] * found.size[1] > max_pixels:
        raise Image.DecompressionBombError
    return found.to_pillow()  # type: ignore[no-any-return]


def _to_rgb(image: Image.Image, value_range: ValueRange | None) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    transparent, lower = image.info.get("transparency"), image.info.get(_LOWER)
    if turn is not None:
        image, lower = image.transpose(turn), lower and lower.transpose(turn)
    if lower is not None and value_range is not None:
        image, transparent = _from_deep_colour(image, lower, transparent, value_range), None
    if image.mode == "RGB" and not isinstance(transparent, tuple):
        return image
    if image.mode.startswith(_DEEP):
        return _from_deep(image, transparent, value_range)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or transparent is not None:
        if isinstance(transparent, tuple) and max(transparent) > 255:  # of 16 bits, of which Pillow kept the upper 8
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) where there is none, or the EXIF is broken: that doesn't cost the image."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DECODER_ERRORS:
        return 1


def _from_deep(image: Image.Image, transparent: int | None, value_range: ValueRange | None) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if value_range is None and image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range. Save it with 8 or 16 bits")
    if value_range is None and (values.min(initial=0) < 0 or values.max(initial=0) > _DEEPEST):
        raise ValueError("grey values outside 0..65535. Save it with 8 or 16 bits")
    if not np.all(np.isfinite(values)):
        raise ValueError("pixel values that are not finite numbers")
    grey = _levels(values, value_range or (0, _DEEPEST))
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _from_deep_colour(
    image: Image.Image, lower: Image.Image, transparent: tuple[int, ...] | None, value_range: ValueRange
) -> Image.Image:
    """In 8-bit RGB; in RGBA where there is an alpha channel, which keeps its upper bytes: its range is always whole."""
    values = _whole_values(image, lower)
    levels = _levels(values[..., :3], value_range)
    if transparent is not None:
        levels[np.all(values[..., :3] == transparent, axis=-1)] = 255
    return Image.fromarray(np.concatenate([levels, np.asarray(image)[..., 3:]], axis=-1))


def _levels(values: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    low, high = value_range
    # 255.999: of a range of 2^k values, each of the 256 levels gets as many, as if the upper 8 bits were kept
    return np.clip((values - low) * (255.999 / (high - low)), 0, 255).astype(np.uint8)


def _why_unidentified(payload: Payload) -> str:
    head = b""
    if isinstance(payload, Path | StoredImage | bytes):
        with _opened(payload) as file:
            head = file.read(64)
    small = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    for beginning, kind in _OTHER_KINDS:
        if head.startswith(beginning) or small.startswith(beginning):
            return f"it is {kind}"
    if head[4:8] == b"ftyp":
        return (
            f"it is a film, or a picture of the kind {head[8:12].decode('ascii', 'replace')!r}. Save it as PNG or JPEG"
        )
    for beginning, kind in _KINDS:
        if head.startswith(beginning):
            odd = (
                "of a kind that isn't read, such as five channels, fractions of 16 or 64 bits, or colour as fractions"
                if kind == "TIFF"
                else "damaged"
            )
            return f"it begins as a {kind} does, and is {odd}. Save it anew, with 8 bits, in RGB or grey"
    begins = f" (it begins with {head[:12]!r})" if head else ""
    return f"not a JPEG, PNG, WebP, HEIC, AVIF, JPEG 2000, BMP, GIF or TIFF image{begins}"


def _plain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error).strip() or type(error).__name__
