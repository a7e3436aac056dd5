"""f32 or bf16: decided by what bf16 does to the features of the user's own images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.backbones.engines import has_bf16
from topwork.data.images import Images
from topwork.errors import TooManyBadImagesError
from topwork.features.choice import backbone_for
from topwork.features.extraction import extract_features
from topwork.progress import Reporter
from topwork.tops.base import standardisation
from topwork.types import Device, FloatArray

SAMPLE = 256
"""Images whose features are computed in both."""
FEWEST = 8 * SAMPLE
"""Images below which looking takes longer than bf16 could save."""
LEAST_AGREEMENT = 0.999


def choose_precision(
    dataset: Images, backbone: str | Backbone, *, device: Device = "auto", reporter: Reporter | None = None
) -> Backbone:
    """`backbone` in bf16 where that leaves the features of these images as they are, else in f32.

    Both are computed, and kept, for the 256 images whose digests are the smallest, so that a dataset that grows keeps
    most of its sample. bf16 is taken if their `agreement` is 0.999 or more. It is f32 untried where the device has no
    bf16, and for fewer than 2,048 images.

    Args:
        dataset: the images.
        backbone: as in `fit_classifier`; its own precision doesn't matter.
        device: 'cpu', 'gpu', or 'auto' for an accelerator where JAX sees one.
        reporter: hears which, and why.

    Raises:
        StorageError: the store can't be written.
    """
    reporter = reporter or Reporter()
    backbone = backbone_for(dataset, backbone, reporter=reporter)
    exact, quick = (replace(backbone, precision=precision) for precision in ("f32", "bf16"))
    if len(dataset) < FEWEST:
        reporter.note(f"Precision f32: of fewer than {FEWEST:,} images, bf16 is not worth its trial")
        return exact
    if not has_bf16(device):
        reporter.note("Precision f32: there is no bf16 arithmetic here")
        return exact
    _, first = np.unique(dataset.read_digests(reporter), return_index=True)  # ascending
    sample = dataset.select(np.sort(first[:SAMPLE]))
    try:
        features = [extract_features(sample, each, device=device, reporter=reporter).values for each in (exact, quick)]
    except TooManyBadImagesError:  # extraction will say whether that is so of all of them
        reporter.note("Precision f32: too many of the images to try bf16 on can't be read")
        return exact
    found = agreement(*features)
    is_harmless = found >= LEAST_AGREEMENT
    reporter.note(
        f"Precision {'bf16' if is_harmless else 'f32'}: features of {len(features[0])} images agree to {found:.4f} "
        f"between f32 and bf16 ({LEAST_AGREEMENT} is asked for)"
    )
    return quick if is_harmless else exact


def agreement(exact: FloatArray, other: FloatArray) -> float:
    """How near two ways of computing the same `(n, D)` features are, for a top; 1 where they are the same.

    The cosine between the two rows of each image, standardised by `exact`, as tops do it; of these cosines the 1st
    percentile. Plain cosines look better: most of what all features have in common is their mean, and a feature that
    hardly varies may vary by rounding alone.
    """
    mean, scale = standardisation(exact)
    a, b = ((np.asarray(values, np.float64) - mean) / scale for values in (exact, other))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.percentile((a * b).sum(axis=1) / np.maximum(norms, np.finfo(float).tiny), 1))
