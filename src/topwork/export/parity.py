"""The parity check: an exported file must answer real images as Topwork does, from image file to probability.

The images go through the very program that is delivered with the file, in a fresh process, in the format's own
runtime.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from os import environ, fspath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from topwork.data.decoding import MAX_PIXELS, Payload, StoredImage, read_encoded
from topwork.data.dicom import is_dicom, open_dicom
from topwork.errors import ExportError
from topwork.export.formats import Format
from topwork.files import staging_folder
from topwork.keras_child import run_tied
from topwork.types import FloatArray

PROGRAM = "use.py"
TOLERANCE = 0.01
"""The largest difference between two probabilities that is let through. Graphs resize in float32, Pillow in whole
numbers, so one value in 3,000 is a level off, which was seen to move a probability by 0.0024."""
NOVELTY_TOLERANCE = 0.1
"""The same of two unknown scores, whose standard deviation is about 1.5; 0.02 was seen on photographs."""
_RUNNER = """
import json, os, runpy, sys, threading
threading.Thread(target=lambda: os._exit(len(os.read(0, 1)) + 1), daemon=True).start()  # ends with who started it
sys.modules["openvino_telemetry"] = None  # nothing goes over the network unasked
import numpy as np
program, images, answers = sys.argv[1:]
predict = runpy.run_path(program)["predict"]
probabilities, novelty = zip(*map(predict, json.load(open(images))))
np.savez(answers, probabilities=np.stack(probabilities), **({} if novelty[0] is None else {"novelty": novelty}))
"""


@dataclass(frozen=True, eq=False)
class Answers:
    """What was answered for N images: `(N, K)` probabilities, and `(N,)` unknown scores where these are told."""

    probabilities: FloatArray
    novelty: FloatArray | None


@dataclass(frozen=True)
class ParityResult:
    """What the parity check found.

    Attributes:
        runtime: what ran the exported file, with its version.
        n_images: images that were answered by both.
        n_agree: of these, how many got the same class.
        largest_difference: the largest between two probabilities of one class for one image, in 0..1.
        n_agree_unknown: how many were told known or unknown alike; None where this isn't told.
        largest_novelty_difference: the largest between two unknown scores; None as above.
    """

    runtime: str
    n_images: int
    n_agree: int
    largest_difference: float
    n_agree_unknown: int | None = None
    largest_novelty_difference: float | None = None

    @property
    def is_passed(self) -> bool:
        """Whether every difference is within the tolerance; a class may then differ on a near tie only."""
        return self.largest_difference <= TOLERANCE and (self.largest_novelty_difference or 0) <= NOVELTY_TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON."""
        tolerances = {"tolerance": TOLERANCE, "novelty_tolerance": NOVELTY_TOLERANCE}
        return {**asdict(self), **tolerances, "passed": self.is_passed}


def compare(form: Format, expected: Answers, found: Answers, threshold: float | None) -> ParityResult:
    """What the exported file answered beside what Topwork does; above `threshold` a score is an unknown image's.

    Raises:
        ExportError: they are not of the same images and classes.
    """
    ours, theirs = expected.probabilities, found.probabilities
    if theirs.shape != ours.shape:
        raise ExportError(f"The exported file gave probabilities of shape {theirs.shape}, expected {ours.shape}.")
    result = ParityResult(
        runtime=f"{form.runtime} {version(form.runtime)}",
        n_images=len(ours),
        n_agree=int(np.sum(theirs.argmax(axis=1) == ours.argmax(axis=1))),
        largest_difference=_largest_difference(ours, theirs),
    )
    if threshold is None or expected.novelty is None or found.novelty is None:
        return result
    return replace(
        result,
        n_agree_unknown=int(np.sum((found.novelty > threshold) == (expected.novelty > threshold))),
        largest_novelty_difference=_largest_difference(expected.novelty, found.novelty),
    )


def _largest_difference(expected: FloatArray, found: FloatArray) -> float:
    """1 where a number is none."""
    difference = np.abs(found - expected)
    return float(np.where(np.isfinite(difference), difference, 1.0).max())


def run_program(folder: Path, images: Sequence[Payload]) -> Answers:
    """What the program in `folder` answers, run in a fresh process.

    Raises:
        ExportError: it failed.
    """
    with staging_folder(Path(tempfile.gettempdir())) as scratch:
        paths = [_as_file(image, scratch / f"{i}") for i, image in enumerate(images)]
        listed, answers = scratch / "images.json", scratch / "answers.npz"
        listed.write_text(json.dumps(paths))
        # -I: nothing of the current folder, and nothing of Topwork's that the program does not import itself
        command = [sys.executable, "-I", "-c", _RUNNER, *map(fspath, (folder / PROGRAM, listed, answers))]
        done = run_tied(command, {**environ, "KERAS_BACKEND": "jax"})
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ExportError(f"The exported file could not be run (exit status {done.returncode}): {last}")
        with np.load(answers) as found:
            return Answers(found["probabilities"], found.get("novelty"))


def _as_file(image: Payload, path: Path) -> str:
    """The path of a file with this image, written at `path` where it isn't a file already that the program reads."""
    if isinstance(image, Path | StoredImage | bytes):
        content = image if isinstance(image, bytes) else read_encoded(image)
        if is_dicom(content):
            image = open_dicom(content, MAX_PIXELS)
        elif isinstance(image, Path):
            return fspath(image.resolve())
        else:
            path.write_bytes(content)
            return fspath(path)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.squeeze(image))
    encoded = io.BytesIO()
    picture.save(encoded, "TIFF" if picture.mode in ("I", "F") else "PNG")  # PNG has 16 bits at most
    path.write_bytes(encoded.getvalue())
    return fspath(path)
