"""Labelled images in a zip or a tar: in class folders, or with their labels in files beside them, as webdataset has it.

In the latter, members that are called alike up to the first dot belong together: `007.jpg` and `007.cls`, whose text is
the label; or `007.json`, an object in which the label has a name; or `007.txt`, where all images lie in one folder (in
class folders, such texts are of other things).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from topwork.data.archives import Archive, open_archive
from topwork.data.folders import Grouping, read_folder
from topwork.data.sources import ArchiveImages, FileImages
from topwork.data.table import LabelTable
from topwork.data.tables import LABEL_COLUMNS
from topwork.data.walking import PassedOver, sorted_image_files
from topwork.errors import DataError, did_you_mean
from topwork.files import printable

_KINDS = (".cls", ".json", ".txt")
"""Of files with labels, the first that is there counts."""


def read_archive(
    path: Path,
    *,
    label_column: str | None = None,
    ignore_classes: Sequence[str] = (),
    grouping: Grouping = Grouping(),  # noqa: B008 (frozen)
    named_from: Path | None = None,
) -> LabelTable:
    """The images in an archive with their labels.

    Args:
        path: a zip or tar.
        label_column: what the label is called in `.json` files beside the images; None finds it by its usual names.
        ignore_classes: class folders to leave out.
        grouping: which images stay together.
        named_from: the folder that the names of images start from; None is the archive.

    Raises:
        DataError: see `open_archive` and `read_folder`.
    """
    archive = open_archive(path)
    table = _by_notes(archive, label_column, grouping) or read_folder(archive.root, ignore_classes, grouping)
    paths = cast(FileImages, table.source).paths
    order = archive.in_order(paths)
    return replace(
        table,
        source=ArchiveImages(archive, tuple(paths[i] for i in order), str(named_from or path)),
        labels=table.labels[order],
        splits=None if table.splits is None else table.splits[order],
        groups=None if table.groups is None else table.groups[order],
        notes=(*archive.remarks, *table.notes),
    )


def _by_notes(archive: Archive, label_column: str | None, grouping: Grouping) -> LabelTable | None:
    """The images, where any has its label in a file beside it; else None."""
    passed_over = PassedOver()
    paths = sorted_image_files(archive.root, passed_over)
    keys = [_key(os.path.relpath(path, archive.path).replace(os.sep, "/")) for path in paths]
    for kind in _KINDS:
        if kind == ".txt" and len({os.path.dirname(path) for path in paths}) > 1:
            continue
        labels = _labels(archive, kind, set(keys), label_column)
        if labels:
            del passed_over.others[kind]
            return LabelTable(
                source=FileImages(tuple(paths)),
                labels=np.fromiter((labels.get(key) for key in keys), dtype=object, count=len(keys)),
                groups=grouping.groups(archive.path, paths, [archive.path] * len(paths)),
                notes=(f"labels are read from the {kind} files beside the images.", *passed_over.texts()),
            )
    return None


def _labels(archive: Archive, kind: str, keys: set[str], label_column: str | None) -> dict[str, Any]:
    notes = {_key(name): content for name, content in archive.notes.items() if name.lower().endswith(kind)}
    found = {key: content for key, content in notes.items() if key in keys}
    if kind != ".json":
        return {key: content.decode("utf-8-sig", "replace").strip() for key, content in found.items()}
    records = {key: record for key, content in found.items() if (record := _record(content))}
    if records and label_column and not any(label_column in record for record in records.values()):
        there = list(next(iter(records.values())))
        raise DataError(
            f"{printable(str(archive.path))!r} has no {label_column!r} in the .json files beside the images."
            f"{did_you_mean(label_column, there)} There are {', '.join(map(repr, there[:20]))}."
        )
    usual = (label_column,) if label_column else LABEL_COLUMNS
    return {
        key: next(record[name] for name in usual if name in record)
        for key, record in records.items()
        if any(name in record for name in usual)
    }


def _record(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _key(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}"
