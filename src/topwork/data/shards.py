"""Data in several tables, as Hugging Face's are: which tables, and which split each of them holds."""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from topwork.data.layouts import split_of
from topwork.data.sources import JoinedImages
from topwork.data.table import LabelTable
from topwork.data.tables import SUFFIXES, Columns, read_table
from topwork.data.walking import holds_images
from topwork.errors import DataError
from topwork.files import printable
from topwork.words import listed

_RUN = "run.json"
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
"""How Hugging Face numbers the shards of a table."""


def find_tables(source: str) -> list[Path] | None:
    """The tables that a name stands for, sorted: a table, a folder of tables, or a pattern. None where it's none.

    Raises:
        DataError: a pattern that matches nothing, or something else than tables.
    """
    if glob.has_magic(source) and not os.path.lexists(source):
        found = sorted(glob.glob(source, recursive=True), key=os.fsencode)
        others = [path for path in found if not _is_table(path)]
        if not found or others:
            what = f"such as {printable(others[0])!r}" if others else "and nothing matches it"
            raise DataError(
                f"{printable(source)!r} is a pattern, {what}. Expected a pattern of tables, such as 'data/*.parquet'."
            )
        return [Path(path) for path in found]
    if os.path.isdir(source):
        return tables_in(Path(source)) or None
    return [Path(source)] if _is_table(source) else None


def tables_in(folder: Path) -> list[Path]:
    """The tables below a folder in which there are no images, sorted."""
    if holds_images(folder):
        return []
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        if _RUN in files:  # a training wrote it, with tables of its own
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if _is_table(name) and not name.startswith(".")]
    return sorted(found, key=os.fsencode)


def read_tables(paths: Sequence[Path], columns: Columns, image_root: Path | None) -> LabelTable:
    """The images that several tables list, as one table.

    Where no column says which split an image is in, the names of the tables or of the folders around them do, such as
    `train-00000-of-00002.parquet` or `test/0.parquet`.

    Raises:
        DataError: see `read_table`; or the tables have different class names, or only some name a split.
    """
    parts = [read_table(path, columns, image_root) for path in paths]
    if len(parts) == 1:
        return _with_notes(parts[0], _of_missing_shards(paths))
    for path, part in zip(paths, parts, strict=True):
        if part.class_names != parts[0].class_names:
            raise DataError(
                f"{printable(str(path))!r} has other class names than {printable(str(paths[0]))!r}: "
                f"{_names(part)} and {_names(parts[0])}. Expected tables of one data set."
            )
    sides = [part.sides for part in parts]
    splits = _splits(paths)
    if all(side is None for side in sides) and splits:
        sides = [np.full(len(part.source), split) for part, split in zip(parts, splits, strict=True)]
    _require_all([side is not None for side in sides], paths, "column with its split")
    groups = [part.groups for part in parts]
    table = LabelTable(
        source=JoinedImages(tuple(part.source for part in parts)),
        labels=np.concatenate([part.labels for part in parts]),
        class_names=parts[0].class_names,
        sides=np.concatenate([side for side in sides if side is not None]) if sides[0] is not None else None,
        groups=np.concatenate([group for group in groups if group is not None]) if groups[0] is not None else None,
        notes=tuple(note for part in parts for note in part.notes),
    )
    return _with_notes(table, _of_missing_shards(paths))


def _is_table(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _splits(paths: Sequence[Path]) -> list[str]:
    """The split of each table by its name, or by that of the innermost folder that has one; none where all have one.

    Raises:
        DataError: some tables name no split, beside others that name several.
    """
    above = Path(os.path.commonpath([path.parent for path in paths]))
    found = []
    for path in paths:
        names = [path.stem, *reversed(path.parent.relative_to(above).parts)]
        found.append(next((split for name in names if (split := split_of(name))), ""))
    if len({*found} - {""}) < 2:
        return []
    _require_all([bool(split) for split in found], paths, "split in its name, such as train or test")
    return found


def _require_all(is_there: Sequence[bool], paths: Sequence[Path], what: str) -> None:
    without = [printable(str(path)) for path, there in zip(paths, is_there, strict=True) if not there]
    if 0 < len(without) < len(paths):
        has = "has" if len(without) == 1 else "have"
        raise DataError(
            f"The {listed(without, what=('table', 'tables'), most=3)} {has} no {what}, and others have one."
            " Move the former elsewhere, or give a pattern that leaves them out."
        )


def _of_missing_shards(paths: Sequence[Path]) -> list[str]:
    """What there is to say of numbered shards that are not among `paths`."""
    numbers: defaultdict[tuple[Path, str, int], int] = defaultdict(int)
    for path in paths:
        if match := _NUMBERED.fullmatch(path.stem):
            numbers[path.parent, match[1], int(match[3])] += 1
    return [
        f"{n} of {of} tables called '{printable(name)}-…' {'is' if n == 1 else 'are'} read; give their folder, or a "
        "pattern, to read all."
        for (_, name, of), n in numbers.items()
        if n < of
    ]


def _names(table: LabelTable) -> str:
    return ", ".join(map(repr, (table.class_names or ())[:5])) or "none"


def _with_notes(table: LabelTable, notes: Sequence[str]) -> LabelTable:
    return replace(table, notes=(*table.notes, *notes))
