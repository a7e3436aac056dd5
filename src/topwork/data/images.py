"""Images without labels: what features, checks and labelling need to know of a set."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from topwork.data.decoding import digest_of
from topwork.data.sources import FileImages, ImageSource, require_rows
from topwork.data.walking import Folder, PassedOver, sorted_image_files
from topwork.errors import BadImageError, DataError
from topwork.files import printable
from topwork.progress import Reporter
from topwork.types import DigestArray, IntArray, StrArray, ValueRange


class Images(ABC):
    """Images that are read when they are needed, and known by their content; with labels or without.

    Attributes:
        source: the images.
        rows: `(N,)`, which rows of `source` belong to the set, ascending.
        origin: what the user named.
        value_range: which pixel values become black and white where pictures deeper than 8 bits are shown or compared;
            None: 0 to 65,535.
        splits: `(N,)` of 'train', 'validation', 'test', where there is a split; else None.
    """

    source: ImageSource
    rows: IntArray
    origin: str
    value_range: ValueRange | None
    splits: StrArray | None
    _of_each_image: ClassVar[tuple[str, ...]] = ("rows", "splits")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """What a person would call each image: a path, or a table and row."""
        return [self.source.name(row) for row in self.rows]

    @cached_property
    def digests(self) -> DigestArray:
        """`(N,)` content digests, `S16`; reads every image's bytes once. See `read_digests`."""
        return self.read_digests(Reporter())

    def read_digests(self, reporter: Reporter) -> DigestArray:
        """`digests`, telling `reporter` how far it is. A file that can't be read has the digest of its name."""
        if not self.has_digests:
            result = np.empty(len(self), dtype="S16")
            with reporter.task("Reading images", len(self), "images") as task:
                for i, payload in enumerate(self.source.payloads(self.rows)):
                    try:
                        result[i] = digest_of(payload)
                    except (OSError, BadImageError):  # decoding will say what is wrong with it
                        result[i] = digest_of_unreadable(self.source.name(int(self.rows[i])))
                    task.advance()
            self.learn_digests(result)
        return self.__dict__["digests"]  # type: ignore[no-any-return]

    @property
    def has_digests(self) -> bool:
        """Whether the digests are known, so that no image need be read for them."""
        return "digests" in self.__dict__

    def learn_digests(self, digests: DigestArray) -> None:
        """Take `(N,)` digests from whoever has read the images anyway."""
        self.__dict__["digests"] = digests

    def with_digests(self, digests: DigestArray) -> Self:
        """The same images with `(N,)` digests that are known from elsewhere, so that they are not read for these."""
        known: Self = replace(self)  # type: ignore[type-var]
        known.learn_digests(digests)
        return known

    def select(self, indices: IntArray | NDArray[np.bool_]) -> Self:
        """The images at `indices` (ascending integers in 0..N-1, or `(N,)` booleans)."""
        is_mask = np.asarray(indices).dtype == bool
        chosen = require_rows(np.flatnonzero(indices) if is_mask else np.asarray(indices, np.int64), len(self))
        there = {name: values for name in self._of_each_image if (values := getattr(self, name)) is not None}
        part: Self = replace(self, **{name: values[chosen] for name, values in there.items()})  # type: ignore[type-var]
        if self.has_digests:
            part.learn_digests(self.digests[chosen])
        return part

    def with_range(self, value_range: ValueRange | None) -> Self:
        """The images with another `value_range`."""
        return self.changed(value_range=value_range)

    def changed(self, **values: Any) -> Self:
        """The same images with other facts; their digests need not be read again."""
        changed: Self = replace(self, **values)  # type: ignore[type-var]
        if self.has_digests:
            changed.learn_digests(self.digests)
        return changed


def digest_of_unreadable(name: str) -> bytes:
    """The digest of an image that can't be read: of its name."""
    return digest_of(b"unreadable: " + name.encode())


@dataclass(frozen=True, eq=False)
class UnlabelledImages(Images):
    """Images whose labels nobody knows yet. Make one with `from_directory`, or from a source.

    Attributes:
        notes: what was passed over, one sentence each.
    """

    source: ImageSource
    rows: IntArray
    origin: str = "images"
    value_range: ValueRange | None = None
    notes: tuple[str, ...] = ()
    splits: StrArray | None = None

    @classmethod
    def from_source(cls, source: ImageSource, origin: str = "images") -> UnlabelledImages:
        """All images of a source."""
        return cls(source, np.arange(len(source)), printable(origin))

    @classmethod
    def from_directory(cls, path: str | Path) -> UnlabelledImages:
        """Every image in a folder and its sub-folders, whatever these are called, by path.

        Raises:
            DataError: there is no such folder, or no image in it.
        """
        root, passed_over = Path(path), PassedOver()
        if not root.is_dir():
            raise DataError(f"Expected a folder of images; {printable(str(path))!r} is none.")
        paths = sorted_image_files(Folder(root), passed_over)
        if not paths:
            raise DataError(f"There is no image in {printable(str(path))!r}, nor in its sub-folders.")
        images = cls.from_source(FileImages(tuple(paths), str(root)), str(path))
        return replace(images, notes=tuple(passed_over.texts()))
