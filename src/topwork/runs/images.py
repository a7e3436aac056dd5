"""Which images a run was made from, in which split each was, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topwork.data.dataset import ImageDataset
from topwork.data.splits import TRAIN, VALIDATION
from topwork.errors import DataError, SavedFileError, TopworkError
from topwork.files import open_regular, printable, read_json
from topwork.types import DigestArray, IntArray

IMAGES = "images.parquet"
_TEXT_OPTIONS = ("image_column", "label_column", "split_column", "image_root")


@dataclass(frozen=True, eq=False)
class RecordedImages:
    """Images of a run: `(N,)` digests, N names, N labels, N splits."""

    digests: DigestArray
    names: list[str]
    labels: list[str]
    splits: list[str]

    def on(self, *splits: str) -> RecordedImages:
        """Those in any of these splits."""
        rows = [i for i, split in enumerate(self.splits) if split in splits]
        names, labels, kept = ([values[i] for i in rows] for values in (self.names, self.labels, self.splits))
        return RecordedImages(self.digests[rows], names, labels, kept)


def recorded_images(path: Path) -> RecordedImages | None:
    """Which image was in which split in a run; None where there is no list.

    `path` is a run folder, or the classifier in it.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = next((folder for folder in (path, path.resolve().parent) if (folder / IMAGES).is_file()), path)
    if not (path / IMAGES).is_file():
        return None
    shown = repr(printable(str(path / IMAGES)))
    kinds = {"digest": bytes, "side": str, "image": str, "label": str}
    try:
        with open_regular(path / IMAGES) as file:
            rows = parquet.ParquetFile(file).read(columns=list(kinds)).to_pydict()
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SavedFileError(f"{shown} can't be read: {reason}. Copy the run folder again.") from error
    for name, kind in kinds.items():
        if not all(isinstance(value, kind) for value in rows.get(name, [None])):
            raise SavedFileError(f"{shown} is damaged: its column {name!r} isn't as it was. Copy the run folder again.")
    return RecordedImages(np.array(rows["digest"], dtype="S16"), rows["image"], rows["label"], rows["side"])


def training_images(path: Path) -> RecordedImages | None:
    """The images that a run's top was trained or validated on; None where there is no list."""
    found = recorded_images(path)
    return None if found is None else found.on(TRAIN, VALIDATION)


def dataset_of_run(path: Path) -> ImageDataset:
    """The images that a run was trained and tested on, where they were."""
    record = next((found for folder in (path, path.resolve().parent) if (found := read_json(folder / "run.json"))), {})
    data = record.get("data")
    data = data if isinstance(data, dict) else {}
    origin = data.get("origin")
    if not origin or not isinstance(origin, str):
        raise DataError(
            f"{printable(str(path))!r} doesn't say which images it was made from, and an export is delivered only "
            "after real images went through it. Name some: `dataset=photos/`."
        )
    try:
        return ImageDataset.load(origin, **_options(data))
    except TopworkError as error:
        raise DataError(
            f"The run's images are looked for in {origin!r}, where they were: {error} "
            "If they are elsewhere now, say where: `dataset=FOLDER`."
        ) from error


def _options(data: dict[str, Any]) -> dict[str, Any]:
    """How the run's images were found, as far as the record can be trusted."""
    given = data.get("options")
    if not isinstance(given, dict):
        return {}
    found = {name: given[name] for name in _TEXT_OPTIONS if isinstance(given.get(name), str)}
    ignored = given.get("ignore_classes")
    if isinstance(ignored, list) and all(isinstance(name, str) for name in ignored):
        found["ignore_classes"] = ignored
    return found | ({"skip_unlabelled": True} if given.get("skip_unlabelled") is True else {})


def rows_of(dataset: ImageDataset, wanted: RecordedImages) -> IntArray:
    """The rows that hold the wanted images, found by name, else by content; none where none is there.

    An image that has another picture now may be among them; its digest tells.
    """
    names = set(wanted.names)
    rows = np.array([row for row, name in enumerate(dataset.names) if name in names], dtype=np.int64)
    if not 0 < len(rows) <= len(wanted.names):  # other names, or one name for several images
        rows = np.flatnonzero(np.isin(dataset.digests, wanted.digests))
    return rows
