"""Images to vectors: decoding in threads, inference behind it, both at work at once, memory flat."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from topwork.backbones.engines import Engine
from topwork.data.decoding import Payload, StoredImage, quiet_pillow, read_encoded, read_square
from topwork.data.sources import ImageSource
from topwork.errors import BadImageError
from topwork.memory import available_processors
from topwork.recipe import Recipe
from topwork.types import FloatArray, ImageArray, IntArray

Result = TypeVar("Result")

_MOST_HELD = 256 << 20
"""Bytes of encoded images that wait to be decoded, where they must be read in order (tables, compressed archives)."""
_MOST_SIFTED = 16 << 20
"""Bytes that a thread holds before it asks which of the images they are of are wanted."""


@dataclass(frozen=True)
class BadImage:
    """An image that can't be read: its index in the dataset, its name, and why."""

    index: int
    name: str
    reason: str


_One: TypeAlias = "tuple[int, Payload | BadImageError]"
Sifted: TypeAlias = "list[_One]"
"""Images by their position, or why one can't be used."""


class Intake(Protocol):
    """Sees the content of images when it is read, before it is decoded, and says which of them are to be decoded."""

    def sift(self, contents: list[tuple[int, Payload]]) -> Sifted:
        """Those of some images, by their position, that are wanted.

        Several threads call it. What was a file is its bytes by then.
        """

    def passed_over(self, n: int) -> None:
        """Hears of `n` more images that were not wanted; one thread calls it."""


@dataclass
class FeatureStream:
    """Runs an engine over some rows of a source; iterate it for `(positions, features)`, in any order.

    Attributes:
        source: the images.
        rows: `(n,)`, rows of the source, ascending; a position is an index into these.
        engine: what computes features.
        recipe: how pictures become the engine's input.
        intake: sees what is read; None: images are decoded as they come.
        bad: the images that could not be read, as they turn up.
    """

    source: ImageSource
    rows: IntArray
    engine: Engine
    recipe: Recipe
    intake: Intake | None = None
    bad: list[BadImage] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """`(b,)` positions and their `(b, D)` float32 features, batch by batch."""
        with quiet_pillow(), ThreadPoolExecutor(available_processors()) as pool:
            try:
                batches = self._batches(pool)
                if (first := next(batches, None)) is None:
                    return  # the engine may be one that is opened only now
                for positions, features in self.engine.run(_filled(chain([first], batches), self.engine)):
                    yield self._finite(positions, features)
            finally:
                pool.shutdown(cancel_futures=True)

    def _finite(self, positions: IntArray, features: FloatArray) -> tuple[IntArray, FloatArray]:
        """Those images whose features are numbers; the others count as bad."""
        is_finite = np.isfinite(features).all(axis=1)
        if is_finite.all():
            return positions, features
        for position in positions[~is_finite]:
            name = self._name(position)
            self.bad.append(BadImage(int(position), name, "the backbone's features of it are not finite numbers"))
        return positions[is_finite], features[is_finite]

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[tuple[IntArray, ImageArray]]:
        payloads = enumerate(self.source.payloads(self.rows))
        running: deque[tuple[int, int, Future[tuple[IntArray, ImageArray, list[BadImage]]]]] = deque()
        most_ahead = 2 * available_processors() + 2
        # as long as none is wanted, one: two threads that read small files wait for each other's lock
        ahead = most_ahead if self.intake is None else 1
        while True:
            while len(running) < ahead and sum(n_bytes for _, n_bytes, _ in running) < _MOST_HELD:
                chunk = list(_until_large(islice(payloads, self.engine.batch_size)))
                if not chunk:
                    break
                n_bytes = sum(_held(payload) for _, payload in chunk)
                running.append((len(chunk), n_bytes, pool.submit(self._decode, chunk)))
            if not running:
                return
            n_read, _, decoding = running.popleft()
            positions, images, bad = decoding.result()
            self.bad.extend(bad)
            if self.intake is not None:
                self.intake.passed_over(n_read - len(positions) - len(bad))
            if len(positions):
                ahead = most_ahead
                yield positions, images

    def _decode(self, chunk: list[tuple[int, Payload]]) -> tuple[IntArray, ImageArray, list[BadImage]]:
        images = np.empty((len(chunk), self.recipe.size, self.recipe.size, 3), dtype=np.uint8)
        positions: list[int] = []
        bad = []
        for position, content in chunk if self.intake is None else self._sifted(chunk, self.intake):
            try:
                if isinstance(content, BadImageError):
                    raise content
                images[len(positions)] = read_square(content, self.recipe, self._name(position))
                positions.append(position)
            except BadImageError as error:
                bad.append(BadImage(position, self._name(position), error.reason))
        return np.array(positions, dtype=np.int64), images[: len(positions)], bad

    def _sifted(self, chunk: list[tuple[int, Payload]], intake: Intake) -> Iterator[_One]:
        """The images that are wanted, with their bytes, of which not many are in memory at once."""
        held = 0
        waiting: list[tuple[int, Payload]] = []
        for position, payload in chunk:
            content = self._content(position, payload)
            if isinstance(content, BadImageError):
                yield position, content
                continue
            waiting.append((position, content))
            held += _held(content)
            if held > _MOST_SIFTED:
                yield from intake.sift(waiting)
                waiting, held = [], 0
        yield from intake.sift(waiting)

    def _content(self, position: int, payload: Payload) -> Payload | BadImageError:
        """An image with its bytes, read once; or why they can't be read."""
        if not isinstance(payload, Path | StoredImage):
            return payload
        try:
            return read_encoded(payload)
        except OSError as error:
            return BadImageError(self._name(position), error.strerror or str(error))

    def _name(self, position: int) -> str:
        return self.source.name(int(self.rows[position]))


