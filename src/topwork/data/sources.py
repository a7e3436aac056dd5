"""Where images come from: files, archives, objects, a table, bytes, an array. None is read before it's asked for."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from topwork.data.archives import Archive
from topwork.data.decoding import Payload, StoredImage
from topwork.errors import DataError
from topwork.files import open_regular, printable
from topwork.objects import Prefix
from topwork.types import ImageArray, IntArray


class ImageSource(Protocol):
    """N images that can be read in order, and named one by one."""

    def __len__(self) -> int:
        """N."""

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        """The images of `rows`, ascending integers in 0..N-1, one after another."""

    def name(self, row: int) -> str:
        """What a person would call this image: a path, or a table and row."""


@dataclass(frozen=True, eq=False)
class FileImages:
    """One image a file. `root`, if there is one, is left out of the names."""

    paths: tuple[str, ...]
    root: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        for row in rows:
            yield Path(self.paths[row])

    def name(self, row: int) -> str:
        return _shown(self.paths[row], self.root)


@dataclass(frozen=True, eq=False)
class ArchiveImages:
    """Members of a zip or tar, read where they are. The paths begin with the archive's, and come in its order."""

    archive: Archive
    paths: tuple[str, ...]
    root: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        return self.archive.read(self.paths[row] for row in rows)

    def name(self, row: int) -> str:
        return _shown(self.paths[row], self.root)


class _GoneObject(StoredImage):
    def read(self) -> bytes:
        raise FileNotFoundError(errno.ENOENT, "there is no such object any more")


_MOST_HELD = 256 << 20
"""Bytes of objects that stay in memory."""


@dataclass(frozen=True, eq=False)
class ObjectImages:
    """One image an object, many read at once. `marks` has one an image, which changes when its content does.

    The first that are read stay in memory, up to 256 MB: of a few hundred photos all, so that none is fetched twice.
    """

    prefix: Prefix
    keys: tuple[str, ...]
    marks: tuple[str, ...]
    root: str = ""
    _held: dict[str, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        """As of every source; an object that was deleted after it was listed can't be read, which costs no other."""
        keys = [self.keys[row] for row in rows]
        are_held = [key in self._held for key in keys]
        fetched = self.prefix.get_each(key for key, is_held in zip(keys, are_held, strict=True) if not is_held)
        n_bytes = sum(map(len, self._held.values()))
        for key, is_held in zip(keys, are_held, strict=True):
            content = self._held[key] if is_held else next(fetched)
            if content is None:
                yield _GoneObject()
                continue
            if not is_held and n_bytes + len(content) <= _MOST_HELD:
                n_bytes += len(content)
                self._held[key] = content
            yield content

    def name(self, row: int) -> str:
        return printable((self.prefix.address + self.keys[row]).removeprefix(self.root))


@dataclass(frozen=True, eq=False)
class ParquetImages:
    """Encoded images in a column of a Parquet file, streamed; `names`, if given, has one a row."""

    path: Path
    column: str
    n_rows: int
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return self.n_rows

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            with open_regular(self.path) as opened, parquet.ParquetFile(opened) as file:
                first = 0
                for group in range(file.num_row_groups):
                    end = first + file.metadata.row_group(group).num_rows
                    wanted = rows[(rows >= first) & (rows < end)] - first
                    if len(wanted):
                        yield from self._group_payloads(file, group, wanted)
                    first = end
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{printable(str(self.path))!r} is damaged: {reason}. Get the file again; what was finished is kept."
            ) from error

    def _group_payloads(self, file: Any, group: int, wanted: IntArray) -> Iterator[Payload]:
        start, step = 0, _rows_at_a_time(file.metadata.row_group(group), self.column)
        for batch in file.iter_batches(step, row_groups=[group], columns=[self.column]):
            inside = wanted[(wanted >= start) & (wanted < start + batch.num_rows)] - start
            column = batch.column(0)
            for row in inside:
                yield self._payload(column[int(row)].as_py())
            start += batch.num_rows

    def _payload(self, value: bytes | dict[str, object] | None) -> Payload:
        if isinstance(value, dict):  # the Hugging Face image struct: bytes, or else a path
            content, path = value.get("bytes"), value.get("path")
            if content is None and isinstance(path, str):
                return self.path.parent / path
            value = content if isinstance(content, bytes) else None
        return value or b""  # nothing there: decoding names it as empty

    def name(self, row: int) -> str:
        return self.names[row] if self.names else f"{printable(self.path.name)}[row {row}]"


_BATCH_ROWS, _BATCH_BYTES = 256, 64 << 20
"""Of a Parquet table at a time, at most."""


def _rows_at_a_time(group: Any, column: str) -> int:
    """How many rows of a column of a row group are read together, so that large images do not pile up in memory."""
    columns = (group.column(i) for i in range(group.num_columns))
    n_bytes = sum(part.total_uncompressed_size for part in columns if part.path_in_schema.split(".")[0] == column)
    return int(min(_BATCH_ROWS, max(1, _BATCH_BYTES * group.num_rows // max(1, n_bytes))))


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """`(N, H, W, 3)` or `(N, H, W)` uint8, in memory, or a sequence of PIL images or arrays of any sizes."""

    images: ImageArray | tuple[Payload, ...]
    label: str = "image"

    def __len__(self) -> int:
        return len(self.images)

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        for row in rows:
            yield self.images[row]

    def name(self, row: int) -> str:
        return f"{self.label}[{row}]"


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """One image as encoded bytes in memory, called `label`."""

    content: bytes
    label: str

    def __len__(self) -> int:
        return 1

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        for _ in rows:
            yield self.content

    def name(self, row: int) -> str:
        return self.label


@dataclass(frozen=True, eq=False)
class JoinedImages:
    """Several sources, one after another, as one; what comes of a part is asked for when its turn comes."""

    parts: tuple[ImageSource, ...]

    def __len__(self) -> int:
        return self._starts[-1]

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        for start, part in zip(self._starts, self.parts, strict=False):
            inside = rows[(rows >= start) & (rows < start + len(part))]
            if len(inside):
                yield from part.payloads(inside - start)

    def name(self, row: int) -> str:
        place = bisect_right(self._starts, row) - 1
        return self.parts[place].name(row - self._starts[place])

    @cached_property
    def _starts(self) -> list[int]:
        """The first row of each part, and N."""
        return [0, *accumulate(len(part) for part in self.parts)]


def _shown(path: str, root: str) -> str:
    return printable(os.path.relpath(path, root) if root else path)


def require_rows(rows: IntArray, n: int) -> IntArray:
    """`rows` as ascending integers in 0..n-1.

    Raises:
        DataError: they are not.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= n or np.any(np.diff(rows) <= 0)):
        raise DataError(f"Expected ascending rows in 0..{n - 1}.")
    return rows
