"""Which files below a folder are images, and what is passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from topwork.data.decoding import SUFFIXES, UNREAD_SUFFIXES
from topwork.data.raw import SUFFIXES as RAW_SUFFIXES
from topwork.files import printable
from topwork.words import counted, listed

_OTHERS_FOLDERS = frozenset(
    {
        *("__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
        *("$recycle.bin", "system volume information", "lost+found"),
    }
)
"""Folders that operating systems, storage devices and Python make, in small letters; @eaDir holds thumbnails."""

Walk: TypeAlias = Callable[[str], Iterator[tuple[str, list[str], list[str]]]]
"""Each folder from one on downwards, with the names of its folders and files, as `os.walk` has them."""


def _walk_disk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    return os.walk(folder)


@dataclass(frozen=True)
class Folder:
    """A folder with images: on a disk, or in an archive, whose own `walk` it then has."""

    path: Path
    walk: Walk = field(default=_walk_disk, compare=False, repr=False)

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path / name, self.walk)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name

    @property
    def parent(self) -> Folder:
        """The folder that it lies in."""
        return Folder(self.path.parent, self.walk)

    @property
    def is_packed(self) -> bool:
        """Whether it lies in an archive."""
        return self.walk is not _walk_disk

    def inside(self) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files directly in it."""
        for _, folders, files in self.walk(str(self.path)):
            return folders, files
        return [], os.listdir(self.path)  # which raises what is wrong with it


@dataclass
class PassedOver:
    """What was not taken for an image.

    Attributes:
        others: files without an image's suffix, by suffix.
        hidden: images in hidden files and folders, and in folders that other programs make, by their names.
        links: links to folders, which are not followed.
        raw: cameras' raw files beside a picture of the same name, which the camera made of them.
    """

    others: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    raw: int = 0

    def texts(self) -> list[str]:
        """What was passed over, a sentence for each kind."""
        texts = []
        if n := sum(self.hidden.values()):
            found = sorted(name for name, n in self.hidden.items() if n)
            names = ", ".join(map(repr, found[:5])) + (", …" if len(found) > 5 else "")
            texts.append(f"{counted(n, 'image')} that other programs keep in {names} {_were(n)} left out.")
        if self.links:
            texts.append(f"the {listed(self.links, what=('link', 'links'))} to other folders: not followed.")
        if self.raw:
            texts.append(
                f"{counted(self.raw, 'raw file')} of cameras, each beside a picture of the same name: left out."
            )
        if n := sum(self.others.values()):
            kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in self.others.most_common(5))
            texts.append(f"{counted(n, 'file')} without an image's suffix {_were(n)} left out ({kinds}).")
        return texts


def image_files(folder: Folder, passed_over: PassedOver) -> Iterator[str]:
    """Every file with an image's suffix below `folder`, but for hidden ones and those of other programs."""
    for place, folders, files in folder.walk(str(folder.path)):
        for name in folders:
            if _is_others(name):
                passed_over.hidden[printable(name)] += _n_with_suffix(Folder(Path(place, name), folder.walk))
            elif os.path.islink(os.path.join(place, name)):
                passed_over.links.append(printable(name))
        folders[:] = sorted(name for name in folders if not _is_others(name))
        raw = set(filter(_is_raw, files))
        developed = {_stem(name) for name in files if name not in raw and _has_suffix(name)} if raw else set()
        for name in files:
            if name in raw and _stem(name) in developed:
                passed_over.raw += 1
            elif name.startswith("."):
                passed_over.hidden[printable(name)] += _has_suffix(name)
            elif _has_suffix(name):
                yield os.path.join(place, name)
            else:
                passed_over.others[printable(os.path.splitext(name)[1].lower()) or "none"] += 1


def sorted_image_files(folder: Folder, passed_over: PassedOver) -> list[str]:
    """What `image_files` finds, by the bytes of the paths: the same order on every machine."""
    return sorted(image_files(folder, passed_over), key=os.fsencode)


def subfolders(folder: Folder, passed_over: PassedOver | None = None) -> list[Folder]:
    """The folders in a folder, but for hidden ones, those of other programs, and links to it or above it.

    `passed_over` hears of images in the former, and of hidden ones beside them.
    """
    found = []
    folders, files = folder.inside()
    if passed_over is not None:
        for name in files:
            if name.startswith(".") and _has_suffix(name):
                passed_over.hidden[printable(name)] += 1
    for entry in (folder / name for name in folders):
        if _leads_above(entry, folder):
            continue
        if not _is_others(entry.name):
            found.append(entry)
        elif passed_over is not None:
            passed_over.hidden[printable(entry.name)] += _n_with_suffix(entry)
    return sorted(found, key=lambda entry: os.fsencode(entry.name))


def links_above(folder: Folder) -> list[str]:
    """The links in a folder that lead to it or above it."""
    return sorted(printable(name) for name in folder.inside()[0] if _leads_above(folder / name, folder))


def n_images(folder: Folder, passed_over: PassedOver | None = None) -> int:
    """How many images there are below a folder."""
    return sum(1 for _ in image_files(folder, passed_over or PassedOver()))


def n_loose(folder: Folder) -> int:
    """How many images lie directly in a folder."""
    return sum(_has_suffix(name) and not name.startswith(".") for name in folder.inside()[1])


def holds_images(folder: Folder) -> bool:
    """Whether there are images below a folder."""
    return any(True for _ in image_files(folder, PassedOver()))


def _leads_above(entry: Folder, folder: Folder) -> bool:
    return entry.path.is_symlink() and folder.path.resolve().is_relative_to(entry.path.resolve())


def _n_with_suffix(folder: Folder) -> int:
    return sum(_has_suffix(name) for _, _, files in folder.walk(str(folder.path)) for name in files)


def _has_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES | UNREAD_SUFFIXES


def _is_raw(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in RAW_SUFFIXES


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].casefold()


def _is_others(folder_name: str) -> bool:
    return folder_name.startswith(".") or folder_name.lower() in _OTHERS_FOLDERS


def _were(n: int) -> str:
    return "was" if n == 1 else "were"
