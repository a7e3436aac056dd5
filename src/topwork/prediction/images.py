"""Which images does a person mean by these words: files, folders, patterns, tables, standard input?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from topwork.data.archives import is_archive, open_archive
from topwork.data.buckets import fetch_files, find_objects
from topwork.data.decoding import MAX_BYTES, begins_as_image
from topwork.data.shards import is_pattern, is_table, matches, shards_in
from topwork.data.sources import ArchiveImages, EncodedImage, FileImages, ImageSource, JoinedImages
from topwork.data.tables import read_images
from topwork.data.walking import Folder, PassedOver, sorted_image_files
from topwork.errors import DataError
from topwork.files import printable
from topwork.objects import is_address
from topwork.progress import Reporter

STANDARD_INPUT = "-"
_HEAD = 16
"""Bytes that tell an encoded image from a list of paths."""


def find_images(
    words: Iterable[str],
    *,
    image_column: str | None = None,
    image_root: Path | None = None,
    stdin: BinaryIO | None = None,
    reporter: Reporter | None = None,
) -> ImageSource:
    """The images that `words` name, in that order, as one source. Only their names are held; none is opened.

    A word is an image file (one that isn't there counts as an image that can't be read); a folder, with all images
    below it, or else all tables or archives; a table (`.csv`, `.tsv`, `.parquet`) with paths or encoded images; an
    archive (`.zip`, `.tar`, `.tar.gz`); a pattern such as `new/**/*.jpg`, which stands for what it matches, unless a
    file is called so; an address in an object store, such as `s3://bucket/new/`; or `-`: what `stdin` holds, paths one
    a line or separated by NUL, or one encoded image.

    Args:
        words: as they were typed.
        image_column: the column of tables that holds the images; None finds it by its usual names.
        image_root: the folder that the paths in tables start from; None is the table's own.
        stdin: standard input, where `-` is among the words.
        reporter: hears what was passed over.

    Raises:
        DataError: a folder without images, a pattern that matches nothing, a table that can't be read or lacks the
            column, nothing in standard input, or `-` twice.
    """
    parts: list[ImageSource] = []
    paths: list[str] = []
    for found in _each(words, _Tables(image_column, image_root, reporter), stdin):
        if isinstance(found, str):
            paths.append(found)
            continue
        if paths:
            parts.append(FileImages(tuple(paths)))
            paths = []
        parts.append(found)
    if paths:
        parts.append(FileImages(tuple(paths)))
    return parts[0] if len(parts) == 1 else JoinedImages(tuple(parts))


@dataclass(frozen=True)
class _Tables:
    """How tables are read."""

    image_column: str | None
    image_root: Path | None
    reporter: Reporter | None

    def read(self, path: Path) -> ImageSource:
        if is_archive(path.name):
            return _packed_images(path, self.reporter)
        return read_images(path, self.image_column, self.image_root, self.reporter)


def _each(words: Iterable[str], tables: _Tables, stdin: BinaryIO | None) -> Iterator[str | ImageSource]:
    """A path for each image file, a source for each table or image of another kind."""
    is_read = False
    for word in words:
        if word != STANDARD_INPUT:
            yield from _named(word, tables, _matches(word))
            continue
        if is_read:
            raise DataError("Standard input ('-') can be read once only. Name it once.")
        is_read = True
        yield from _from_stdin(stdin, tables)


def _named(word: str, tables: _Tables, matches: list[str] | None) -> Iterator[str | ImageSource]:
    if is_address(word):
        local = fetch_files(word, tables.reporter or Reporter())
        if local is None:
            yield _remote_images(word, tables.reporter)
        else:
            yield from _named(local, tables, _matches(local))
        return
    for path in [word] if matches is None else matches:
        if os.path.isdir(path):
            inside = shards_in(Path(path))
            yield from map(tables.read, inside) if inside else folder_images(path, tables.reporter)
        elif is_table(path) or is_archive(path):
            yield tables.read(Path(path))
        else:
            yield path


def folder_images(folder: str, reporter: Reporter | None = None) -> list[str]:
    """The image files below `folder`, sorted; `reporter` hears how many other files there are.

    Raises:
        DataError: there are none.
    """
    return _images_in(Folder(Path(folder)), (), reporter)


def _packed_images(path: Path, reporter: Reporter | None) -> ArchiveImages:
    """All images in an archive, whatever labels it has."""
    archive = open_archive(path)
    paths = _images_in(archive.root, archive.remarks, reporter)
    return ArchiveImages(archive, tuple(paths[i] for i in archive.in_order(paths)))


def _images_in(folder: Folder, remarks: Sequence[str], reporter: Reporter | None) -> list[str]:
    passed_over, shown = PassedOver(), repr(printable(str(folder)))
    found = sorted_image_files(folder, passed_over)
    others = " ".join([*remarks, *passed_over.texts()])
    if not found:
        raise DataError(f"There are no images in {shown}. {others}".rstrip())
    if others and reporter is not None:
        reporter.note(f"{shown}: {others}")
    return found


def _remote_images(address: str, reporter: Reporter | None) -> ImageSource:
    passed_over = PassedOver()
    found = find_objects(address, passed_over)
    if (others := passed_over.texts()) and reporter is not None:
        reporter.note(f"{printable(address)!r}: {' '.join(others)}")
    return found


def _matches(word: str) -> list[str] | None:
    """The files that a pattern matches, sorted; None where `word` is no pattern, or a file is called so."""
    if is_address(word) or not is_pattern(word):
        return None
    found = [path for path in matches(word) if not os.path.isdir(path)]
    if not found:
        raise DataError(
            f"Nothing matches {printable(word)!r}. Expected a pattern such as 'new/*.jpg', or 'new/**/*.jpg' for "
            "folders in folders too."
        )
    return found


def _from_stdin(stdin: BinaryIO | None, tables: _Tables) -> Iterator[str | ImageSource]:
    content = stdin.read(MAX_BYTES + 1) if stdin is not None else b""
    if len(content) > MAX_BYTES:
        raise DataError(f"Standard input holds more than {MAX_BYTES:,} bytes. Give the paths in several calls.")
    if begins_as_image(content[:_HEAD]):
        yield EncodedImage(content, "standard input")
        return
    words = paths_in(content)
    if not words:
        raise DataError(
            "Standard input is empty. Expected paths, one a line or separated by NUL (find … -print0), or one image."
        )
    for word in words:
        yield from _named(word, tables, None)


def paths_in(content: bytes) -> list[str]:
    """The paths in `content`: separated by NUL where there is one in it, else by line ends; empty ones left out."""
    pieces = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [os.fsdecode(piece) for piece in pieces if piece.strip()]
