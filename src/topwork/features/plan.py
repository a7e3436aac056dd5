"""Which images a large extraction has, as a fixed list of shards: a table in the store that every worker reads."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from topwork.data.buckets import is_image
from topwork.data.sources import FileImages, ImageSource, ObjectImages
from topwork.data.walking import Folder, PassedOver, sorted_image_files
from topwork.errors import DataError
from topwork.files import fingerprint, printable
from topwork.objects import Objects, Prefix, is_address

IMAGES_OF_SHARD = 2000
"""Of small images seconds of work, of large networks a minute: what a kill or a crash can cost."""
_PLANS = "plans"


@dataclass(frozen=True, eq=False)
class Plan:
    """The images below `address` in shards, each a row group of a Parquet table.

    Attributes:
        address: where the images are: a folder, or an address in an object store.
        table: the open `pyarrow.parquet.ParquetFile`, with the columns `image` (a key below `address`) and `mark`
            (which changes when the image's content does).
    """

    address: str
    table: Any

    def __len__(self) -> int:
        """How many shards there are."""
        return int(self.table.num_row_groups)

    @property
    def n_images(self) -> int:
        """How many images there are in all shards."""
        return int(self.table.metadata.num_rows)

    @property
    def images_of_shard(self) -> int:
        """How many images its first shard has, which is as many as all but the last have."""
        return int(self.table.metadata.row_group(0).num_rows)

    def shards(self, part: tuple[int, int] = (0, 1)) -> Iterator[Shard]:
        """The shards of the part `(k, n)`, one by one: those whose number leaves k when it is divided by n."""
        return map(self.shard, range(part[0], len(self), part[1]))

    def shard(self, number: int) -> Shard:
        """The images of one shard."""
        rows = self.table.read_row_group(number).to_pydict()
        return Shard(self.address, tuple(map(os.fsdecode, rows["image"])), tuple(rows["mark"]))


@dataclass(frozen=True)
class Shard:
    """A fixed list of images: keys below `address`, and the marks of their content."""

    address: str
    keys: tuple[str, ...]
    marks: tuple[str, ...]

    @property
    def name(self) -> str:
        """What follows from the list of images alone."""
        digest = blake2b(digest_size=16)
        for key, mark in zip(self.keys, self.marks, strict=True):
            digest.update(f"{key}\0{mark}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    @property
    def source(self) -> ImageSource:
        """The images."""
        if is_address(self.address):
            return ObjectImages(Prefix(self.address), self.keys, self.marks, self.address)
        return FileImages(tuple(os.path.join(self.address, key) for key in self.keys), self.address)


def make_plan(address: str, store: Objects, *, images_of_shard: int | None = None) -> Plan:
    """The plan of the images that are below `address` now, kept in `store`.

    Args:
        address: a folder, or an address in an object store.
        store: where it is kept.
        images_of_shard: None takes what the last plan had, so that what was computed serves on; or else 2,000.

    Raises:
        DataError: there are none.
        ObjectStoreError: the images, or the store, can't be reached.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    before = find_plan(address, store) if images_of_shard is None else None
    images_of_shard = images_of_shard or (before.images_of_shard if before else IMAGES_OF_SHARD)
    schema, written, number = pa.schema([("image", pa.binary()), ("mark", pa.string())]), io.BytesIO(), 0
    with parquet.ParquetWriter(written, schema) as writer:
        for keys, marks in _in_shards(_listed(address), images_of_shard):
            writer.write_table(pa.table({"image": keys, "mark": marks}, schema), row_group_size=images_of_shard)
            number += 1
    if number == 0:
        raise DataError(
            f"There is no image below {printable(address)!r}. Expected image files or objects; images in tables and "
            "archives are no parts that can be shared."
        )
    content = written.getvalue()
    folder = _folder_of(address)
    there = sorted(found.key for found in store.objects(folder))
    if not there or store.get(there[-1]) != content:
        store.put_new(f"{folder}/{len(there):06d}.parquet", content)
    return find_plan(address, store) or make_plan(address, store, images_of_shard=images_of_shard)


def find_plan(address: str, store: Objects) -> Plan | None:
    """The plan that was made last for the images below `address`; None where there is none."""
    import pyarrow.parquet as parquet

    there = sorted(found.key for found in store.objects(_folder_of(address)))
    if not there:
        return None
    return Plan(_place(address), parquet.ParquetFile(io.BytesIO(store.get(there[-1]))))


def _place(address: str) -> str:
    return address.rstrip("/") + "/" if is_address(address) else os.path.realpath(address)


def _folder_of(address: str) -> str:
    return f"{_PLANS}/{fingerprint({'address': _place(address)})}"


def _listed(address: str) -> Iterator[tuple[str, str]]:
    """The key and the mark of each image, in an order that every machine agrees on."""
    passed_over = PassedOver()
    if is_address(address):
        for facts in Prefix(_place(address)).objects():
            if is_image(facts.key, passed_over):
                yield facts.key, facts.mark
        return
    root = Path(_place(address))
    if not root.is_dir():
        raise DataError(f"Expected a folder of images, or an address such as 's3://bucket/photos/'; got {address!r}.")
    for path in sorted_image_files(Folder(root), passed_over):
        yield os.path.relpath(path, root), mark_of_file(path)


def mark_of_file(path: str) -> str:
    """What changes when a file does; empty where it isn't there."""
    try:
        state = os.stat(path)
    except OSError:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}"


def _in_shards(listed: Iterable[tuple[str, str]], n: int) -> Iterator[tuple[list[bytes], list[str]]]:
    keys: list[bytes] = []
    marks: list[str] = []
    for key, mark in listed:
        keys.append(os.fsencode(key))  # names of files may be no text
        marks.append(mark)
        if len(keys) == n:
            yield keys, marks
            keys, marks = [], []
    if keys:
        yield keys, marks
