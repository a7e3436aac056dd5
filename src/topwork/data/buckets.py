"""Images in an object store: which objects are images, and of which class each is, by its key."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topwork.data.decoding import MAX_BYTES, SUFFIXES
from topwork.data.folders import Grouping
from topwork.data.labels import normal_form
from topwork.data.layouts import split_of
from topwork.data.sources import ObjectImages
from topwork.data.table import LabelTable, require_known_classes
from topwork.data.walking import PassedOver
from topwork.errors import DataError
from topwork.files import printable
from topwork.objects import Prefix
from topwork.words import counted


def find_objects(address: str, passed_over: PassedOver) -> ObjectImages:
    """The images below an address, in the order of their keys; or the one that it names.

    Args:
        address: such as `s3://bucket/photos/`.
        passed_over: hears of other objects.

    Raises:
        DataError: there is no image, or one that is too large.
        ObjectStoreError: see `Prefix`.
    """
    if _has_suffix(address):
        folder, name = posixpath.split(address)
        prefix = Prefix(f"{folder}/")
        found = [prefix.facts(name)]
    else:
        prefix = Prefix(address.rstrip("/") + "/")
        found = [facts for facts in prefix.objects() if is_image(facts.key, passed_over)]
    if not found:
        raise DataError(f"There is no image in {printable(address)!r}. {' '.join(passed_over.texts())}".rstrip())
    too_large = next((facts for facts in found if facts.size > MAX_BYTES), None)
    if too_large:
        raise DataError(
            f"{printable(prefix.address + too_large.key)!r} has {too_large.size:,} bytes; {MAX_BYTES:,} are allowed. "
            "Move it elsewhere."
        )
    found.sort(key=lambda facts: facts.key.encode())
    return ObjectImages(prefix, tuple(facts.key for facts in found), tuple(facts.mark for facts in found))


def is_image(key: str, passed_over: PassedOver) -> bool:
    """Whether an object is taken for an image, by its key; `passed_over` hears of others."""
    name = posixpath.basename(key)
    if any(part.startswith(".") for part in key.split("/")):
        passed_over.hidden[printable(name)] += _has_suffix(name)
        return False
    if not _has_suffix(name):
        passed_over.others[printable(posixpath.splitext(name)[1].lower()) or "none"] += 1
    return _has_suffix(name)


def read_bucket(address: str, ignore_classes: Sequence[str], grouping: Grouping) -> LabelTable:
    """The images below an address, labelled by the first folder of their keys; or by the second, below a split's.

    Raises:
        DataError: no images, none in a folder, or one that is too large.
        ObjectStoreError: see `Prefix`.
    """
    passed_over = PassedOver()
    source = find_objects(address, passed_over)
    splits = _splits(source.keys)
    depth = 1 if splits else 0
    ignored = [normal_form(name) for name in ignore_classes]
    parts = [key.split("/") for key in source.keys]
    names = [normal_form(printable(part[depth])) if len(part) > depth + 1 else "" for part in parts]
    require_known_classes(ignored, names)
    rows = [row for row, name in enumerate(names) if name and name not in ignored]
    if not rows:
        raise DataError(
            f"{printable(address)!r} holds {counted(len(names), 'image')} but no class folders with images. Expected "
            "keys such as 'photos/CLASS/1.jpg' below it."
        )
    notes = passed_over.texts()
    if n_loose := names.count(""):
        notes.append(f"{counted(n_loose, 'image')} in {printable(address)!r}, outside the class folders, left out.")
    keys = tuple(source.keys[row] for row in rows)
    marks = tuple(source.marks[row] for row in rows)
    paths = [f"/{key}" for key in keys]
    folders = [Path("/", *parts[row][: depth + 1]) for row in rows]
    return LabelTable(
        source=ObjectImages(source.prefix, keys, marks, source.prefix.address),
        labels=np.array([names[row] for row in rows]),
        splits=np.array([splits[parts[row][0]] for row in rows]) if splits else None,
        groups=grouping.groups(Path("/"), paths, folders),
        are_folders=True,
        notes=tuple(notes),
    )


def _splits(keys: Sequence[str]) -> dict[str, str]:
    """The split of each first folder, where all are clearly splits; else none."""
    tops = {key.split("/")[0] for key in keys if "/" in key}
    found = {top: split_of(top) or "" for top in tops}
    return found if all(found.values()) and len(set(found.values())) == len(found) > 1 else {}


def _has_suffix(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in SUFFIXES
