"""Extraction in shards: a shard's images go in, one object comes out, and any number of workers share the work."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.backbone import Backbone
from topwork.backbones.engines import Engine, open_engine
from topwork.data.decoding import Payload, StoredImage, digest_of, read_encoded
from topwork.data.images import Images, UnlabelledImages, digest_of_unreadable
from topwork.data.sources import ImageSource, ObjectImages
from topwork.errors import DataError, OptionError, StorageError
from topwork.features.extraction import feature_facts
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


@dataclass(frozen=True)
class Extraction:
    """The extraction of a plan's images by a backbone into a store."""

    plan: Plan
    store: Objects
    backbone: Backbone

    @property
    def folder(self) -> str:
        """Where the objects lie: it is named by all that features depend on, but for the images."""
        return fingerprint(feature_facts(self.backbone))

    def key(self, shard: Shard) -> str:
        """What the object of a shard is called."""
        return f"{self.folder}/{shard.name}.shard"

    def done(self) -> frozenset[str]:
        """The keys of the objects that are there."""
        return frozenset(found.key for found in self.store.objects(self.folder))

    def heads(self, part: tuple[int, int] = (0, 1)) -> Iterator[tuple[Shard, ShardResult | None]]:
        """The shards of a part with the heads of their objects, many read at once; None of those that are not there."""
        done = self.done()

        def head(shard: Shard) -> ShardResult | None:
            return self.read(self.key(shard), with_values=False) if self.key(shard) in done else None

        numbers = range(part[0], len(self.plan), part[1])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(numbers), AT_ONCE):
                shards = [self.plan.shard(number) for number in numbers[start : start + AT_ONCE]]
                yield from zip(shards, pool.map(head, shards), strict=True)

    def read(self, key: str, *, with_values: bool) -> ShardResult:
        """An object, whole or its head.

        Raises:
            StorageError: it is damaged.
        """
        try:
            if not with_values:
                try:
                    return ShardResult.from_bytes(self.store.head(key, _HEAD), with_values=False)
                except (ValueError, EOFError):  # many reasons: the head is longer
                    pass
            return ShardResult.from_bytes(self.store.get(key), with_values=with_values)
        except (ValueError, EOFError, TypeError) as error:
            raise StorageError(
                f"{printable(self.store.address)!r}: {key!r} is damaged. Delete it, and extract again."
            ) from error


@dataclass(frozen=True)
class Progress:
    """How far an extraction is: shards and images, those done of all, and the images that could not be read."""

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


def require_range(extraction: Extraction) -> None:
    """Raise an `OptionError` if pictures have more than 8 bits, and nobody says which of their values become white.

    Training goes by the images for training, which nobody knows here; every machine must take the same range.
    """
    if extraction.backbone.recipe.value_range is None:
        found = find_range(UnlabelledImages.from_source(extraction.plan.shard(0).source))
        if found is not None:
            raise OptionError(
                f"Pictures with more than 8 bits: say which of their values become black and white, here and in "
                f"training. These use `range={found[0]:g},{found[1]:g}`."
            )


def extract_shards(
    extraction: Extraction,
    *,
    part: tuple[int, int] = (0, 1),
    device: Device = "auto",
    reporter: Reporter | None = None,
) -> Progress:
    """Compute the shards of a plan that are not in the store, each written whole or not at all; bytes are read once.

    Killed at any moment, it goes on where it stopped when it is called again.

    Args:
        extraction: of what, by what, and where to.
        part: `(k, n)`: of all shards only those whose number leaves k when it is divided by n.
        device: where the backbone runs.
        reporter: hears how far it is.

    Raises:
        ObjectStoreError: the images, or the store, can't be reached.
        StorageError: the store can't be written.
    """
    reporter = reporter or Reporter()
    plan, done = extraction.plan, extraction.done()
    engine: Engine | None = None
    numbers = range(part[0], len(plan), part[1])
    with reporter.task("Extracting features", len(numbers), "shards") as task:
        for number in numbers:
            shard = plan.shard(number)
            key = extraction.key(shard)
            if key not in done:
                engine = engine or open_engine(extraction.backbone, device)
                result = extract_shard(shard, engine, extraction.backbone)
                extraction.store.put_new(key, result.as_bytes())
            task.advance()
    return progress_of(extraction, part)


def extract_shard(shard: Shard, engine: Engine, backbone: Backbone) -> ShardResult:
    """The digests and vectors of a shard's images, from one reading of their bytes."""
    once = _ReadOnce(shard.source)
    n = len(shard.keys)
    stream = FeatureStream(once, np.arange(n), engine, backbone.recipe)
    ((_, places, values, bad),) = in_order(stream, n)
    return ShardResult(np.array(once.digests, dtype="S16"), places, tuple(bad), values)


def progress_of(extraction: Extraction, part: tuple[int, int] = (0, 1)) -> Progress:
    """How far an extraction is, or a part of it as in `extract_shards`."""
    n_shards = n_done = n_images = n_images_done = 0
    bad: list[BadImage] = []
    for shard, found in extraction.heads(part):
        n_shards, n_images = n_shards + 1, n_images + len(shard.keys)
        if found is not None:
            n_done, n_images_done = n_done + 1, n_images_done + len(shard.keys)
            bad += found.bad
    return Progress(n_shards, n_done, n_images, n_images_done, tuple(bad))


def with_extracted(dataset: Set, backbone: Backbone, store: Objects, *, reporter: Reporter | None = None) -> Set:
    """`dataset` with the digests that a store has of its images, and the features of these in the local store.

    Images that changed since, or that the store does not have, are read as usual.

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
    extraction = Extraction(plan, store, backbone)
    facts = feature_facts(backbone)
    known: dict[tuple[str, str], bytes] = {}
    fatal: dict[str, str] = {}
    kept = open_kept(facts)
    with reporter.task("Fetching features", len(plan), "shards") as task:
        for shard, found in extraction.heads():
            if found is not None:
                names = map(printable, shard.keys)
                known.update(zip(zip(names, shard.marks, strict=True), found.digests, strict=True))
                fatal |= {image.name: image.reason for image in found.bad if image.reason in (CRASHED, HUNG)}
                wanted = found.digests[found.places]
                if len(wanted) and (kept is None or np.any(kept.find(wanted) < 0)):
                    values = extraction.read(extraction.key(shard), with_values=True).values
                    kept = kept or new_kept(facts, values.shape[1])
                    kept.add(wanted, values)
            task.advance()
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
    return dataset.with_digests(digests)


def _marks(dataset: Images) -> list[str]:
    source = dataset.source
    if isinstance(source, ObjectImages):
        return [source.marks[row] for row in dataset.rows]
    return [mark_of_file(str(path)) for path in source.payloads(dataset.rows)]


@dataclass
class _ReadOnce:
    """A source whose images are read when their turn comes, and their digests taken from the same bytes."""

    source: ImageSource
    digests: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source)

    def payloads(self, rows: IntArray) -> Iterator[Payload]:
        for row, payload in zip(rows, self.source.payloads(rows), strict=True):
            try:
                payload = read_encoded(payload) if isinstance(payload, Path | StoredImage) else payload
                self.digests.append(digest_of(payload))
            except OSError:  # decoding will say what is wrong with it
                self.digests.append(digest_of_unreadable(self.name(int(row))))
            yield payload

    def name(self, row: int) -> str:
        return self.source.name(row)
