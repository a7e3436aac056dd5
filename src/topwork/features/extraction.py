"""Features of a dataset: what the store has is read, the rest is computed once and kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.backbones.engines import Engine, open_engine
from topwork.data.decoding import DECODING_VERSION
from topwork.data.images import Images
from topwork.errors import BadImageError, OptionError, StorageError, TooManyBadImagesError
from topwork.features.augmentation import AUGMENTATION_VERSION, augmented
from topwork.features.choice import backbone_for
from topwork.features.intake import MissingImages, Thumbnails, UnchangedImages
from topwork.features.pipeline import BadImage, FeatureStream
from topwork.features.store import KeptFeatures, new_kept, open_kept
from topwork.files import fingerprint
from topwork.memory import gigabytes
from topwork.progress import Reporter, Task
from topwork.recipe import Recipe
from topwork.types import Device, DigestArray, FloatArray, ImageArray, IntArray, OnBadImage

Tag = TypeVar("Tag")

PIXELS = "(pixels)"
"""The `output` of a backbone whose map at the cut is the image itself: all of the network lies above."""
MOST_BAD = 0.1
"""A run in which more than this part of the images can't be read stops."""


@dataclass(frozen=True, eq=False)
class Features:
    """What a frozen backbone sees in the images of a dataset.

    Attributes:
        values: `(n, D)` float32, activations float16, one row for each readable image, in the dataset's order.
        indices: `(n,)`, the index in the dataset of each row of `values`.
        bad: the images that could not be read.
        fingerprint: of all that the values depend on, but for the images.
        n_extracted: how many rows the backbone was run for now; the rest came from the store.
        seconds: how long it took to have them.
    """

    values: FloatArray
    indices: IntArray
    bad: tuple[BadImage, ...]
    fingerprint: str
    n_extracted: int
    seconds: float


def extract_features(
    dataset: Images,
    backbone: str | Backbone,
    *,
    flip: bool = False,
    thumbnails: int = 0,
    on_bad_image: OnBadImage = "skip",
    device: Device = "auto",
    reporter: Reporter | None = None,
) -> Features:
    """The features of every readable image, from the store or computed now.

    Computing takes memory that does not grow with the number of images; the result is `(N, D)` float32, in memory if
    it fits there twice (a top makes a copy), else in a file of the cache folder.
    Interrupted, it goes on where it stopped when it is called again. Where the digests of the images are not known yet,
    they are taken from the same bytes: each image is read once.

    Args:
        dataset: the images, with labels or without.
        backbone: a name, such as 'densenet121', for its own pretrained weights and input size; else as from
            `load_backbone`.
        flip: of the images' mirror images, left and right exchanged; kept beside the plain ones.
        thumbnails: while images are read for their digests, what `extract_thumbnails` gives for this side is made of
            the same bytes, and kept; 0: no thumbnails.
        on_bad_image: 'skip' images that can't be read, and list them; or 'stop' at the first.
        device: 'cpu', 'gpu', or 'auto' for an accelerator where JAX sees one.
        reporter: hears how far it is.

    Raises:
        BadImageError: an image can't be read, and `on_bad_image` is 'stop'.
        TooManyBadImagesError: more than a tenth of the images can't be read.
        StorageError: the store can't be written, or neither memory nor the disk has room for the result.
    """
    if on_bad_image not in get_args(OnBadImage):
        raise OptionError(f"Expected on_bad_image to be 'skip' or 'stop', got {on_bad_image!r}.")
    reporter = reporter or Reporter()
    backbone = backbone_for(dataset, backbone, reporter=reporter)
    title = "Extracting features of flipped views" if flip else "Extracting features"

    def engine() -> Engine:
        plain = feature_engine(backbone, device)
        return _FlippingEngine(plain) if flip else plain

    view = _View(title, feature_facts(backbone, flip=flip), backbone.recipe, engine)
    return _extract(dataset, view, on_bad_image, reporter, thumbnails)


def feature_engine(backbone: Backbone, device: Device = "auto") -> Engine:
    """What computes the features that are kept: in half precision where the backbone says so."""
    plain = open_engine(backbone, device)
    return _HalfEngine(plain) if backbone.half else plain


