"""Data in several files, tables or archives: which files, and which split each of them holds."""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from topwork.data.archives import is_archive, stem_of
from topwork.data.layouts import split_of
from topwork.data.sources import JoinedImages
from topwork.data.table import LabelTable
from topwork.data.tables import SUFFIXES
from topwork.data.walking import Folder, holds_images
from topwork.errors import DataError
from topwork.files import printable
from topwork.words import listed

_RUN = "run.json"
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
"""How Hugging Face numbers the shards of a table."""
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MOST_NUMBERS = 100_000


_FILES = ("file", "files")


def find_shards(source: str) -> list[Path] | None:
    """The tables or archives that a name stands for, sorted: one, a folder of them, or a pattern. None where it's none.

    Raises:
        DataError: a pattern that matches nothing, or something else than tables, or archives.
    """
    if is_pattern(source):
        found = matches(source)
        is_shard = is_archive if found and is_archive(found[0]) else is_table
        others = [path for path in found if not is_shard(path)]
        if not found or others:
            what = f"such as {printable(others[0])!r}" if others else "and nothing matches it"
            raise DataError(
                f"{printable(source)!r} is a pattern, {what}. Expected a pattern of tables, or of "
                "archives, such as 'data/*.parquet'."
            )
        return [Path(path) for path in found]
    if os.path.isdir(source):
        return shards_in(Path(source)) or None
    return [Path(source)] if is_table(source) or is_archive(source) else None


def is_table(path: str) -> bool:
    """Whether a file of this name is a table."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def is_pattern(source: str) -> bool:
    """Whether a name is a pattern, such as `data/*.parquet` or `train-{0000..0003}.tar`, and no file is called so."""
    return (glob.has_magic(source) or _RANGE.search(source) is not None) and not os.path.lexists(source)


def matches(pattern: str) -> list[str]:
    """What a pattern stands for, sorted; of a range of numbers, files that aren't there too.

    Raises:
        DataError: the range has too many numbers.
    """
    named = expanded(pattern)
    found = {path for name in named for path in (glob.glob(name, recursive=True) if glob.has_magic(name) else [name])}
    return sorted(found, key=os.fsencode)


def expanded(pattern: str) -> list[str]:
    """A pattern with its range of numbers written out."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    if last - first >= _MOST_NUMBERS:
        raise DataError(
            f"{printable(pattern)!r} stands for more than {_MOST_NUMBERS:,} files. Give a pattern with '*'."
        )
    start, end, digits = pattern[: match.start()], pattern[match.end() :], len(match[1])
    return [f"{start}{k:0{digits}}{end}" for k in range(first, last + 1)]


def shards_in(folder: Path) -> list[Path]:
    """The tables below a folder in which there are no images, or else the archives, sorted."""
    if holds_images(Folder(folder)):
        return []
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        if _RUN in files:  # a training wrote it, with tables of its own
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    tables, archives = ([path for path in found if is_shard(str(path))] for is_shard in (is_table, is_archive))
    return sorted(tables or archives, key=os.fsencode)


def read_shards(paths: Sequence[Path], read: Callable[[Path], LabelTable]) -> LabelTable:
    """The images that several tables or archives hold, as one table; `read` reads one of them.

    Where nothing inside says which split an image is in, the names of the files or of the folders around them do, such
    as `train-00000-of-00002.parquet` or `test/0.parquet`.

    Raises:
        DataError: as `read` does; or the tables have different class names, or only some files name a split.
    """
    parts = [read(path) for path in paths]
    if len(parts) == 1:
        return _with_notes(parts[0], _of_missing_shards(paths))
    for path, part in zip(paths, parts, strict=True):
        if part.class_names != parts[0].class_names:
            raise DataError(
                f"{printable(str(path))!r} has other class names than {printable(str(paths[0]))!r}: "
                f"{_names(part)} and {_names(parts[0])}. Expected tables of one data set."
            )
    splits = [part.splits for part in parts]
    named = _splits(paths)
    if all(split is None for split in splits) and named:
        splits = [np.full(len(part.source), split) for part, split in zip(parts, named, strict=True)]
    _require_all([split is not None for split in splits], paths, "column with its split")
    groups = [part.groups for part in parts]
    table = LabelTable(
        source=JoinedImages(tuple(part.source for part in parts)),
        labels=np.concatenate([part.labels for part in parts]),
        class_names=parts[0].class_names,
        splits=np.concatenate([split for split in splits if split is not None]) if splits[0] is not None else None,
        groups=np.concatenate([group for group in groups if group is not None]) if groups[0] is not None else None,
        notes=tuple(note for part in parts for note in part.notes),
    )
    return _with_notes(table, _of_missing_shards(paths))


def _splits(paths: Sequence[Path]) -> list[str]:
    """The split of each file by its name, or by that of the innermost folder that has one; none where all have one.

    Raises:
        DataError: some files name no split, beside others that name several.
    """
    above = Path(os.path.commonpath([path.parent for path in paths]))
    found = []
    for path in paths:
        names = [stem_of(path), *reversed(path.parent.relative_to(above).parts)]
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
            f"The {listed(without, what=_FILES, most=3)} {has} no {what}, and others have one."
            " Move the former elsewhere, or give a pattern that leaves them out."
        )


def _of_missing_shards(paths: Sequence[Path]) -> list[str]:
    """What there is to say of numbered files that are not among `paths`."""
    numbers: defaultdict[tuple[Path, str, int], int] = defaultdict(int)
    for path in paths:
        if match := _NUMBERED.fullmatch(stem_of(path)):
            numbers[path.parent, match[1], int(match[3])] += 1
    return [
        f"{n} of {of} files called '{printable(name)}-…' {'is' if n == 1 else 'are'} read; give their folder, or a "
        "pattern, to read all."
        for (_, name, of), n in numbers.items()
        if n < of
    ]


def _names(table: LabelTable) -> str:
    return ", ".join(map(repr, (table.class_names or ())[:5])) or "none"


def _with_notes(table: LabelTable, notes: Sequence[str]) -> LabelTable:
    return replace(table, notes=(*table.notes, *notes))
