"""Small images and weights that tests make for themselves."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import subprocess
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from topwork.objects import Prefix
from topwork.progress import Reporter

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real images and weights, where this machine has them."""
DEEPER = {"resnet101", "resnet152", "resnet101v2", "resnet152v2", "densenet169", "densenet201"}
"""Of the course's networks those with more of the same layers as another: slow, so tested whole with `-m large`."""
COLOURS = {"ash": (190, 60, 40), "birch": (50, 170, 60), "cedar": (40, 70, 200)}


def make_photo(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A photograph of sorts: a soft blob of `colour` on noise, different for each seed."""
    random = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    centre = random.uniform(0.3, 0.7, 2) * (height, width)
    blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (0.1 * width * height))[..., None]
    noise = random.normal(110, 25, (height, width, 3))
    return Image.fromarray(np.clip(noise * (1 - blob) + np.array(colour) * blob, 0, 255).astype(np.uint8))


def make_photos(folder: Path, n: int = 12, classes: tuple[str, ...] = tuple(COLOURS), seed: int = 0) -> Path:
    """`folder/CLASS/i.png` or `.jpg`: `n` photographs a class."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            suffix = "jpg" if i % 2 else "png"
            make_photo(COLOURS[name], seed + 1000 * k + i).save(folder / name / f"{i}.{suffix}")
    return folder


def upload(folder: Path, address: str) -> str:
    """Put the files below a folder into an object store; returns the address."""
    for path in sorted(folder.rglob("*.*")):
        assert Prefix(address).put_new(path.relative_to(folder).as_posix(), path.read_bytes())
    return address


def encoded_dicom(pixels: np.ndarray, kind: str = "MONOCHROME2", bits: int = 12, **facts: Any) -> bytes:
    """A DICOM file with these pixels: `(H, W)`, `(H, W, 3)` or, with NumberOfFrames, `(F, H, W)`."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    shape = pixels.shape[1:] if "NumberOfFrames" in facts else pixels.shape
    data.Rows, data.Columns = shape[:2]
    data.SamplesPerPixel = 3 if len(shape) == 3 else 1
    if len(shape) == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = kind
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored, data.HighBit = bits, bits - 1
    data.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    data.PixelData = pixels.tobytes()
    for name, value in facts.items():
        setattr(data, name, value)
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def encoded_dng(pixels: np.ndarray, *, orientation: int = 1) -> bytes:
    """A camera's raw file (DNG) of `(H, W, 3)` uint8: each place has one colour, as behind a Bayer filter."""
    height, width, _ = pixels.shape
    linear = (pixels / 255.0) ** 2.2 * 60_000
    rows, columns = np.mgrid[:height, :width]
    strip = np.take_along_axis(linear, (rows % 2 + columns % 2)[..., None], 2)[..., 0].astype("<u2").tobytes()
    matrix = [32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570]  # from XYZ to sRGB
    tags: list[tuple[int, str, Any]] = [
        *((tag, "I", [value]) for tag, value in ((254, 0), (256, width), (257, height))),
        *((tag, "H", [value]) for tag, value in ((258, 16), (259, 1), (262, 32803))),
        *((tag, "s", value) for tag, value in ((271, b"Topwork\0"), (272, b"Drawn\0"))),
        *((273, "I", [8]), (274, "H", [orientation]), (277, "H", [1]), (278, "I", [height]), (279, "I", [len(strip)])),
        *((33421, "H", [2, 2]), (33422, "B", [0, 1, 1, 2]), (50706, "B", [1, 4, 0, 0])),
        *((50708, "s", b"Topwork Drawn\0"), (50717, "I", [60_000])),
        (50721, "i", [number for value in matrix for number in (value, 10_000)]),  # fractions
        *((50728, "L", [1, 1] * 3), (50778, "H", [21])),
    ]
    kinds = {"B": (1, 1), "s": (2, 1), "H": (3, 2), "I": (4, 4), "L": (5, 8), "i": (10, 8)}
    start = 8 + len(strip)
    entries, values = b"", b""
    for tag, kind, value in tags:
        content = value if kind == "s" else struct.pack(f"<{len(value)}{kind}", *value)
        number, size = kinds[kind]
        entries += struct.pack("<HHI", tag, number, len(content) // size)
        beyond = start + 2 + 12 * len(tags) + 4 + len(values)
        entries += content.ljust(4, b"\0") if len(content) <= 4 else struct.pack("<I", beyond)
        values += content + bytes(len(content) % 2) if len(content) > 4 else b""
    directory = struct.pack("<H", len(tags)) + entries + bytes(4) + values
    return b"II*\0" + struct.pack("<I", start) + strip + directory


def plausible_tensor(path: str, shape: tuple[int, ...], random: np.random.Generator, gain: float = 1.5) -> np.ndarray:
    """Values that a trained weight called `path` might have, so that a deep network neither dies nor explodes.

    `gain` is what its activations want: 1.5 for rectifiers.
    """
    name = path.split("/")[-1]
    if name in ("gamma", "variance", "moving_variance"):
        return random.uniform(0.7, 1.3, shape).astype(np.float32)
    if len(shape) >= 2:
        fan_in = int(np.prod(shape[:2] if shape[-1] == 1 else shape[:-1]))  # a depthwise kernel ends in 1
        return random.normal(0, (gain / fan_in) ** 0.5, shape).astype(np.float32)
    return random.normal(0, 0.05, shape).astype(np.float32)


class Heard(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def answers_elsewhere(classifier: Path, images: list[Path]) -> np.ndarray:
    """`(N, K)` probabilities by the saved classifier in a process of its own."""
    script = (
        "import sys, json, topwork as tw; c = tw.load_classifier(sys.argv[1]); "
        "print(json.dumps(c.predict_proba(sys.argv[2:]).tolist()))"
    )
    command = [sys.executable, "-c", script, str(classifier), *map(str, images)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.array(json.loads(answer.stdout))


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """`asyncio.run` in a thread of its own: the browser of other tests leaves a loop running in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