def extract_activations(
    dataset: Images,
    backbone: Backbone,
    *,
    view: int = 0,
    device: Device = "auto",
    reporter: Reporter | None = None,
) -> Features:
    """The map at the cut of a backbone for every readable image, kept like features: values `(n, h * w * c)` float16.

    Args:
        dataset: the images.
        backbone: its `output` is the layer at the cut, or `PIXELS`; its pooling 'flatten'.
        view: 0 for the images as they are; else the number of an augmented view (`features/augmentation.py`).
        device: 'cpu', 'gpu' or 'auto'.
        reporter: hears how far it is.

    Raises:
        TooManyBadImagesError: more than a tenth of the images can't be read, or do not fit into float16.
        StorageError: the store can't be written, or neither memory nor the disk has room for the result.
    """
    facts = {**feature_facts(backbone), "view": "map" if view == 0 else f"map {view}", "dtype": "<f2"}
    if view:
        facts["augmentation"] = AUGMENTATION_VERSION
    title = f"Extracting activations of view {view}" if view else "Extracting activations"
    engine = partial(_ActivationEngine, backbone, device, view)
    return _extract(dataset, _View(title, facts, backbone.recipe, engine, "<f2"), "skip", reporter or Reporter())


def extract_thumbnails(dataset: Images, side: int, *, reporter: Reporter | None = None) -> Features:
    """Every readable image as `side`×`side` pixels, kept like features: values `(n, side * side * 3)`, 0..255.

    Raises:
        TooManyBadImagesError: more than a tenth of the images can't be read.
        StorageError: the store can't be written.
    """
    return _extract(dataset, _thumbnail_view(dataset, side), "skip", reporter or Reporter())


def _thumbnails_beside(dataset: Images, side: int) -> Thumbnails:
    view = _thumbnail_view(dataset, side)
    return Thumbnails(open_kept(view.facts) or new_kept(view.facts, side * side * 3), view.recipe)


def _thumbnail_view(dataset: Images, side: int) -> _View:
    recipe = Recipe(side, dataset.value_range)
    facts = {
        "backbone": "(thumbnails)",
        "weights": "",
        "pooling": "",
        "size": side,
        "view": "thumbnail",
        "decoding": DECODING_VERSION,
        **recipe.facts(),
    }
    return _View("Making thumbnails", facts, recipe, lambda: _PixelEngine(side))


@dataclass(frozen=True)
class _View:
    """One way of making vectors from images: what they depend on, and what makes them."""

    title: str
    facts: dict[str, Any]
    recipe: Recipe
    open_engine: Callable[[], Engine]
    dtype: str = "<f4"


class _PixelEngine:
    """Pixels as they are, for `Engine`'s contract."""

    batch_size = 64

    def __init__(self, side: int) -> None:
        self.n_features = side * side * 3

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        for tag, batch in batches:
            yield tag, batch.reshape(len(batch), -1).astype(np.float32)


class _FlippingEngine:
    """An engine that sees mirror images, left and right exchanged."""

    def __init__(self, plain: Engine) -> None:
        self._plain = plain
        self.n_features, self.batch_size = plain.n_features, plain.batch_size

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        return self._plain.run((tag, np.ascontiguousarray(batch[:, :, ::-1])) for tag, batch in batches)


class _HalfEngine:
    """An engine that gives float16."""

    def __init__(self, plain: Engine) -> None:
        self._plain = plain
        self.n_features, self.batch_size = plain.n_features, plain.batch_size

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        for tag, values in self._plain.run(batches):
            with np.errstate(over="ignore"):  # what does not fit becomes infinite, and its image counts as bad
                yield tag, values.astype(np.float16)


class _ActivationEngine(_HalfEngine):
    """An engine that gives maps in float16, of the images or of an augmented view of them."""

    def __init__(self, backbone: Backbone, device: Device, view: int) -> None:
        super().__init__(_PixelEngine(backbone.size) if backbone.output == PIXELS else open_engine(backbone, device))
        self._view = view

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        seen = ((tag, augmented(batch, self._view)) for tag, batch in batches) if self._view else batches
        return super().run(seen)


class _LateEngine:
    """An engine that is opened when the first image needs it: where the store has all, that never happens."""

    _READ_AHEAD = 32
    """Images that are read together until then."""

    def __init__(self, view: _View) -> None:
        self._view = view

    @cached_property
    def _engine(self) -> Engine:
        return self._view.open_engine()

    @property
    def batch_size(self) -> int:
        return self._engine.batch_size if "_engine" in self.__dict__ else self._READ_AHEAD

    @property
    def n_features(self) -> int:
        return self._engine.n_features

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        return self._engine.run(batches)


