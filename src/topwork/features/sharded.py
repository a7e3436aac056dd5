"""Work in shards: a shard's images go in, one object comes out, and any number of workers share the work."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.backbone import Backbone
from topwork.backbones.engines import Engine
from topwork.data.images import Images, UnlabelledImages
from topwork.data.sources import ObjectImages
from topwork.errors import DataError, OptionError, StorageError
from topwork.features.extraction import feature_engine, feature_facts
from topwork.features.intake import NewImages
from topwork.features.pipeline import BadImage, FeatureStream, in_order
from topwork.features.plan import Plan, Shard, find_plan, mark_of_file
from topwork.features.ranges import find_range
from topwork.features.store import new_kept, open_kept
from topwork.files import fingerprint, printable
from topwork.objects import AT_ONCE, Objects
from topwork.progress import Reporter
from topwork.types import Device, DigestArray, FloatArray, IntArray
from topwork.words import counted

Set = TypeVar("Set", bound=Images)
Result = TypeVar("Result")

CRASHED, HUNG = "it ended every process that decoded it", "decoding it took too long"
"""Reasons for which an image must never be tried again."""
_HEAD = 128 << 10
"""Bytes of an object that hold all but the vectors, where not very many images are unreadable."""


@dataclass(frozen=True, eq=False)
class ShardResult:
    """What became of a shard's m images.

    Attributes:
        digests: `(m,)`, of their content; of those that can't be read, of their names.
        places: `(n,)`, which of them have a vector.
        bad: the others.
        values: `(n, D)` float32; empty where only the head was read.
    """

    digests: DigestArray
    places: IntArray
    bad: tuple[BadImage, ...]
    values: FloatArray

    def as_bytes(self) -> bytes:
        """The object: arrays in NumPy's format, the vectors last; the same bytes for the same images."""
        reasons = json.dumps([[image.index, image.name, image.reason] for image in self.bad]).encode()
        out = io.BytesIO()
        arrays: tuple[NDArray[Any], ...] = (self.digests, self.places.astype("<i4"), np.frombuffer(reasons, np.uint8))
        for array in (*arrays, self.values):
            np.save(out, array, allow_pickle=False)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, *, with_values: bool) -> ShardResult:
        """What `as_bytes` wrote.

        Raises:
            ValueError: it is damaged, or not all there.
        """
        file = io.BytesIO(content)
        digests, places, reasons = (np.load(file, allow_pickle=False) for _ in range(3))
        bad = tuple(BadImage(*image) for image in json.loads(reasons.tobytes()))
        values = np.load(file, allow_pickle=False) if with_values else np.empty((0, 0), np.float32)
        return cls(digests, places, bad, values)


def joined(parts: Sequence[ShardResult]) -> ShardResult:
    """The results of parts of a shard, in order, as that of the shard."""
    starts = np.cumsum([0, *(len(part.digests) for part in parts)])
    values = [part.values for part in parts if len(part.places)] or [parts[0].values]
    return ShardResult(
        np.concatenate([part.digests for part in parts]),
        np.concatenate([part.places + start for part, start in zip(parts, starts, strict=False)]),
        tuple(
            replace(image, index=image.index + int(start))
            for part, start in zip(parts, starts, strict=False)
            for image in part.bad
        ),
        np.concatenate(values),
    )


class Product(Protocol):
    """What a shard's vectors are made into: the features themselves, or answers."""

    @property
    def backbone(self) -> Backbone:
        """What computes the vectors."""

    @property
    def folder(self) -> str:
        """Where the objects lie: it is named by all that they depend on, but for the images."""

    @property
    def suffix(self) -> str:
        """What their names end in."""

    def content(self, shard: Shard, result: ShardResult) -> bytes:
        """The object of a shard: the same bytes for the same images."""

    def bad(self, content: Callable[[], bytes], head: Callable[[int], bytes]) -> tuple[BadImage, ...]:
        """The images that an object names as unreadable, by its `content`, or its first bytes, where these will do.

        Raises:
            ValueError: it is damaged.
        """


@dataclass(frozen=True)
class KeptVectors:
    """Features, as `topwork train --store` takes them."""

    backbone: Backbone
    suffix: ClassVar[str] = ".shard"

    @property
    def folder(self) -> str:
        return fingerprint(feature_facts(self.backbone))

    def content(self, shard: Shard, result: ShardResult) -> bytes:
        return replace(result, values=result.values.astype("<f2" if self.backbone.half else "<f4")).as_bytes()

    def bad(self, content: Callable[[], bytes], head: Callable[[int], bytes]) -> tuple[BadImage, ...]:
        return read_result(content, head).bad


