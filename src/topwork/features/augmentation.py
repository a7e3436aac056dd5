"""Augmented views of an image: cropped, scaled and coloured a little, the same each time for the same image and number.

Never mirrored: left and right matter in some pictures (on hand signs mirror images cost accuracy).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from topwork.kept import checksum
from topwork.types import ImageArray

AUGMENTATION_VERSION = 1
"""Counts up when views become others; part of every key of an augmented view."""
_LEAST = 0.7
"""Of the side, what a crop keeps at least; it is scaled to the whole side again."""
_COLOUR = 0.25
"""By how much brightness, contrast and saturation may change, up or down."""


def augmented(images: ImageArray, view: int) -> ImageArray:
    """View number `view`, 1 or more, of `(B, size, size, 3)` uint8 images, of the same shape.

    What is drawn depends on an image's own pixels and on `view` alone, so it is the same in every batch and run.
    """
    return np.stack([_view(image, view) for image in images])


def _view(pixels: ImageArray, view: int) -> ImageArray:
    random = np.random.default_rng([view, int(checksum(np.ascontiguousarray(pixels).data), 16)])
    size = len(pixels)
    side = random.uniform(_LEAST, 1.0) * size
    left, top = random.uniform(0, size - side, 2)
    image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(random.uniform(1 - _COLOUR, 1 + _COLOUR))
    return np.asarray(image)
