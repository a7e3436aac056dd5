"""How a picture becomes the square of pixels that a backbone sees: one description, which all that read images follow.

`data/decoding.py` renders it with Pillow, `export/graph.py` in OpenVINO, `export/keras_model.py` in Keras. What the
pixels are scaled to afterwards belongs to the backbone's graph (`backbones/preprocessing.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from topwork.errors import OptionError
from topwork.types import Filter, Frame, ValueRange

PAD_COLOUR = (124, 116, 104)
"""Beside a padded picture: the mean colour of ImageNet, which most networks scale to about zero."""


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes `(size, size, 3)` uint8.

    Attributes:
        size: the side of the square, in pixels.
        value_range: which pixel values become black and white, of pictures deeper than 8 bits; None: 0 to 65,535.
        frame: 'crop' for the centre square of the picture; 'pad' for all of it in the middle of a square; 'squash' for
            all of it, its sides made equal.
        crop: how much of the centre square's side is seen, in 0..1, to a thousandth; of 'crop' alone. What others call
            "resize to 256, crop 224" is 0.875.
        filter: how it is resized: 'bicubic' or 'bilinear', both averaging where they shrink.

    Raises:
        OptionError: a value that is none of these.
    """

    size: int
    value_range: ValueRange | None = None
    frame: Frame = "crop"
    crop: float = 1.0
    filter: Filter = "bicubic"

    def __post_init__(self) -> None:
        for what, value, allowed in (("frame", self.frame, Frame), ("filter", self.filter, Filter)):
            if value not in get_args(allowed):
                raise OptionError(f"Expected {what} to be one of {', '.join(get_args(allowed))}; got {value!r}.")
        if not 0.1 <= self.crop <= 1:
            raise OptionError(f"Expected crop to be a part of the side in 0.1 to 1, such as 0.875; got {self.crop!r}.")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise OptionError(
                f"Expected value_range to be two rising numbers, such as (0, 4095); got {self.value_range}."
            )

    @property
    def crop_thousandths(self) -> int:
        """`crop` as a whole number: sides are cut in whole numbers, the same by Pillow, OpenVINO and Keras."""
        return round(1000 * self.crop) if self.frame == "crop" else 1000

    def seen_of(self, width: int, height: int) -> float:
        """Which part of the area of a picture of these sides the backbone sees, in 0..1."""
        side = min(width, height) * self.crop
        return side * side / (width * height) if self.frame == "crop" else 1.0

    def facts(self) -> dict[str, Any]:
        """What a feature's key holds of this beside the size; nothing of what is as it always was."""
        plain = (self.frame, self.crop_thousandths, self.filter) == ("crop", 1000, "bicubic")
        framing = {} if plain else {"frame": self.frame, "crop": self.crop_thousandths / 1000, "filter": self.filter}
        return {**framing, **({} if self.value_range is None else {"value_range": list(self.value_range)})}
