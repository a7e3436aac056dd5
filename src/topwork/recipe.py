"""How a picture becomes the square of pixels that a backbone sees: one description, which all that read images follow.

`data/decoding.py` renders it with Pillow, `export/graph.py` in OpenVINO, `export/keras_model.py` in Keras. What the
pixels are scaled to afterwards belongs to the backbone's graph (`backbones/preprocessing.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from topwork.types import ValueRange


@dataclass(frozen=True)
class Recipe:
    """How a picture becomes `(size, size, 3)` uint8.

    Attributes:
        size: the side of the square, in pixels.
        value_range: which pixel values become black and white, of pictures deeper than 8 bits; None: 0 to 65,535.
    """

    size: int
    value_range: ValueRange | None = None

    def facts(self) -> dict[str, Any]:
        """What a feature's key holds of this beside the size; nothing where all is as it always was."""
        return {} if self.value_range is None else {"value_range": list(self.value_range)}
