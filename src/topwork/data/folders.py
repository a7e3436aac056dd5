"""Images in a folder with a sub-folder per class."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from topwork.data.decoding import SUFFIXES
from topwork.data.sources import FileImages
from topwork.data.splits import TRAIN
from topwork.data.table import SIDE_OF_NAME, LabelTable, require_known_classes
from topwork.errors import DataError, OptionError
from topwork.files import printable
from topwork.types import GroupBy, StrArray
from topwork.words import counted, listed, without


@dataclass(frozen=True)
class Grouping:
    """Which images stay together in one split: see `ImageDataset.from_directory`.

    Raises:
        OptionError: both ways at once, an unknown one, or no regular expression with a capture.
    """

    by: GroupBy | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.by not in (None, *get_args(GroupBy)):
            raise OptionError(f"Expected group_by to be 'folder'; got {self.by!r}.")
        if self.by and self.pattern:
            raise OptionError("Expected group_by or group_pattern; got both.")
        try:
            if self.pattern and re.compile(self.pattern).groups < 1:
                raise OptionError(
                    f"Expected group_pattern with a capture, such as '(site[0-9]+)'; got {self.pattern!r}."
                )
        except re.error as error:
            raise OptionError(f"group_pattern {self.pattern!r} is no regular expression: {error}.") from error

    def groups(self, root: Path, paths: list[str], class_folders: list[Path]) -> StrArray | None:
        """`(N,)`, the group of each image; None where there are none."""
        if self.by is None and self.pattern is None:
            return None
        if self.pattern is None:
            return np.array([_inner_folder(path, folder) for path, folder in zip(paths, class_folders, strict=True)])
        below = [Path(path).relative_to(root).as_posix() for path in paths]
        found = [re.search(self.pattern, path) for path in below]
        missing = [path for path, match in zip(below, found, strict=True) if not match or match[1] is None]
        if missing:
            raise DataError(
                f"group_pattern {self.pattern!r} finds nothing in {len(missing):,} of {len(below):,} paths, such as "
                f"{printable(missing[0])!r}. Change the pattern, so that every image has a group."
            )
        return np.array([printable(match[1]) for match in found if match])


def _inner_folder(path: str, class_folder: Path) -> str:
    """The folder of an image below its class folder; for one that lies directly in it, the image itself."""
    inner = Path(path).relative_to(class_folder)
    return printable(inner.parent.as_posix()) if len(inner.parts) > 1 else printable(path)


def read_folder(root: Path, ignore_classes: Sequence[str], grouping: Grouping) -> LabelTable:
    """The images below `root`, labelled by their class folder.

    Raises:
        DataError: no such folder, or no images.
    """
    _require_folder(root)
    names = {printable(entry.name) for entry in _subfolders(root)}
    if len(names) == 1 and SIDE_OF_NAME.get(min(names).lower()) == TRAIN:
        return read_folder(root / min(names), ignore_classes, grouping)
    side_folders, remarks = _side_folders(root, ignore_classes)
    paths: list[str] = []
    labels: list[str] = []
    sides: list[str] = []
    class_folders: list[Path] = []
    passed_over: Counter[str] = Counter()
    for side, folder in side_folders or [("", root)]:
        for class_folder in _subfolders(folder):
            name = printable(class_folder.name)
            names.add(name)
            if name in ignore_classes:
                continue
            found = sorted(image_files(class_folder, passed_over), key=os.fsencode)
            remarks += _remarks(class_folder, found)
            paths += found
            labels += [name] * len(found)
            sides += [side] * len(found)
            class_folders += [class_folder] * len(found)
    require_known_classes(ignore_classes, names)
    if not paths:
        raise DataError(_why_no_images(root))
    return LabelTable(
        source=FileImages(tuple(paths), str(root)),
        labels=np.array(labels),
        sides=np.array(sides) if side_folders else None,
        groups=grouping.groups(root, paths, class_folders),
        are_folders=True,
        notes=(*remarks, *_notes(root, passed_over)),
    )


def image_files(folder: Path, passed_over: Counter[str]) -> Iterator[str]:
    """Every file with an image's suffix below `folder`, hidden ones left out; counts the others by suffix."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.startswith("."):
                continue
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES:
                yield os.path.join(place, name)
            else:
                passed_over[printable(suffix) or "none"] += 1


