"""Images to vectors: decoding in threads, inference behind it, both at work at once, memory flat."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from topwork.backbones.engines import Engine
from topwork.data.decoding import Payload, digest_of, quiet_pillow, read_square
from topwork.data.sources import ImageSource
from topwork.errors import BadImageError
from topwork.types import DigestArray, FloatArray, ImageArray, IntArray


@dataclass(frozen=True)
class BadImage:
    """An image that can't be read: its index in the dataset, its name, and why."""

    index: int
    name: str
    reason: str


@dataclass
class FeatureStream:
    """Runs an engine over some rows of a source; iterate it for `(positions, features)`, in any order.

    Attributes:
        source: the images.
        rows: `(n,)`, rows of the source, ascending; a position is an index into these.
        engine: what computes features.
        size: the side of the engine's input, in pixels.
        digests: `(n,)`, what each image's content must still be when it is decoded; None where nothing is kept.
        bad: the images that could not be read, as they turn up.
    """

    source: ImageSource
    rows: IntArray
    engine: Engine
    size: int
    digests: DigestArray | None = None
    bad: list[BadImage] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """`(b,)` positions and their `(b, D)` float32 features, batch by batch."""
        with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                yield from self.engine.run(self._batches(pool))
            finally:
                pool.shutdown(cancel_futures=True)

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[tuple[IntArray, ImageArray]]:
        payloads = enumerate(self.source.payloads(self.rows))
        running: deque[Future[tuple[IntArray, ImageArray, list[BadImage]]]] = deque()
        ahead = 2 * (os.cpu_count() or 1) + 2
        while True:
            while len(running) < ahead and (chunk := list(islice(payloads, self.engine.batch_size))):
                running.append(pool.submit(self._decode, chunk))
            if not running:
                return
            positions, images, bad = running.popleft().result()
            self.bad.extend(bad)
            if len(positions):
                yield positions, images

    def _decode(self, chunk: list[tuple[int, Payload]]) -> tuple[IntArray, ImageArray, list[BadImage]]:
        images = np.empty((len(chunk), self.size, self.size, 3), dtype=np.uint8)
        positions: list[int] = []
        bad = []
        for position, payload in chunk:
            name = self.source.name(int(self.rows[position]))
            try:
                images[len(positions)] = read_square(self._content(position, payload, name), self.size, name)
                positions.append(position)
            except BadImageError as error:
                bad.append(BadImage(position, name, error.reason))
        return np.array(positions, dtype=np.int64), images[: len(positions)], bad

    def _content(self, position: int, payload: Payload, name: str) -> Payload:
        """A file's bytes, read once and checked: features must not be kept under what a file held earlier."""
        if self.digests is None or not isinstance(payload, Path):
            return payload
        try:
            content = payload.read_bytes()
        except OSError as error:
            raise BadImageError(name, error.strerror or str(error)) from error
        if digest_of(content) != self.digests[position].ljust(16, b"\0"):  # NumPy drops trailing zero bytes
            raise BadImageError(name, "it changed while it was being read")
        return content