def read_result(content: Callable[[], bytes], head: Callable[[int], bytes] | None = None) -> ShardResult:
    """What `ShardResult.as_bytes` wrote; where its `head` is given, all but the vectors.

    Raises:
        ValueError: it is damaged.
    """
    try:
        if head is not None:
            with contextlib.suppress(ValueError, EOFError):  # of many unreadable images, the head is longer
                return ShardResult.from_bytes(head(_HEAD), with_values=False)
        return ShardResult.from_bytes(content(), with_values=head is None)
    except (EOFError, TypeError) as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class ShardedWork:
    """What is to be made of a plan's images, and the store that it is written to."""

    plan: Plan
    store: Objects
    product: Product

    def key(self, shard: Shard) -> str:
        """What the object of a shard is called."""
        return f"{self.product.folder}/{shard.name}{self.product.suffix}"

    def done(self) -> frozenset[str]:
        """The keys of the objects that are there."""
        return frozenset(found.key for found in self.store.objects(self.product.folder))

    def is_finished(self, part: tuple[int, int] = (0, 1)) -> bool:
        """Whether all objects of a part are there."""
        done = self.done()
        return all(self.key(shard) in done for shard in self.plan.shards(part))

    def each(
        self, read: Callable[[str], Result], part: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[Shard, Result | None]]:
        """The shards of a part, with what `read` gives for the key of each, many at once; None of those not there.

        Raises:
            StorageError: `read` says by a `ValueError` that an object is damaged.
        """
        done = self.done()

        def read_one(shard: Shard) -> Result | None:
            key = self.key(shard)
            try:
                return read(key) if key in done else None
            except ValueError as error:
                raise StorageError(
                    f"{printable(self.store.address)!r}: {key!r} is damaged. Delete it, and make it again."
                ) from error

        waiting = self.plan.shards(part)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while shards := list(islice(waiting, AT_ONCE)):
                yield from zip(shards, pool.map(read_one, shards), strict=True)


