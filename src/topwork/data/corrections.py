"""What a person decided about images: which to leave out, and which to give another label.

Both come from a table such as the `findings.csv` of a run, filled in with a spreadsheet; or, to leave images out, from
a plain list of their names.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topwork.data.cells import plain
from topwork.data.sources import ArchiveImages, FileImages, ImageSource
from topwork.errors import DataError
from topwork.files import printable, read_regular
from topwork.types import IntArray
from topwork.words import counted, first

_LARGEST = 256 << 20
"""Bytes of a table or list: two million findings."""
_NOT_MARKED = frozenset({"", "no", "n", "0", "false"})
"""What a spreadsheet writes for a box that isn't ticked, beside nothing at all."""


@dataclass(frozen=True)
class Corrections:
    """What was changed of a dataset on request.

    Attributes:
        excluded: the names of images that were left out.
        relabelled: image, the label it came with, the label it was given.
    """

    excluded: tuple[str, ...] = ()
    relabelled: tuple[tuple[str, str, str], ...] = ()


UNCORRECTED = Corrections()


def read_exclusions(path: Path) -> tuple[str, ...]:
    """The names of the images to leave out.

    Args:
        path: a CSV with the columns `image` and `exclude`, in which any mark but no, n, 0 and false counts (commas,
            semicolons or tabs between the cells, as spreadsheets write them); or a plain list, one name a line.

    Raises:
        DataError: there is no such file, it isn't text in UTF-8, or a column is missing.
    """
    text = _text(path)
    table = _table(text, path)
    if table is None:
        return tuple(dict.fromkeys(line for line in text.replace("\r\n", "\n").split("\n") if line.strip()))
    _require_columns(table, ("image", "exclude"), path)
    marked = (row["image"] for row in table if row["exclude"].strip().lower() not in _NOT_MARKED)
    return tuple(dict.fromkeys(marked))


def read_labels(path: Path) -> dict[str, str]:
    """The new label of each image that is to have one.

    Args:
        path: a CSV with the columns `image` and `new_label`; rows without a new label change nothing.

    Raises:
        DataError: there is no such file, it isn't text in UTF-8, a column is missing, or one image has two new labels.
    """
    table = _table(_text(path), path)
    if table is None:
        raise DataError(
            f"{printable(str(path))!r} is no table. Expected a CSV with the columns 'image' and 'new_label'."
        )
    _require_columns(table, ("image", "new_label"), path)
    labels: dict[str, str] = {}
    for row in table:
        image, label = row["image"], row["new_label"].strip()
        if label and labels.setdefault(image, label) != label:
            raise DataError(
                f"{printable(str(path))!r} gives {image!r} two new labels, {labels[image]!r} and {label!r}. Keep one."
            )
    return labels


def find_by_name(source: ImageSource, rows: IntArray, names: Iterable[str], origin: str) -> IntArray:
    """`(len(names),)`, where among `rows` of `source` each named image is.

    Args:
        source: the images.
        rows: `(N,)`, those to look among.
        names: as `source` calls its images; or paths that lead to its files from here.
        origin: what the images are called together, for messages.

    Raises:
        DataError: names that no image has, or several images.
    """
    wanted, every = list(names), [source.name(int(row)) for row in rows]
    places = {name: i for i, name in enumerate(every)}
    if isinstance(source, FileImages | ArchiveImages) and not set(wanted) <= set(places):
        paths = {os.path.abspath(source.paths[row]): i for i, row in enumerate(rows)}
        places = {name: paths[path] for name in wanted if (path := os.path.abspath(name)) in paths} | places
    missing = [name for name in wanted if name not in places]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'name')} without an image in {origin!r}: {first(list(map(repr, missing)))}. "
            f"Expected names as Topwork writes them, such as {every[0]!r}."
        )
    times = Counter(every)
    several = [name for name in wanted if times[name] > 1]
    if several:
        raise DataError(
            f"{counted(len(several), 'name')} with several images in {origin!r}: {first(list(map(repr, several)))}. "
            "Give each image a name of its own."
        )
    return np.array([places[name] for name in wanted], dtype=np.int64)


def _text(path: Path) -> str:
    shown = printable(str(path))
    try:
        content = read_regular(path, at_most=_LARGEST)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {shown!r}.") from error
    except OSError as error:
        raise DataError(f"{shown!r} can't be read: {error.strerror or error}.") from error
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown!r} isn't text in UTF-8. Save it as “CSV UTF-8”.") from error


def _table(text: str, path: Path) -> _Table | None:
    """The rows of a CSV; None where the first line has no column `image` beside another."""
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        return _Table(names, tuple(reader)) if "image" in names and len(names) > 1 else None
    except csv.Error as error:
        raise DataError(f"{printable(str(path))!r} can't be read as CSV: {error}.") from error


@dataclass(frozen=True)
class _Table:
    """A CSV as it was read; its rows come as dicts of cells."""

    names: list[str]
    cells: tuple[list[str], ...]

    def __iter__(self) -> Iterator[dict[str, str]]:
        for cells in self.cells:
            if any(cells):
                cells = cells + [""] * (len(self.names) - len(cells))
                yield dict(zip(self.names, map(plain, cells), strict=False))


def _require_columns(table: _Table, columns: tuple[str, ...], path: Path) -> None:
    for column in columns:
        if column not in table.names:
            raise DataError(
                f"{printable(str(path))!r} has no column {column!r}. Its columns are "
                f"{', '.join(map(repr, table.names))}."
            )
