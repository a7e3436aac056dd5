"""Images in a folder with a sub-folder per class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from topwork.data.labels import normal_form
from topwork.data.layouts import ClassFolder, find_layout, why_no_images
from topwork.data.sources import FileImages
from topwork.data.table import LabelTable, require_known_classes
from topwork.data.walking import Folder, PassedOver, sorted_image_files
from topwork.errors import DataError, OptionError
from topwork.files import printable
from topwork.types import GroupBy, StrArray
from topwork.words import first, listed


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


def read_folder(root: Folder, ignore_classes: Sequence[str], grouping: Grouping) -> LabelTable:
    """The images below `root`, labelled by their class folder.

    Raises:
        DataError: no such folder, no images, or folders that are neither classes nor splits.
    """
    if not root.is_packed:
        _require_folder(root.path)
    passed_over, ignored = PassedOver(), [normal_form(name) for name in ignore_classes]
    layout = find_layout(root, ignored, passed_over)
    require_known_classes(ignored, layout.names)
    files = [sorted_image_files(folder.folder, passed_over) for folder in layout.classes]
    paths, counts = [path for found in files for path in found], [len(found) for found in files]
    if not paths:
        raise DataError(why_no_images(root))
    return LabelTable(
        source=FileImages(tuple(paths), str(root)),
        labels=np.repeat([folder.name for folder in layout.classes], counts),
        splits=np.repeat([folder.split for folder in layout.classes], counts) if layout.has_splits else None,
        groups=grouping.groups(
            root.path, paths, list(np.repeat([folder.folder.path for folder in layout.classes], counts))
        ),
        are_folders=True,
        notes=(*layout.notes, *_of_classes(layout.classes, files, grouping), *passed_over.texts()),
    )


def _require_folder(root: Path) -> None:
    shown = printable(str(root))
    if not root.exists():
        raise DataError(
            f"There is no {shown!r}. Expected a folder with a sub-folder per class, a CSV or Parquet table, "
            "a zip or tar, or one of digits, mnist, fashion_mnist, cifar10, cifar100."
        )
    if not root.is_dir():
        raise DataError(
            f"{shown!r} is a file. Expected a folder with a sub-folder per class, a table in .csv or .parquet, or an "
            "archive in .zip, .tar or .tar.gz."
        )


def _of_classes(classes: Sequence[ClassFolder], files: list[list[str]], grouping: Grouping) -> Iterator[str]:
    """What a person may not have meant by a class folder."""
    if empty := [printable(str(folder.folder)) for folder, found in zip(classes, files, strict=True) if not found]:
        yield f"the {listed(empty, what=('folder', 'folders'))} without images: left out."
    inner = [
        f"{folder.name!r} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for folder, found in zip(classes, files, strict=True)
        if len(names := _inner_names(folder.folder.path, found)) > 1
    ]
    if inner and grouping.by is None:
        shown = first(inner, between="; ")
        yield f"images in sub-folders of a class folder all count as its class: {shown}."
        if len(inner) == len(classes) and len(inner) > 1 and len({text.partition("(")[2] for text in inner}) == 1:
            yield (
                "all class folders hold the same sub-folders. If these are the classes, put the images of each into "
                "one folder; if the folders around them are splits, call them train, validation and test."
            )


def _inner_names(class_folder: Path, files: list[str]) -> list[str]:
    """The folders directly in a class folder that hold images."""
    parts = (Path(path).relative_to(class_folder).parts for path in files)
    return sorted({printable(first) for first, *rest in parts if rest})
