"""An explanation as a page: the image, and what in it speaks for the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from topwork.classifier.explanation import Explanation
from topwork.report.page import render
from topwork.report.pictures import data_address
from topwork.types import FloatArray, ImageArray

_SIDE = 448
_QUALITY = 85


def explanation_html(found: Explanation, name: str, neighbours: Sequence[tuple[object, str]]) -> str:
    """The page.

    Args:
        found: as from `explain`.
        name: what a person calls the image.
        neighbours: training images with `name`, `label` and `cosine`, the nearest first; and each as a picture's
            address, empty where it can't be shown.
    """
    plain = np.asarray(Image.fromarray(found.image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    return render(
        "explanation.html",
        title=f"{name}: {found.class_name}",
        name=name,
        found=found,
        plain=data_address(plain, _QUALITY),
        heated=data_address(_heated(plain, found.heat), _QUALITY),
        neighbours=neighbours,
    )


def _heated(plain: ImageArray, heat: FloatArray) -> ImageArray:
    """The picture in grey, what speaks for the class laid over it in orange, what speaks against it in blue."""
    strongest = max(float(np.abs(heat).max()), 1e-12)
    smooth = Image.fromarray((heat / strongest).astype(np.float32), "F").resize(
        (_SIDE, _SIDE), Image.Resampling.BICUBIC
    )
    strength = np.clip(np.asarray(smooth), -1, 1)[..., None]
    grey = np.repeat(plain.mean(axis=2, keepdims=True), 3, axis=2)
    colour = np.where(strength > 0, (255.0, 120.0, 0.0), (0.0, 90.0, 255.0))
    share = 0.65 * np.abs(strength)
    return np.asarray(np.clip(grey * (1 - share) + colour * share, 0, 255).astype(np.uint8))
