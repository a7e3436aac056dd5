"""Cameras' raw files as pictures, by rawpy and the LibRaw in it (`topwork[raw]`).

They are developed as LibRaw does by itself: the camera's white balance, sRGB, upright, and as bright as lets a
hundredth of the pixels be white. Most are TIFFs by their first bytes, in which other readers find a thumbnail only.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

SUFFIXES = frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"})
_KINDS = (
    (b"FUJIFILMCCD-RAW", "RAF"),
    *((head, "ORF") for head in (b"IIRO", b"IIRS", b"MMOR")),
    (b"IIU\0", "RW2"),
)
_MAKERS = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"RICOH": "PEF", b"SAMSUNG": "SRW"}
_MAKE, _SUB_PICTURES, _DNG_VERSION = 271, 330, 50706
"""Tags of TIFF. Cameras keep the sensor's values in a sub-picture, and their thumbnail in its place."""


def raw_kind(file: BinaryIO) -> str:
    """Of which format a camera's raw file is, such as 'NEF'; empty where a file is none. It is read from its beginning.

    Args:
        file: an open file, left at its beginning.
    """
    head = file.read(16)
    file.seek(0)
    if head[4:12] == b"ftypcrx ":
        return "CR3"
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return next((kind for beginning, kind in _KINDS if head.startswith(beginning)), "")
    if head[8:10] == b"CR":
        return "CR2"
    try:
        tags = _tags(file, "<" if head[:2] == b"II" else ">", head)
        if _DNG_VERSION in tags:
            return "DNG"
        if not {_MAKE, _SUB_PICTURES} <= set(tags):
            return ""
        file.seek(tags[_MAKE])
        maker = file.read(16).upper()
        return next((kind for name, kind in _MAKERS.items() if maker.startswith(name)), "")
    except struct.error:  # cut short, which decoding will say
        return ""
    finally:
        file.seek(0)


def _tags(file: BinaryIO, order: str, head: bytes) -> dict[int, int]:
    """The tags of a TIFF's first picture, each with its value, or where that is."""
    file.seek(struct.unpack(f"{order}I", head[4:8])[0])
    (n,) = struct.unpack(f"{order}H", file.read(2))
    entries = struct.iter_unpack(f"{order}HHII", file.read(12 * n))
    return {tag: value for tag, _, _, value in entries}


def open_raw(content: bytes, kind: str, at_least: int | None, max_pixels: int) -> Image.Image:
    """The picture in 8-bit RGB, upright; at half its size where that leaves sides of `at_least` pixels.

    Raises:
        ValueError: rawpy isn't installed, or it can't be read.
        Image.DecompressionBombError: more than `max_pixels`.
    """
    with _opened(content, kind) as raw:
        width, height = _size(raw, max_pixels)
        is_half = at_least is not None and min(width, height) // 2 >= at_least
        try:
            return Image.fromarray(np.asarray(raw.postprocess(use_camera_wb=True, half_size=is_half)))
        except Exception as error:  # of damaged files it raises all kinds
            raise ValueError(_unread(kind, error)) from error


def raw_size(content: bytes, kind: str, max_pixels: int) -> tuple[int, int]:
    """Width and height, without developing it; raises as `open_raw` does."""
    with _opened(content, kind) as raw:
        return _size(raw, max_pixels)


def _opened(content: bytes, kind: str) -> Any:
    try:
        import rawpy

        return rawpy.imread(io.BytesIO(content))
    except ModuleNotFoundError as error:
        raise ValueError(
            f"it is a camera's raw file ({kind}), which needs rawpy: pip install 'topwork[raw]'"
        ) from error
    except Exception as error:  # of damaged heads it raises all kinds
        raise ValueError(_unread(kind, error)) from error


def _size(raw: Any, max_pixels: int) -> tuple[int, int]:
    """Upright: LibRaw turns by a quarter where `flip` is 5 or 6."""
    width, height = raw.sizes.width, raw.sizes.height
    if width * height > max_pixels:
        raise Image.DecompressionBombError
    return (height, width) if raw.sizes.flip in (5, 6) else (width, height)


def _unread(kind: str, error: Exception) -> str:
    reason = error.args[0] if error.args else type(error).__name__
    return (
        f"a camera's raw file ({kind}) that can't be read: {reason.decode() if isinstance(reason, bytes) else reason}"
    )
