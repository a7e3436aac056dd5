"""Which pixel values become black and white, of pictures with 16 or 32 bits a channel: those that the set uses.

A detector with 12 bits writes files with 16. Kept as they are, such pictures are nearly black, and 16 of 256 levels are
left of them. So the values of a sample say what becomes white, the same for all pictures: of whole numbers the
smallest range 0..2^k - 1 that holds 99.9 % of them, of fractions 0..1. Where the values lie close together in that
range, as a thermal camera's do, and where there is none, it is what lies between their 0.1 and 99.9 %.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.data.decoding import deep_values, quiet_pillow
from topwork.data.images import Images
from topwork.data.splits import TRAIN
from topwork.errors import BadImageError
from topwork.progress import Reporter
from topwork.types import FloatArray, ValueRange

SAMPLE = 200
"""Pictures that are looked at, evenly spaced."""
_VALUES = 10_000
"""Of each picture, about."""
_INSIDE = 0.999
"""A few hot pixels do not make the others dark."""
_SPREAD = 0.25
"""Of a round range: values that take up less of it would have fewer than 64 of 256 levels, and get their own range."""


_DEEPEST = 65_535.0


def with_range(backbone: Backbone, dataset: Images, reporter: Reporter) -> Backbone:
    """`backbone` with the range that the images for training use, unless it has one, or they have 8 bits."""
    if backbone.recipe.value_range is not None:
        return backbone
    found = find_range(dataset)
    if found is None:
        return backbone
    low, high = found
    reporter.note(
        f"Pictures with more than 8 bits: their values {low:,g} to {high:,g} become black to white. Others: "
        f"`range={low:g},{high:g}`"
    )
    return replace(backbone, recipe=replace(backbone.recipe, value_range=found))


def find_range(dataset: Images) -> ValueRange | None:
    """What the images for training use; None for 0..65,535, and where none has more than 8 bits."""
    rows = dataset.rows if dataset.splits is None else dataset.rows[dataset.splits == TRAIN]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int))]
    found: list[FloatArray] = []
    with quiet_pillow():
        for row, payload in zip(rows, dataset.source.payloads(rows), strict=True):
            try:
                values = deep_values(payload, dataset.source.name(int(row)))
            except (OSError, BadImageError):  # extraction says what is wrong with it
                continue
            if values is not None:
                found.append(values.ravel()[:: max(1, values.size // _VALUES)].astype(np.float64))
    every = np.concatenate([np.empty(0), *found])
    every = every[np.isfinite(every)]
    return _range_of(every) if len(every) else None


def _range_of(values: FloatArray) -> ValueRange | None:
    ends = np.quantile(values, (1 - _INSIDE, _INSIDE))
    low, high = (float(f"{value:.3g}") for value in ends)
    is_whole, least = bool(np.all(values == np.round(values))), float(values.min())
    own = (low, high) if low < high else (least, least + 1.0)
    if least >= 0 and values.max() <= 1 and not is_whole:
        round_range = 0.0, 1.0
    elif least >= 0 and is_whole and (bits := max(8, int(np.ceil(np.log2(ends[1] + 1))))) <= 16:
        round_range = 0.0, 2.0**bits - 1
    else:
        return own
    if low < high and high - low < _SPREAD * round_range[1]:
        return own
    return None if round_range[1] == _DEEPEST else round_range


def read_range(text: str) -> ValueRange:
    """Two numbers as a person types them, such as `0,4095`.

    Raises:
        ValueError: they are none.
    """
    low, high = (float(part) for part in text.split(","))
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(text)
    return low, high
