"""Images in an object store: which objects are images, and of which class each is, by its key."""

from __future__ import annotations

import glob
import posixpath
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from topwork.data.archives import is_archive
from topwork.data.decoding import MAX_BYTES, SUFFIXES
from topwork.data.folders import Grouping
from topwork.data.labels import normal_form
from topwork.data.layouts import split_of
from topwork.data.shards import expanded
from topwork.data.sources import ObjectImages
from topwork.data.table import LabelTable, require_known_classes
from topwork.data.walking import PassedOver
from topwork.errors import DataError, StorageError
from topwork.files import cache_dir, fingerprint, one_at_a_time, printable, read_json, storage_errors, write_json
from topwork.memory import gigabytes
from topwork.objects import Prefix
from topwork.progress import Reporter
from topwork.words import counted

_MARKS = "marks.json"
"""Beside fetched files: what the object store said of the content of each."""

_OWN = re.compile(r"(.*/)?(parts-[0-9a-f]{32}|plans/[0-9a-f]{32})/")
"""Where Topwork keeps answers and plans."""


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


def fetch_files(address: str, reporter: Reporter) -> str | None:
    """A local name of what an address stands for, where that is tables or archives: they are fetched into the cache.

    Args:
        address: one file, such as `s3://bucket/photos.zip`; a pattern, such as `s3://bucket/data/train-*.parquet`; or
            what lies above them. What was fetched before is fetched again only where it has changed.
        reporter: hears how far it is.

    Returns:
        A file, a pattern or a folder; None where images themselves lie below the address.

    Raises:
        DataError: a table that holds no images, but names of files.
        StorageError: there is no room.
        ObjectStoreError: see `Prefix`.
    """
    if address.lower().endswith((".csv", ".tsv")):
        raise DataError(
            f"{printable(address)!r}: tables of file names are read from this machine. Copy it and the images here, or "
            "give a Parquet table that holds the images."
        )
    names = expanded(address)
    is_named = glob.has_magic(address) or len(names) > 1 or _is_packed(address)
    above = posixpath.dirname(_plain_part(address)) if is_named else address.rstrip("/")
    prefix = Prefix(f"{above}/")
    if not is_named and not _begins_with_files(prefix):
        return None
    is_one = len(names) == 1 and not glob.has_magic(address) and is_named
    listed = [prefix.facts(posixpath.basename(address))] if is_one else prefix.objects()
    there = {facts.key: facts for facts in listed if not _OWN.match(facts.key)}
    patterns = [f"/{name.removeprefix(prefix.address)}" for name in names]
    wanted = [
        facts
        for key, facts in there.items()
        if _is_packed(key) and (not is_named or any(PurePosixPath(f"/{key}").match(pattern) for pattern in patterns))
    ]
    folder = cache_dir() / "fetched" / fingerprint({"address": prefix.address})
    with storage_errors(folder), one_at_a_time(folder):
        marks = read_json(folder / _MARKS) or {}
        for key in set() if is_one else set(marks) - set(there):
            (folder / key).unlink(missing_ok=True)
            del marks[key]
        missing = [facts for facts in wanted if marks.get(facts.key) != facts.mark or not (folder / facts.key).exists()]
        _require_room(sum(facts.size for facts in missing), folder, address)
        with reporter.task("Fetching files", sum(facts.size for facts in missing) // 10**6, "MB") as task:
            for facts in missing:
                prefix.fetch(facts.key, folder / facts.key, task)
                marks[facts.key] = facts.mark
                write_json(folder / _MARKS, marks)
    return str(folder / address.removeprefix(prefix.address)) if is_named else str(folder)


def _plain_part(address: str) -> str:
    """An address up to the first sign of a pattern in it."""
    return re.split(r"[*?\[{]", address, maxsplit=1)[0]


def _is_packed(name: str) -> bool:
    return is_archive(name) or name.lower().endswith(".parquet")


def _begins_with_files(prefix: Prefix) -> bool:
    """Whether the first of the objects that can be read is a table or an archive."""
    keys = (facts.key for facts in prefix.objects() if not _OWN.match(facts.key))
    return next((_is_packed(key) for key in keys if _is_packed(key) or _has_suffix(key)), False)


def _require_room(n_bytes: int, folder: Path, address: str) -> None:
    free = shutil.disk_usage(folder.parent).free
    if n_bytes > free:
        raise StorageError(
            f"The files at {printable(address)!r} take {gigabytes(n_bytes)}, and {str(folder.parent)!r} has "
            f"{gigabytes(free)} left. Make room, or set TOPWORK_CACHE to a folder with more."
        )


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
