"""int8: a smaller file, and what it costs in accuracy."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from topwork.data.decoding import Payload, fine_enough, read_image, read_square
from topwork.errors import ExportError
from topwork.evaluation.intervals import Proportion, proportion
from topwork.export.graph import EXACT, InputShape
from topwork.recipe import Recipe
from topwork.types import FloatArray, IntArray

Model = TypeVar("Model")

CALIBRATION_IMAGES = 300
"""From which the ranges of the activations are taken: NNCF's default."""
MOST_LOST = 0.05
"""A file that loses more of the test accuracy than this is not delivered."""


@dataclass(frozen=True)
class Int8Images:
    """What exporting in int8 needs.

    Attributes:
        calibration: training images, for the ranges of the activations.
        test: N test images.
        labels: `(N,)`, their classes, integers in 0..K-1.
    """

    calibration: Sequence[Payload]
    test: Sequence[Payload]
    labels: IntArray


@dataclass(frozen=True)
class Int8Result:
    """Accuracy on the same test images before (Topwork, float32) and after (the exported file)."""

    before: Proportion
    after: Proportion

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON."""
        return {"accuracy_before": self.before.as_dict(), "accuracy_after": self.after.as_dict()}


def quantize(model: Model, images: Sequence[Payload], recipe: Recipe, shape: InputShape) -> Model:
    """An OpenVINO or ONNX classifier with weights and activations in int8, by NNCF's post-training quantisation.

    Args:
        model: `image` `(B, H, W, 3)` uint8 -> probabilities.
        images: for the ranges of its activations.
        recipe: the model's; JPEGs much larger than its squares are decoded at a fraction.
        shape: what it takes.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    name = "calibration image"

    def given(payload: Payload) -> dict[str, Any]:
        if shape.size is not None:
            pixels = read_square(payload, recipe, name)
        else:
            at_least = fine_enough(recipe)
            pixels = np.asarray(read_image(payload, name, at_least=at_least, value_range=recipe.value_range))
        return {"image": np.stack([pixels] * (shape.batch or 1))}

    with contextlib.redirect_stdout(io.StringIO()):  # its bars would lie among the command's results
        return nncf.quantize(  # type: ignore[no-any-return]
            model,
            nncf.Dataset(images, given),
            subset_size=CALIBRATION_IMAGES,
            ignored_scope=nncf.IgnoredScope(patterns=[f"{kind}/.*" for kind in EXACT], validate=False),
        )


def compare_accuracy(labels: IntArray, before: FloatArray, after: FloatArray) -> Int8Result:
    """What int8 costs, of `(N,)` labels and the `(N, K)` probabilities before and after.

    Raises:
        ExportError: int8 costs more than `MOST_LOST`.
    """
    n_before, n_after = (int(np.sum(found.argmax(axis=1) == labels)) for found in (before, after))
    result = Int8Result(proportion(n_before, len(labels)), proportion(n_after, len(labels)))
    if result.before.value - result.after.value > MOST_LOST:
        raise ExportError(
            f"In int8 the accuracy on {len(labels):,} test images falls from {100 * result.before.value:.1f} % to "
            f"{100 * result.after.value:.1f} %, by more than {100 * MOST_LOST:.0f} points. Nothing was delivered. "
            "Export without `int8=True`, or train on another backbone."
        )
    return result