def _extract(
    dataset: Images, view: _View, on_bad_image: OnBadImage, reporter: Reporter, thumbnails: int = 0
) -> Features:
    began = time.perf_counter()
    engine = _LateEngine(view)
    kept = open_kept(view.facts) or new_kept(view.facts, engine.n_features)
    fill = _fill_missing if dataset.has_digests else partial(_fill_and_learn_digests, thumbnails=thumbnails)
    n_extracted, bad_now = fill(dataset, kept, engine, view, on_bad_image, reporter)
    digests = dataset.digests
    places = kept.find(digests)
    reasons = {digests[image.index]: image.reason for image in bad_now}
    bad = tuple(
        BadImage(int(i), dataset.source.name(int(dataset.rows[i])), reasons[digests[i]])
        for i in np.flatnonzero(places < 0)
    )
    _require_few(len(bad), len(dataset), bad[0] if bad else None)
    indices = np.flatnonzero(places >= 0)
    values = kept.read(places[indices], view.dtype)
    seconds = time.perf_counter() - began
    return Features(values, indices, bad, fingerprint(view.facts), n_extracted, seconds)


def _fill_missing(
    dataset: Images, kept: KeptFeatures, engine: Engine, view: _View, on_bad_image: OnBadImage, reporter: Reporter
) -> tuple[int, list[BadImage]]:
    """Extract what the store lacks of images with known digests: how many these are, and which can't be read."""
    digests = dataset.digests
    missing = np.flatnonzero(kept.find(digests) < 0)
    if not len(missing):
        return 0, []
    _require_room(len(missing), kept)
    todo = missing[np.sort(np.unique(digests[missing], return_index=True)[1])]  # of copies, the first
    intake = UnchangedImages(digests[todo])
    stream = FeatureStream(dataset.source, dataset.rows[todo], engine, view.recipe, intake)
    watch = _BadImageWatch(on_bad_image, len(dataset), stream)
    n_known = len(digests) - len(missing)
    with reporter.task(view.title, n_known + len(todo), "images", done=n_known) as task:
        n_extracted = _fill(kept, stream, digests[todo], watch, task)
    return n_extracted, [replace(image, index=int(todo[image.index])) for image in stream.bad]


def _fill_and_learn_digests(
    dataset: Images,
    kept: KeptFeatures,
    engine: Engine,
    view: _View,
    on_bad_image: OnBadImage,
    reporter: Reporter,
    thumbnails: int,
) -> tuple[int, list[BadImage]]:
    """The same for images whose digests come from the bytes that are read for this; they are known afterwards."""
    _require_room(len(dataset) - kept.n_images, kept)
    small = _thumbnails_beside(dataset, thumbnails) if thumbnails else None
    with small or nullcontext(), reporter.task(view.title, len(dataset), "images") as task:
        intake = MissingImages(len(dataset), kept, task, small)
        stream = FeatureStream(dataset.source, dataset.rows, engine, view.recipe, intake)
        watch = _BadImageWatch(on_bad_image, len(dataset), stream)
        n_extracted = _fill(kept, stream, intake.digests, watch, task)
    dataset.learn_digests(intake.all_digests(stream.bad))
    return n_extracted, stream.bad


def _require_room(n: int, kept: KeptFeatures) -> None:
    needed, free = n * kept.n_features * np.dtype(kept.dtype).itemsize, _free_bytes(kept.folder)
    if needed > free:
        raise StorageError(
            f"{n:,} images take {gigabytes(needed)} in the feature store, {kept.n_features:,} numbers each, and "
            f"{str(kept.folder.parent)!r} has {gigabytes(free)} left. Make room (`topwork cache` shows what is kept), "
            "or set TOPWORK_CACHE to a folder with more."
        )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def feature_facts(backbone: Backbone, *, flip: bool = False) -> dict[str, Any]:
    """All that a feature depends on, but for the image's bytes."""
    return {**backbone.facts(), "view": "flipped" if flip else "plain", "decoding": DECODING_VERSION}


@dataclass
class _BadImageWatch:
    """Stops an extraction when its images are too bad to go on."""

    on_bad_image: OnBadImage
    n_images: int
    stream: FeatureStream

    def check(self) -> None:
        bad = self.stream.bad
        if bad and self.on_bad_image == "stop":
            raise BadImageError(bad[0].name, bad[0].reason)
        _require_few(len(bad), self.n_images, bad[0] if bad else None)


def _require_few(n_bad: int, n_images: int, first: BadImage | None) -> None:
    if first is not None and n_bad > MOST_BAD * n_images:
        raise TooManyBadImagesError(
            f"{n_bad:,} of {n_images:,} images can't be read so far, more than a tenth: something is wrong with the "
            f"set as a whole. The first is {first.name!r}: {first.reason}."
        )


def _fill(kept: KeptFeatures, stream: FeatureStream, digests: DigestArray, watch: _BadImageWatch, task: Task) -> int:
    """Run the backbone and keep what it gives; returns the number of images that it was run for."""
    n_done = 0
    with kept.writer() as writer:
        for positions, values in stream:
            writer.add(digests[positions], values)
            n_done += len(positions)
            task.advance(len(positions))
            watch.check()
        watch.check()
    return n_done