@dataclass(frozen=True)
class Progress:
    """How far work in shards is: shards and images, those done of all, and the images that could not be read."""

    n_shards: int
    n_shards_done: int
    n_images: int
    n_images_done: int
    bad: tuple[BadImage, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        bad = [{"image": image.name, "reason": image.reason} for image in self.bad]
        return {
            "shards": self.n_shards,
            "shards_done": self.n_shards_done,
            "images": self.n_images,
            "images_done": self.n_images_done,
            "bad_images": bad,
        }


def require_range(plan: Plan, backbone: Backbone) -> None:
    """Raise an `OptionError` if pictures have more than 8 bits, and nobody says which of their values become white.

    Training goes by the images for training, which nobody knows here; every machine must take the same range.
    """
    if backbone.recipe.value_range is None:
        found = find_range(UnlabelledImages.from_source(plan.shard(0).source))
        if found is not None:
            raise OptionError(
                f"Pictures with more than 8 bits: say which of their values become black and white, here and in "
                f"training. These use `range={found[0]:g},{found[1]:g}`."
            )


def make_shards(
    work: ShardedWork,
    *,
    part: tuple[int, int] = (0, 1),
    device: Device = "auto",
    reporter: Reporter | None = None,
) -> Progress:
    """Make the objects that are not in the store yet, each written whole or not at all; images are read once.

    Killed at any moment, it goes on where it stopped when it is called again.

    Args:
        work: of what, by what, and where to.
        part: `(k, n)`: of all shards only those whose number leaves k when it is divided by n.
        device: where the backbone runs.
        reporter: hears how far it is.

    Raises:
        ObjectStoreError: the images, or the store, can't be reached.
        StorageError: the store can't be written.
    """
    reporter = reporter or Reporter()
    done = work.done()
    engine: Engine | None = None
    with reporter.task("Computing shards", len(range(part[0], len(work.plan), part[1])), "shards") as task:
        for shard in work.plan.shards(part):
            key = work.key(shard)
            if key not in done:
                engine = engine or feature_engine(work.product.backbone, device)
                result = extract_shard(shard, engine, work.product.backbone)
                work.store.put_new(key, work.product.content(shard, result))
            task.advance()
    return progress_of(work, part)


def extract_shard(shard: Shard, engine: Engine, backbone: Backbone) -> ShardResult:
    """The digests and vectors of a shard's images, from one reading of their bytes."""
    n = len(shard.keys)
    intake = NewImages(n)
    stream = FeatureStream(shard.source, np.arange(n), engine, backbone.recipe, intake)
    ((_, places, values, bad),) = in_order(stream, n)
    return ShardResult(intake.all_digests(bad), places, tuple(bad), values)


def progress_of(work: ShardedWork, part: tuple[int, int] = (0, 1)) -> Progress:
    """How far work in shards is, or a part of it as in `make_shards`."""
    n_shards = n_done = n_images = n_images_done = 0
    bad: list[BadImage] = []
    store = work.store

    def bad_of(key: str) -> tuple[BadImage, ...]:
        return work.product.bad(partial(store.get, key), partial(store.head, key))

    for shard, found in work.each(bad_of, part):
        n_shards, n_images = n_shards + 1, n_images + len(shard.keys)
        if found is not None:
            n_done, n_images_done = n_done + 1, n_images_done + len(shard.keys)
            bad += found
    return Progress(n_shards, n_done, n_images, n_images_done, tuple(bad))


def with_extracted(
    dataset: Set,
    backbone: Backbone,
    store: Objects,
    *,
    choose: Callable[[Set], Set] = lambda images: images,
    reporter: Reporter | None = None,
) -> Set:
    """`dataset` with the digests that a store has of its images, and the features of these in the local store.

    Images that changed since, or that the store does not have, are read as usual.

    Args:
        dataset: the images.
        backbone: whose features are wanted.
        store: where they are.
        choose: gives the images whose features are fetched; it is given all, with their digests.
        reporter: hears how far it is.

    Raises:
        DataError: the store has no plan of these images.
        ObjectStoreError: the store can't be reached.
        StorageError: an object in it is damaged.
    """
    reporter = reporter or Reporter()
    plan = find_plan(dataset.origin, store)
    if plan is None:
        raise DataError(
            f"{printable(store.address)!r} has no features of {dataset.origin!r}. `topwork extract` makes them first."
        )
    work = ShardedWork(plan, store, KeptVectors(backbone))
    known: dict[tuple[str, str], bytes] = {}
    fatal: dict[str, str] = {}
    there: list[tuple[str, DigestArray]] = []
    with reporter.task("Reading digests", len(plan), "shards") as task:
        for shard, found in work.each(lambda key: read_result(partial(store.get, key), partial(store.head, key))):
            if found is not None:
                names = map(printable, shard.keys)
                known.update(zip(zip(names, shard.marks, strict=True), found.digests, strict=True))
                fatal |= {image.name: image.reason for image in found.bad if image.reason in (CRASHED, HUNG)}
                there.append((work.key(shard), found.digests[found.places]))
            task.advance()
    if not known:
        raise DataError(
            f"{printable(store.address)!r} has a list of the images in {dataset.origin!r}, and no features by "
            f"{backbone.name} with these options. Give those with which `topwork extract` was called."
        )
    is_fatal = np.array([name in fatal for name in dataset.names])
    if is_fatal.any():
        name = dataset.names[int(is_fatal.argmax())]
        reporter.warning(f"{counted(int(is_fatal.sum()), 'image')} left out, such as {name!r}: {fatal[name]}.")
        dataset = dataset.select(~is_fatal)
    marked = list(zip(dataset.names, _marks(dataset), strict=True))
    missing = np.array([place for place, image in enumerate(marked) if image not in known], dtype=np.int64)
    if len(missing):
        reporter.note(f"{len(missing):,} of {len(dataset):,} images are not in the store as they are now: read here")
    read = dataset.select(missing).read_digests(reporter)
    digests = np.array([known.get(image, b"") for image in marked], dtype="S16")
    digests[missing] = read
    chosen = choose(dataset.with_digests(digests))
    _fetch(work, backbone, there, chosen.digests, reporter)
    return chosen


def _fetch(
    work: ShardedWork,
    backbone: Backbone,
    there: Sequence[tuple[str, DigestArray]],
    wanted: DigestArray,
    reporter: Reporter,
) -> None:
    """Take the features of the wanted images into the local store; `there` has the digests in each object."""
    facts = feature_facts(backbone)
    kept = open_kept(facts)
    wanted = np.unique(wanted)
    with reporter.task("Fetching features", len(there), "shards") as task:
        for key, digests in there:
            rows = np.flatnonzero(np.isin(digests, wanted))
            if kept is not None:
                rows = rows[kept.find(digests[rows]) < 0]
            if len(rows):
                values = read_result(partial(work.store.get, key)).values
                kept = kept or new_kept(facts, values.shape[1])
                kept.add(digests[rows], values[rows])
            task.advance()


def _marks(dataset: Images) -> list[str]:
    source = dataset.source
    if isinstance(source, ObjectImages):
        return [source.marks[row] for row in dataset.rows]
    return [mark_of_file(str(path)) for path in source.payloads(dataset.rows)]
