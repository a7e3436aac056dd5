"""Augmented views: others each time, the same for the same image and number."""

from __future__ import annotations

import numpy as np

from helpers import COLOURS, make_photo
from topwork.features.augmentation import augmented


def test_a_view_depends_on_the_image_and_its_number_alone() -> None:
    images = np.stack([np.asarray(make_photo(colour, 0, (40, 40))) for colour in COLOURS.values()])
    together = augmented(images, 1)
    assert together.shape == images.shape
    assert together.dtype == np.uint8
    for image, view in zip(images, together, strict=True):
        assert np.array_equal(augmented(image[None], 1)[0], view)
        assert not np.array_equal(view, image)
        assert not np.array_equal(augmented(image[None], 2)[0], view)
        # a little, not out of recognition
        assert np.abs(view.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 60
