"""Features of a dataset: what the store has is read, the rest is computed once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
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
    """

    values: FloatArray
    indices: IntArray
    bad: tuple[BadImage, ...]
    fingerprint: str
    n_extracted: int


def extract_features(
    dataset: Images,
    backbone: str | Backbone,
    *,
    flip: bool = False,
    on_bad_image: OnBadImage = "skip",
    device: Device = "auto",
    reporter: Reporter | None = None,
) -> Features:
    """The features of every readable image, from the store or computed now.

    Computing takes memory that does not grow with the number of images; the result is `(N, D)` float32, in memory if
    it fits there twice (a top makes a copy), else in a file of the cache folder.
    Interrupted, it goes on where it stopped when it is called again.

    Args:
        dataset: the images, with labels or without.
        backbone: a name, such as 'densenet121', for its own pretrained weights and input size; else as from
            `load_backbone`.
        flip: of the images' mirror images, left and right exchanged; kept beside the plain ones.
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
        plain = open_engine(backbone, device)
        return _FlippingEngine(plain) if flip else plain

    view = _View(title, feature_facts(backbone, flip=flip), backbone.recipe, engine)
    return _extract(dataset, view, on_bad_image, reporter)


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
    return _extract(dataset, _View(title, facts, backbone.recipe, engine), "skip", reporter or Reporter())


def extract_thumbnails(dataset: Images, side: int, *, reporter: Reporter | None = None) -> Features:
    """Every readable image as `side`×`side` pixels, kept like features: values `(n, side * side * 3)`, 0..255.

    Raises:
        TooManyBadImagesError: more than a tenth of the images can't be read.
        StorageError: the store can't be written.
    """
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
    view = _View("Making thumbnails", facts, recipe, lambda: _PixelEngine(side))
    return _extract(dataset, view, "skip", reporter or Reporter())


@dataclass(frozen=True)
class _View:
    """One way of making vectors from images: what they depend on, and what makes them."""

    title: str
    facts: dict[str, Any]
    recipe: Recipe
    open_engine: Callable[[], Engine]


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


class _ActivationEngine:
    """An engine that gives maps in float16, of the images or of an augmented view of them."""

    def __init__(self, backbone: Backbone, device: Device, view: int) -> None:
        self._plain: Engine = (
            _PixelEngine(backbone.size) if backbone.output == PIXELS else open_engine(backbone, device)
        )
        self._view = view
        self.n_features, self.batch_size = self._plain.n_features, self._plain.batch_size

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        seen = ((tag, augmented(batch, self._view)) for tag, batch in batches) if self._view else batches
        for tag, values in self._plain.run(seen):
            with np.errstate(over="ignore"):  # what does not fit becomes infinite, and its image counts as bad
                yield tag, values.astype(np.float16)


def _extract(dataset: Images, view: _View, on_bad_image: OnBadImage, reporter: Reporter) -> Features:
    facts = view.facts
    digests = dataset.read_digests(reporter)
    kept = open_kept(facts)
    places = kept.find(digests) if kept else np.full(len(dataset), -1)
    n_extracted, reasons = 0, {}
    if kept is None or np.any(places < 0):
        engine = view.open_engine()
        if kept is None:
            kept = new_kept(facts, engine.n_features)
            places = kept.find(digests)  # what lies there, if only the facts were damaged
        missing = np.flatnonzero(places < 0)
        _require_room(len(missing), kept)
        todo = missing[np.sort(np.unique(digests[missing], return_index=True)[1])]  # of copies, the first
        stream = FeatureStream(dataset.source, dataset.rows[todo], engine, view.recipe, digests[todo])
        watch = _BadImageWatch(on_bad_image, len(dataset), stream)
        n_known = len(digests) - len(missing)
        with reporter.task(view.title, n_known + len(todo), "images", done=n_known) as task:
            n_extracted = _fill(kept, stream, digests[todo], watch, task)
        reasons = {digests[todo[bad.index]]: bad.reason for bad in stream.bad}
        places = kept.find(digests)
    bad = tuple(
        BadImage(int(i), dataset.source.name(int(dataset.rows[i])), reasons[digests[i]])
        for i in np.flatnonzero(places < 0)
    )
    _require_few(len(bad), len(dataset), bad[0] if bad else None)
    indices = np.flatnonzero(places >= 0)
    return Features(kept.read(places[indices]), indices, bad, fingerprint(facts), n_extracted)


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
