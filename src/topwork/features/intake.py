"""What an extraction does with an image's bytes before it is decoded: they are read once, and known by their digest."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from topwork.data.decoding import Payload, digest_of, read_square
from topwork.data.images import digest_of_unreadable
from topwork.errors import BadImageError
from topwork.features.pipeline import BadImage, Sifted
from topwork.features.store import KeptFeatures
from topwork.progress import Task
from topwork.recipe import Recipe
from topwork.types import DigestArray, ImageArray


@dataclass(frozen=True)
class UnchangedImages:
    """All images are wanted, as long as their bytes have the `(n,)` digests under which features are to be kept."""

    digests: DigestArray

    def sift(self, contents: list[tuple[int, Payload]]) -> Sifted:
        return [(position, self._checked(position, content)) for position, content in contents]

    def _checked(self, position: int, content: Payload) -> Payload | BadImageError:
        known = self.digests[position].ljust(16, b"\0")  # NumPy drops trailing zero bytes
        if isinstance(content, bytes) and digest_of(content) != known:
            return BadImageError("", "it changed while it was being read")
        return content

    def passed_over(self, n: int) -> None:
        """None is."""


class NewImages:
    """Images whose digests nobody knows yet; all are wanted.

    Attributes:
        digests: `(n,)`, of the images that were read so far.
    """

    def __init__(self, n: int) -> None:
        self.digests: DigestArray = np.zeros(n, "S16")

    def sift(self, contents: list[tuple[int, Payload]]) -> Sifted:
        found: Sifted = []
        for position, content in contents:
            try:
                self.digests[position] = digest_of(content)
                found.append((position, content))
            except BadImageError as error:
                found.append((position, error))
        return found

    def passed_over(self, n: int) -> None:
        """None is."""

    def all_digests(self, bad: Sequence[BadImage]) -> DigestArray:
        """`(n,)`, once all images were read; of those without bytes, which are among `bad`, that of the name."""
        for image in bad:
            if not self.digests[image.index]:
                self.digests[image.index] = digest_of_unreadable(image.name)
        return self.digests


class MissingImages(NewImages):
    """Images whose digests nobody knows yet; of those without features in the store, and of copies one, is wanted.

    Args:
        n: how many images there are.
        kept: the features.
        task: is told of images that are not wanted.
        thumbnails: what else is made of the same bytes.
    """

    def __init__(self, n: int, kept: KeptFeatures, task: Task, thumbnails: Thumbnails | None) -> None:
        super().__init__(n)
        self._missing = _Missing(kept)
        self._task, self._thumbnails = task, thumbnails

    def sift(self, contents: list[tuple[int, Payload]]) -> Sifted:
        found = super().sift(contents)
        digests = self.digests[[position for position, _ in found]]
        if self._thumbnails is not None:
            self._thumbnails.make(digests, [content for _, content in found])
        is_missing = self._missing.take(digests)
        return [
            one for one, missing in zip(found, is_missing, strict=True) if missing or isinstance(one[1], BadImageError)
        ]

    def passed_over(self, n: int) -> None:
        self._task.advance(n)


class Thumbnails:
    """Small pictures, kept like features: those that the store lacks are made of an image's bytes while these are here.

    Images that can't be read have none; whoever asks for the thumbnails later hears why. Use it as a context manager.
    """

    def __init__(self, kept: KeptFeatures, recipe: Recipe) -> None:
        self._missing, self._recipe, self._writer = _Missing(kept), recipe, kept.writer()
        self._lock = Lock()

    def __enter__(self) -> Thumbnails:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._writer.flush()

    def make(self, digests: DigestArray, contents: Sequence[Payload | BadImageError]) -> None:
        """Make what is missing of these images; several threads may call it."""
        made: list[ImageArray] = []
        places: list[int] = []
        for place in np.flatnonzero(self._missing.take(digests)).tolist():
            content = contents[place]
            with contextlib.suppress(BadImageError):
                if not isinstance(content, BadImageError):
                    made.append(read_square(content, self._recipe, ""))
                    places.append(place)
        if made:
            with self._lock:
                self._writer.add(digests[places], np.stack(made).reshape(len(made), -1).astype(np.float32))


class _Missing:
    """Which images the store has nothing of, each told once."""

    def __init__(self, kept: KeptFeatures) -> None:
        self._kept = kept
        self._taken: set[bytes] = set()
        self._lock = Lock()

    def take(self, digests: DigestArray) -> NDArray[np.bool_]:
        """`(n,)`, whether each of some images is missing, and was not taken before; several threads may call it."""
        with self._lock:
            is_missing = self._kept.find(digests) < 0
            for place in np.flatnonzero(is_missing):
                is_missing[place] = digests[place] not in self._taken
                self._taken.add(digests[place])
        return is_missing