def _require_folder(root: Path) -> None:
    shown = printable(str(root))
    if not root.exists():
        raise DataError(
            f"There is no {shown!r}. Expected a folder with a sub-folder per class, a CSV or Parquet table, "
            "or one of digits, mnist, fashion_mnist, cifar10, cifar100."
        )
    if not root.is_dir():
        raise DataError(
            f"{shown!r} is a file. Expected a folder with a sub-folder per class, or a table in .csv or .parquet."
        )


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, and links to folders, but for links that lead back to it or above it."""
    above = folder.resolve()
    found = (
        entry
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and not above.is_relative_to(entry.resolve())
    )
    return sorted(found, key=lambda entry: os.fsencode(entry.name))


def _side_folders(root: Path, ignore_classes: Sequence[str]) -> tuple[list[tuple[str, Path]], list[str]]:
    """`train/`, `validation/`, `test/` where these are what the folder holds; and what was passed over beside them."""
    found = [(SIDE_OF_NAME.get(entry.name.lower(), ""), entry) for entry in _subfolders(root)]
    found = [(side, entry) for side, entry in found if printable(entry.name) not in ignore_classes]
    sides = [side for side, _ in found]
    if TRAIN not in sides or len({*sides} - {""}) < 2:
        return [], []
    others = [entry for side, entry in found if not side]
    with_images = [printable(entry.name) for entry in others if any(image_files(entry, Counter()))]
    if with_images:
        raise DataError(
            f"{printable(str(root))!r} holds the {listed(with_images, what=('folder', 'folders'))} with images beside "
            f"folders for training and testing. Move them elsewhere, or leave them out: {without(with_images)}."
        )
    if len({*sides} - {""}) < len(sides) - len(others):
        names = ", ".join(entry.name for side, entry in found if side)
        raise DataError(f"{printable(str(root))!r} has two folders for one split: {names}.")
    remarks = []
    if others:
        names = listed([printable(entry.name) for entry in others], what=("folder", "folders"))
        remarks.append(f"{printable(str(root))!r} holds the {names} without images: passed over.")
    return [(side, entry) for side, entry in found if side], remarks + _flat_remarks(found)


def _flat_remarks(found: list[tuple[str, Path]]) -> list[str]:
    """Folders of a split whose images lie in no class folder, as images to be answered often do."""
    remarks = []
    for side, folder in found:
        n = _n_loose(folder) if side else 0
        if n and not _subfolders(folder):
            shown = printable(str(folder))
            remarks.append(
                f"{shown!r} holds {counted(n, 'image')} without class folders: no labels, so left out. "
                f"`topwork predict RUN {shlex.quote(shown)}` answers them."
            )
    return remarks


def _n_loose(folder: Path) -> int:
    """The images that lie directly in a folder."""
    return sum(1 for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)


def _why_no_images(root: Path) -> str:
    loose = _n_loose(root)
    shown = printable(str(root))
    if loose:
        return (
            f"{shown!r} holds {loose:,} images but no sub-folder with images. Put them in one sub-folder per class, "
            "or list them with their labels in a CSV file with the columns `path` and `label`."
        )
    return (
        f"There are no images in {shown!r}. Expected one sub-folder per class with {', '.join(sorted(SUFFIXES))} files."
    )


def _remarks(class_folder: Path, found: list[str]) -> list[str]:
    """What a person may not have meant by a class folder."""
    shown = printable(str(class_folder))
    if not found:
        return [f"{shown!r} holds no images; it is left out."]
    parts = (Path(path).relative_to(class_folder).parts for path in found)
    inner = sorted({first for first, *rest in parts if rest})
    if len(inner) < 2:
        return []
    names = ", ".join(map(printable, inner[:3])) + (", …" if len(inner) > 3 else "")
    return [f"images in sub-folders of {shown!r} ({names}) all count as {printable(class_folder.name)!r}."]


def _notes(root: Path, passed_over: Counter[str]) -> tuple[str, ...]:
    notes = []
    above = root.resolve()
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
    loops = [printable(entry.name) for entry in folders if above.is_relative_to(entry.resolve())]
    if loops:
        notes.append(f"the {listed(loops, what=('link', 'links'))} to a folder above the images: passed over.")
    loose = _n_loose(root)
    if loose:
        notes.append(f"{loose:,} images lie outside the class folders and were left out.")
    if passed_over:
        notes.append(passed_over_text(passed_over))
    return tuple(notes)


def passed_over_text(passed_over: Counter[str]) -> str:
    """How many files have no image's suffix, and which they have; nothing where there are none."""
    if not passed_over:
        return ""
    kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in passed_over.most_common(5))
    n = sum(passed_over.values())
    return f"{counted(n, 'file')} without an image's suffix {'was' if n == 1 else 'were'} left out ({kinds})."
