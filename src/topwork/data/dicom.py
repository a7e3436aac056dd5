"""DICOM pictures as a screen would show them, by pydicom (`topwork[dicom]`): the first frame.

What a scanner stored is first scaled to its own units (the modality's slope and intercept). Where the file names a
window, its ends become black and white; else the values stay as deep as they are, and the set's own range is found as
for other grey pictures with 16 bits. In MONOCHROME1 small values are bright, and are turned round.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_DEFLATED = "1.2.840.10008.1.2.1.99"


def is_dicom(content: bytes) -> bool:
    """Whether some bytes, of which 132 will do, begin as a DICOM file does."""
    return content[128:132] == b"DICM"


def open_dicom(content: bytes, max_pixels: int) -> Image.Image:
    """The first frame: in RGB, in 8-bit grey where the file names a window, else in grey as deep as it is.

    Raises:
        ValueError: pydicom isn't installed, or it can't be read.
        Image.DecompressionBombError: more than `max_pixels`.
    """
    try:
        data = _read(io.BytesIO(content))
        if data.file_meta.TransferSyntaxUID == _DEFLATED:
            raise ValueError("it is compressed as a whole, which may hide any size. Save it without")
        n_pixels = int(data.Rows) * int(data.Columns)
    except ModuleNotFoundError as error:
        raise ValueError("it is a DICOM picture, which needs pydicom: pip install 'topwork[dicom]'") from error
    except Exception as error:  # of damaged heads it raises anything
        raise ValueError(f"a DICOM picture that can't be read: {error}") from error
    if n_pixels > max_pixels:
        raise Image.DecompressionBombError
    try:
        return _picture(data)
    except Exception as error:
        raise ValueError(f"a DICOM picture that can't be read: {error}") from error


def n_dicom_frames(file: BinaryIO) -> int:
    """How many frames a DICOM file says that it has, without its pixels; 1 where it says nothing that can be read."""
    try:
        return int(_read(file, stop_before_pixels=True).get("NumberOfFrames") or 1)
    except Exception:  # pydicom isn't installed; or the head is damaged, of which it raises anything
        return 1


def _read(file: BinaryIO, *, stop_before_pixels: bool = False) -> Any:
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # no warning of odd texts in a head
    return pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)


def _picture(data: Any) -> Image.Image:
    from pydicom.pixels import apply_color_lut, apply_rescale, pixel_array

    kind = str(data.PhotometricInterpretation)
    values: NDArray[Any] = pixel_array(data, index=0)
    if not kind.startswith("MONOCHROME"):
        values = apply_color_lut(values, data) if kind == "PALETTE COLOR" else values
        return Image.fromarray((values >> 8 if values.dtype.itemsize > 1 else values).astype(np.uint8))
    first, last = (float(end) for end in apply_rescale(_stored_ends(data), data))
    values = apply_rescale(values, data)
    is_turned = kind == "MONOCHROME1"
    window = _window(data)
    if window is None:
        values = first + last - values if is_turned else values
        if int(data.BitsStored) <= 8 and min(first, last) == 0 and max(first, last) <= 255:
            return Image.fromarray(values.astype(np.uint8))
        is_whole = bool(np.all(values == np.round(values)))
        return Image.fromarray(values.astype(np.int32 if is_whole else np.float32))
    low, high = window
    grey = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255
    return Image.fromarray(np.round(255 - grey if is_turned else grey).astype(np.uint8))


def _stored_ends(data: Any) -> NDArray[np.int64]:
    """The smallest and the largest value that so many bits hold."""
    n = 1 << int(data.BitsStored)
    return np.array([-n // 2, n // 2 - 1] if int(data.PixelRepresentation) else [0, n - 1])


def _window(data: Any) -> tuple[float, float] | None:
    """What becomes black and white, by the first window that the file names (PS3.3 C.11.2.1.2); None where none is."""
    centre, width = (np.ravel(data.get(name, [])) for name in ("WindowCenter", "WindowWidth"))
    if not len(centre) or not len(width) or float(width[0]) <= 1:
        return None
    middle, half = float(centre[0]) - 0.5, (float(width[0]) - 1) / 2
    return middle - half, middle + half
