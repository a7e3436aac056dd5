"""Which network sees the images where nobody names one: decided by the images alone, so the same on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from topwork.backbones.backbone import Backbone, as_backbone, load_backbone
from topwork.backbones.cards import AUTO, STARTER
from topwork.data.decoding import picture_size, quiet_pillow
from topwork.data.images import Images
from topwork.errors import WeightsError
from topwork.progress import Reporter
from topwork.types import IntArray

FOR_PHOTOGRAPHS = "efficientnet_lite0"
_BORDER = 48
"""Pixels of the median shorter side. Against the starter, cross-validated: at 32 pixels -1.5 to +2.6 points, at 40
+2.3 and +5.4, at 48 +4.9 and +7.1, at 64 and more +8.6 to +13; an image takes it 5 ms in the place of 0.4."""
_LOOKED_AT = 200


def backbone_for(dataset: Images, backbone: str | Backbone, *, reporter: Reporter | None = None) -> Backbone:
    """A backbone as it is; by a name, that network with its own pretrained weights; by 'auto', what suits the images.

    Raises:
        OptionError: it is neither.
        TopworkError: see `load_backbone`.
    """
    return load_auto(dataset, reporter=reporter) if backbone == AUTO else as_backbone(backbone, reporter=reporter)


def load_auto(dataset: Images, *, reporter: Reporter | None = None, **options: Any) -> Backbone:
    """What suits the images: the starter where they are small, else EfficientNet-Lite0; tells `reporter` which and why.

    Args:
        dataset: the images, of which up to 200 are looked at.
        reporter: hears of it.
        options: of `load_backbone`.

    Raises:
        TopworkError: see `load_backbone`.
    """
    reporter = reporter or Reporter()
    side = median_side(dataset)
    if side < _BORDER:
        reporter.note(f"These are small images: half have shorter sides of {side:.0f} pixels or fewer")
        return load_backbone(STARTER, reporter=reporter, **options)
    try:
        backbone = load_backbone(FOR_PHOTOGRAPHS, reporter=reporter, **options)
    except WeightsError as error:
        reporter.warning(
            f"{FOR_PHOTOGRAPHS}, which suits these images, can't be used, and the starter serves in its place, which "
            f"sees much less in photographs. {error}"
        )
        return load_backbone(STARTER, reporter=reporter, **options)
    reporter.note(f"These are photographs: half have shorter sides of {side:.0f} pixels or more")
    return backbone


def median_side(dataset: Images) -> float:
    """The median of the shorter sides of up to 200 images, evenly spaced, in pixels; 0 where none can be read."""
    places = np.unique(np.linspace(0, len(dataset) - 1, min(_LOOKED_AT, len(dataset))).astype(int))
    sides = [min(size) for size in sizes_of(dataset, places)]
    return float(np.median(sides)) if sides else 0.0


def sizes_of(dataset: Images, places: IntArray) -> list[tuple[int, int]]:
    """Width and height in pixels of the images at these places, by their heads; those that can't be read have none."""
    with quiet_pillow():
        sizes = [picture_size(payload) for payload in dataset.source.payloads(dataset.rows[places])]
    return [size for size in sizes if size is not None]
