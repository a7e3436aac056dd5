"""Images in a folder with a sub-folder per class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from topwork.data.decoding import SUFFIXES
from topwork.data.sources import FileImages
from topwork.data.splits import TRAIN
from topwork.data.table import SIDE_OF_NAME, LabelTable
from topwork.errors import DataError, did_you_mean
from topwork.files import printable


def read_folder(root: Path, ignore_classes: Sequence[str]) -> LabelTable:
    """The images below `root`, labelled by their class folder.

    Raises:
        DataError: no such folder, no images, or class folders that differ between splits.
    """
    _require_folder(root)
    names = {printable(entry.name) for entry in _subfolders(root)}
    if len(names) == 1 and SIDE_OF_NAME.get(min(names).lower()) == TRAIN:
        return read_folder(root / min(names), ignore_classes)
    side_folders = _side_folders(root, ignore_classes)
    paths: list[str] = []
    labels: list[str] = []
    sides: list[str] = []
    passed_over: Counter[str] = Counter()
    remarks: list[str] = []
    classes_of: dict[Path, set[str]] = {}
    for side, folder in side_folders or [("", root)]:
        for class_folder in _subfolders(folder):
            name = printable(class_folder.name)
            names.add(name)
            if name in ignore_classes:
                continue
            found = sorted(image_files(class_folder, passed_over), key=os.fsencode)
            remarks += _remarks(class_folder, found)
            classes_of.setdefault(folder, set()).add(name)
            paths += found
            labels += [name] * len(found)
            sides += [side] * len(found)
    _require_known(ignore_classes, names)
    if not paths:
        raise DataError(_why_no_images(root))
    if side_folders:
        _require_same_classes(classes_of, next(folder for side, folder in side_folders if side == TRAIN))
    return LabelTable(
        source=FileImages(tuple(paths), str(root)),
        labels=np.array(labels),
        sides=np.array(sides) if side_folders else None,
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
    found = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return sorted(found, key=lambda entry: os.fsencode(entry.name))


def _require_known(ignore_classes: Sequence[str], names: set[str]) -> None:
    for name in ignore_classes:
        if name not in names:
            raise DataError(f"There is no class folder {name!r} to leave out.{did_you_mean(name, names)}")


def _side_folders(root: Path, ignore_classes: Sequence[str]) -> list[tuple[str, Path]]:
    """`train/`, `validation/`, `test/` where these are what the folder holds."""
    found = [(SIDE_OF_NAME.get(entry.name.lower(), ""), entry) for entry in _subfolders(root)]
    found = [(side, entry) for side, entry in found if printable(entry.name) not in ignore_classes]
    sides = [side for side, _ in found]
    if TRAIN not in sides or len({*sides} - {""}) < 2:
        return []
    for side, entry in found:
        if not side:
            raise DataError(
                f"{printable(str(root))!r} holds {printable(entry.name)!r} beside folders for training and testing. "
                f"Move it elsewhere, or leave it out with --ignore-class {printable(entry.name)}."
            )
    if len(set(sides)) < len(sides):
        raise DataError(
            f"{printable(str(root))!r} has two folders for one split: {', '.join(e.name for _, e in found)}."
        )
    return found


def _require_same_classes(classes_of: dict[Path, set[str]], train: Path) -> None:
    known = classes_of.get(train, set())
    for folder, names in classes_of.items():
        for name in sorted(names - known):
            raise DataError(
                f"{printable(str(folder))!r} has a class {name!r} that {printable(str(train))!r} does not. "
                f"Add training images of it, or leave it out with --ignore-class {name}."
            )
        for name in sorted(known - names):
            raise DataError(
                f"{printable(str(train))!r} has a class {name!r} that {printable(str(folder))!r} does not. "
                f"Add images of it there, or leave it out with --ignore-class {name}."
            )


def _why_no_images(root: Path) -> str:
    loose = sum(1 for entry in root.iterdir() if entry.suffix.lower() in SUFFIXES)
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
    loose = sum(1 for entry in root.iterdir() if entry.suffix.lower() in SUFFIXES)
    if loose:
        notes.append(f"{loose:,} images lie outside the class folders and were left out.")
    if passed_over:
        kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in passed_over.most_common(5))
        notes.append(f"{sum(passed_over.values()):,} files without an image's suffix were left out ({kinds}).")
    return tuple(notes)
