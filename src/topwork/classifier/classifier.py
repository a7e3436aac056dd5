"""A trained classifier: images in, class names and probabilities out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.backbone import Backbone
from topwork.backbones.engines import DirectEngine, open_engine
from topwork.classifier.predictions import Predictions, join_predictions
from topwork.classifier.saving import save_classifier
from topwork.data.dataset import ImageDataset, as_payloads
from topwork.data.sources import ArrayImages, ImageSource
from topwork.errors import BadImageError, OptionError
from topwork.features.extraction import extract_features
from topwork.features.pipeline import BadImage, FeatureStream, computed_beside, in_order
from topwork.progress import Reporter
from topwork.tops.answering import Top
from topwork.tops.dense_stack import DenseStack, softmax
from topwork.tops.novelty import Novelty
from topwork.types import Device, FloatArray, IntArray, StrArray

if TYPE_CHECKING:
    from topwork.classifier.record import Training


BATCHES_AT_ONCE = 16
"""Of the engine's, a slice of `ImageClassifier.stream`: fewer waste calls, more let a person wait for the first answer.
The slower the network, the smaller its batches: it is a tenth of a second of the starter, a second of ResNet50.
"""


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """Backbone, preprocessing, top and class names as one. `fit_classifier` makes it, `load_classifier` reads it.

    Attributes:
        backbone: the frozen network.
        top: the fitted top.
        class_names: K names; column i of the probabilities is class_names[i].
        novelty: what tells images unlike the training images; None where the top isn't a `DenseStack`, or where there
            were fewer than 20 validation images.
        training: how it was trained; None for one that was loaded.
        record: facts of the training that are saved with it.
        device: where the backbone runs: 'auto', 'cpu' or 'gpu'.
    """

    backbone: Backbone
    top: Top
    class_names: tuple[str, ...]
    novelty: Novelty | None = None
    training: Training | None = None
    record: dict[str, Any] = field(default_factory=dict)
    device: Device = "auto"

    def __repr__(self) -> str:
        backbone = f"{self.backbone.name}, {self.backbone.size} pixels"
        return f"<ImageClassifier: {len(self.class_names)} classes on {backbone}>"

    def predict(self, images: NDArray[np.uint8] | Sequence[Any], *, unknown: str | None = None) -> StrArray:
        """`(N,)`, the most probable class name of each image; see `predict_proba`.

        Args:
            images: as `predict_proba` takes them.
            unknown: what to answer for images unlike all that it was trained on; None names a class all the same.

        Raises:
            OptionError: `unknown` is given, and this classifier can't tell.
        """
        if unknown is not None:
            self.require_novelty()
        predictions = self.predict_all(images)
        answers = np.array(self.class_names, dtype=object)[predictions.probabilities.argmax(axis=1)]
        if unknown is not None and predictions.is_unknown is not None:
            answers[predictions.is_unknown] = unknown
        return np.asarray(answers, dtype=str)

    def predict_proba(self, images: NDArray[np.uint8] | Sequence[Any]) -> FloatArray:
        """`(N, K)` float64 probabilities, rows sum to 1.

        Args:
            images: a list of paths, PIL images, encoded bytes or uint8 arrays; or `(N, H, W, 3)` uint8.

        Raises:
            BadImageError: an image can't be read.
            ShapeError: not images.
        """
        return self.predict_all(images).probabilities

    def predict_all(self, images: NDArray[np.uint8] | Sequence[Any]) -> Predictions:
        """Probabilities, and what tells unknown images, of images that can all be read; see `predict_proba`.

        Raises:
            BadImageError: an image can't be read.
            ShapeError: not images.
        """
        payloads = as_payloads(images)
        predictions = self.predict_source(ArrayImages(payloads))
        if predictions.bad:
            first = predictions.bad[0]
            path = payloads[first.index]
            raise BadImageError(str(path) if isinstance(path, Path) else first.name, first.reason)
        return predictions

    def predict_source(self, source: ImageSource, reporter: Reporter | None = None) -> Predictions:
        """Predictions for a source of any length, those images listed that can't be read; keeps no features."""
        nothing = self.predict_features(np.empty((0, self.engine.n_features), np.float32))
        return join_predictions([nothing, *self.stream(source, reporter)])

    def stream(self, source: ImageSource, reporter: Reporter | None = None, *, first: int = 0) -> Iterator[Predictions]:
        """Predictions for a source of any length, slice by slice in its order, as they are computed; keeps nothing.

        Slices begin and end at multiples of the same number, so that an image's answer is the same to the last bit
        wherever one begins.

        Args:
            source: the images.
            reporter: hears of progress.
            first: the image to begin with: 0, or where a slice of an earlier stream ended.

        Yields:
            Predictions for some dozens of images each, their `names` and `indices` those of the slice.
        """
        step = BATCHES_AT_ONCE * self.engine.batch_size
        one_thread = _one_thread() if len(source) > step else contextlib.nullcontext
        rows = np.arange(first, len(source))
        stream = FeatureStream(source, rows, self.engine, self.backbone.recipe)

        def answer(start: int, positions: IntArray, features: FloatArray, bad: list[BadImage]) -> Predictions:
            names = tuple(source.name(row) for row in range(first + start, min(first + start + step, len(source))))
            unreadable = tuple(BadImage(image.index - start, image.name, image.reason) for image in bad)
            with one_thread():
                return self.predict_features(features, names, positions - start, unreadable)

        with (reporter or Reporter()).task("Predicting", len(source), "images", done=first) as task:
            for predictions in computed_beside(answer, in_order(stream, step)):
                yield predictions
                task.advance(len(predictions.names))

    def predict_dataset(self, dataset: ImageDataset, reporter: Reporter | None = None) -> Predictions:
        """Predictions for a dataset; its features are kept, so that a second time costs next to nothing."""
        features = extract_features(dataset, self.backbone, device=self.device, reporter=reporter)
        return self.predict_features(features.values, tuple(dataset.names), features.indices, features.bad)

    def predict_features(
        self,
        features: FloatArray,
        names: tuple[str, ...] = (),
        indices: IntArray | None = None,
        bad: tuple[BadImage, ...] = (),
    ) -> Predictions:
        """Predictions for the `(n, D)` features of the images at `indices` of `names`; or of n without names."""
        indices = np.arange(len(features)) if indices is None else indices
        if self.novelty is None or not isinstance(self.top, DenseStack):
            return Predictions(names, indices, self.top.probabilities(features), bad, self.class_names)
        logits = self.top.logits(features)
        scores = self.novelty.scores(features, logits)
        return Predictions(names, indices, softmax(logits), bad, self.class_names, scores, self.novelty.threshold)

    def require_novelty(self) -> None:
        """Raise an `OptionError` where this classifier can't tell unknown images."""
        if self.novelty is None:
            raise OptionError(
                "This classifier has no detector of unknown images. It needs a LinearTop or MLPTop and 20 validation "
                "images. Train it again, with more images where these are too few."
            )

    def save(self, path: str | Path) -> None:
        """Write it as a folder that `load_classifier` reads, here or on another machine.

        A folder that holds a classifier already is replaced.

        Raises:
            SavedFileError: the top is one that only pickle could save, or the folder holds something else.
            StorageError: it can't be written.
        """
        save_classifier(
            Path(path),
            backbone=self.backbone,
            top=self.top,
            class_names=self.class_names,
            novelty=self.novelty,
            record=self.record,
        )

    @cached_property
    def engine(self) -> DirectEngine:
        """What runs the backbone, compiled when it is first asked for."""
        return open_engine(self.backbone, self.device)

    @cached_property
    def map_engine(self) -> DirectEngine:
        """The same, of the last feature map as it is: what explanations are drawn from."""
        return open_engine(replace(self.backbone, pooling="flatten"), self.device)


def _one_thread() -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """Keeps NumPy's matrix products to one thread while the engine computes the next features.

    Its threads wait for work at full speed, on the cores that the engine is using: a stream of small images took half
    as long again.
    """
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()  # looks for the libraries once; to limit them is quick
    return lambda: controller.limit(limits=1, user_api="blas")
