"""How a network from a file wants its pixels, from the JSON beside it: of Hugging Face's processors, or of timm."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork.backbones.preprocessing import Preprocessing
from topwork.errors import WeightsError
from topwork.files import printable, read_regular
from topwork.types import Filter, Frame

_LARGEST = 1 << 20
_BILINEAR = 2
"""Pillow's number of the filter; all but this one are taken as bicubic, the nearest that Topwork has to them."""
FILES = ("preprocessor_config.json", "config.json")


@dataclass(frozen=True)
class PixelConfig:
    """What a file says of a network's pixels.

    Attributes:
        source: the file's name.
        preprocessing: scale and offset.
        size: the side of its squares, in pixels; None where it isn't said.
        frame: as `Recipe.frame`.
        crop: as `Recipe.crop`.
        filter: as `Recipe.filter`.
        licence: of the weights; empty where it isn't said.
    """

    source: str
    preprocessing: Preprocessing
    size: int | None = None
    frame: Frame = "crop"
    crop: float = 1.0
    filter: Filter = "bicubic"
    licence: str = ""


def scaled(mean: tuple[float, ...], std: tuple[float, ...], factor: float = 1 / 255) -> Preprocessing:
    """`(pixel * factor - mean) / std`, a channel each; one number stands for all three.

    Raises:
        ValueError: not one or three numbers each, or a `std` that isn't positive.
    """
    means, stds = (values * 3 if len(values) == 1 else values for values in (mean, std))
    if len(means) != 3 or len(stds) != 3 or not all(map(math.isfinite, (*means, *stds))) or min(stds) <= 0:
        raise ValueError(f"mean {mean} and std {std} are not one or three numbers, std positive")
    scale, offset = ((factor / s for s in stds), (-m / s for m, s in zip(means, stds, strict=True)))
    return Preprocessing("file", tuple(scale), tuple(offset))  # type: ignore[arg-type]


def find_config(folder: Path) -> PixelConfig | None:
    """What the JSON files in `folder` say of pixels, or those above a folder `onnx`; None where there are none that do.

    Raises:
        WeightsError: a file says it in a way that isn't understood.
    """
    for place in (folder, folder.parent) if folder.name == "onnx" else (folder,):
        for name in FILES:
            facts = _read(place / name)
            if facts is None:
                continue
            try:
                found = _of_timm(facts, name) if "pretrained_cfg" in facts else _of_processor(facts, name)
            except (ValueError, TypeError, KeyError, LookupError, ArithmeticError) as error:
                raise WeightsError(
                    f"{printable(str(place / name))!r} says how pixels are scaled in a way that is not known: {error}. "
                    "Give `mean` and `std`, which take its place."
                ) from error
            if found is not None:
                return found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(read_regular(path, at_most=_LARGEST))
    except (OSError, ValueError, RecursionError):  # there is none; some hubs have one of two bytes
        return None
    return facts if isinstance(facts, dict) else None


def _of_processor(facts: dict[str, Any], name: str) -> PixelConfig | None:
    """Of `preprocessor_config.json`: resize, cut, scale by a factor, subtract a mean, divide by a deviation."""
    if "image_mean" not in facts and "size" not in facts:
        return None
    is_normalised = facts.get("do_normalize", True)
    mean = tuple(facts["image_mean"]) if is_normalised else (0.0,)
    std = tuple(facts["image_std"]) if is_normalised else (1.0,)
    factor = float(facts.get("rescale_factor", 1 / 255)) if facts.get("do_rescale", True) else 1.0
    resized, cropped = _side(facts.get("size")), _side(facts.get("crop_size"))
    is_squashed = isinstance(facts.get("size"), dict) and "height" in facts["size"]
    crop = 1.0
    if facts.get("do_center_crop") and cropped and resized:
        crop = cropped / resized
    elif facts.get("crop_pct") and resized and resized < 384:  # ConvNeXT's processor: larger ones are squashed
        crop, cropped = float(facts["crop_pct"]), resized
    elif facts.get("crop_pct") and resized:
        is_squashed = True
    return PixelConfig(
        source=name,
        preprocessing=scaled(mean, std, factor),
        size=cropped if facts.get("do_center_crop") and cropped else resized or cropped,
        frame="squash" if is_squashed and crop >= 1 else "crop",
        crop=min(1.0, crop),
        filter="bilinear" if facts.get("resample") == _BILINEAR else "bicubic",
    )


def _of_timm(facts: dict[str, Any], name: str) -> PixelConfig:
    given = facts["pretrained_cfg"]
    channels, height, width = given["input_size"]
    if channels != 3 or height != width:
        raise ValueError(f"the input is {given['input_size']}, no square of three channels")
    frames: dict[str, Frame] = {"center": "crop", "squash": "squash", "border": "pad"}
    frame = frames[given.get("crop_mode") or "center"]
    return PixelConfig(
        source=name,
        preprocessing=scaled(tuple(given["mean"]), tuple(given["std"])),
        size=int(height),
        frame=frame,
        crop=float(given.get("crop_pct") or 0.875) if frame == "crop" else 1.0,
        filter="bilinear" if given.get("interpolation") == "bilinear" else "bicubic",
        licence=str(given.get("license") or ""),
    )


def _side(size: Any) -> int | None:
    """The side of a square, of the ways in which it is written."""
    if isinstance(size, dict):
        sides = {size[key] for key in ("shortest_edge", "height", "width") if size.get(key) is not None}
        if len(sides) > 1:
            raise ValueError(f"the size {size} is no square")
        return int(sides.pop()) if sides else None
    return None if size is None else int(size)