def _filled(batches: Iterable[tuple[IntArray, ImageArray]], engine: Engine) -> Iterator[tuple[IntArray, ImageArray]]:
    """The same images in batches as large as the engine's, the last with what is left: it computes whole ones."""
    waiting: list[tuple[IntArray, ImageArray]] = []
    for batch in batches:
        size = engine.batch_size
        if not waiting and len(batch[0]) == size:
            yield batch
            continue
        waiting.append(batch)
        if sum(len(positions) for positions, _ in waiting) >= size:
            positions, images = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
            n = len(positions) // size * size
            for start in range(0, n, size):
                yield positions[start : start + size], images[start : start + size]
            waiting = [(positions[n:], images[n:])] if n < len(positions) else []
    if waiting:
        yield tuple(np.concatenate(parts) for parts in zip(*waiting, strict=True))  # type: ignore[misc]


def _until_large(payloads: Iterable[tuple[int, Payload]]) -> Iterator[tuple[int, Payload]]:
    """The first of some payloads, until they hold much."""
    held = 0
    for position, payload in payloads:
        yield position, payload
        held += _held(payload)
        if held >= _MOST_HELD:
            return


def _held(payload: Payload) -> int:
    """How many encoded bytes are in memory already."""
    return len(payload) if isinstance(payload, bytes) else payload.held if isinstance(payload, StoredImage) else 0


def in_order(stream: FeatureStream, step: int) -> Iterator[tuple[int, IntArray, FloatArray, list[BadImage]]]:
    """The whole of a stream in the order of its rows, `step` images at a time (of the last, what is left).

    Yields:
        The first position of each `step` images; `(n,)` positions of the readable ones, ascending; their `(n, D)`
        features; and the others. It is held back only until those before it have come.
    """
    waiting: dict[int, _Slice] = defaultdict(_Slice)
    n_images, n_bad, start = len(stream.rows), 0, 0
    nothing = np.empty(0, np.int64), np.empty((0, stream.engine.n_features), np.float32)
    for positions, features in chain(stream, [nothing]):  # once more at the end: the last may all be bad
        for place in np.unique(positions // step):
            inside = positions // step == place
            waiting[int(place) * step].add(positions[inside], features[inside])
        for image in stream.bad[n_bad:]:
            waiting[image.index // step * step].bad.append(image)
        n_bad = len(stream.bad)
        while start < n_images and len(waiting[start]) == min(step, n_images - start):
            yield start, *waiting.pop(start).sorted(nothing)
            start += step


def computed_beside(work: Callable[..., Result], items: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """`work` of each item, in order, computed in a thread while the next item is being made."""
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            running.append(pool.submit(work, *item))
            if len(running) > 1:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


class _Slice:
    """Some images of a stream whose neighbours may still be on their way."""

    def __init__(self) -> None:
        self.positions: list[IntArray] = []
        self.features: list[FloatArray] = []
        self.bad: list[BadImage] = []

    def __len__(self) -> int:
        return sum(map(len, self.positions)) + len(self.bad)

    def add(self, positions: IntArray, features: FloatArray) -> None:
        self.positions.append(positions)
        self.features.append(features)

    def sorted(self, nothing: tuple[IntArray, FloatArray]) -> tuple[IntArray, FloatArray, list[BadImage]]:
        """All of it by position; `nothing` has the shapes of none."""
        positions = np.concatenate([nothing[0], *self.positions])
        features = np.concatenate([nothing[1], *self.features])
        order = positions.argsort()
        return positions[order], features[order], sorted(self.bad, key=lambda image: image.index)
