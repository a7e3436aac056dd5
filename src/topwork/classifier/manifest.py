"""The manifest of a saved classifier: what it must say, and of which kind. Strangers' files come through here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from topwork.backbones.cards import LARGEST_SIZE
from topwork.errors import SavedFileError
from topwork.files import printable, read_regular
from topwork.types import Filter, Frame, Pooling, Precision
from topwork.version import VERSION

FORMAT = "topwork-classifier"
FORMAT_VERSION = 3
FORMAT_OF_PLAIN, FORMAT_OF_RANGE = 1, 2
"""Of classifiers whose recipe is as it always was, or has but a range of pixel values: an older Topwork reads them."""
MANIFEST = "manifest.json"
BACKBONE, TOP, NOVELTY = "backbone.safetensors", "top.safetensors", "novelty.safetensors"
NETWORK = "backbone"
"""The folder with the file that a network came from, and what lies beside it there."""
_FILE = r"[A-Za-z0-9_][A-Za-z0-9_.@+ -]{0,200}"
_LARGEST = 64 << 20
"""Bytes of a manifest: 100,000 class names take three million."""


@dataclass(frozen=True)
class Manifest:
    """What a manifest says; every field was checked.

    Attributes:
        topwork: the version that wrote it.
        backbone: `name`, `size` in pixels, `pooling`, `precision` and `preprocessing`.
        class_names: K unique names, two at least.
        checksums: the SHA-256 of each file, by its name in the folder.
        training: the record of the training; what Topwork itself reads of it is of the right kind where it is there.
    """

    topwork: str
    backbone: dict[str, Any]
    class_names: tuple[str, ...]
    checksums: dict[str, str]
    training: dict[str, Any]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the classifier in `folder`, of a kind that this Topwork knows.

    Raises:
        SavedFileError: it can't be read, is not a classifier's, is damaged, or a newer Topwork wrote it.
    """
    shown = repr(printable(str(folder / MANIFEST)))
    try:
        manifest = json.loads(read_regular(folder / MANIFEST, at_most=_LARGEST))
        json.dumps(manifest, allow_nan=False, ensure_ascii=False).encode()  # NaN, or half a character
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise SavedFileError(f"{shown} can't be read: {reason}. Copy the folder again.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise SavedFileError(f"{shown} isn't a Topwork classifier's manifest.")
    version = manifest.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise SavedFileError(
            f"{shown} was written by a newer Topwork ({manifest.get('topwork')}, format {version}); "
            f"this is {VERSION}, which reads format {FORMAT_VERSION}. Upgrade: pip install --upgrade topwork."
        )
    for place, expected, is_right in _REQUIRED:
        _check(shown, place, _at(manifest, place), expected, is_right)
    for place, expected, is_right in _OPTIONAL:
        value = _at(manifest, place)
        if value is not None:
            _check(shown, place, value, expected, is_right)
    names = tuple(manifest["class_names"])
    return Manifest(manifest["topwork"], manifest["backbone"], names, manifest["sha256"], manifest["training"])


def _check(shown: str, place: str, value: Any, expected: str, is_right: Callable[[Any], bool]) -> None:
    if not is_right(value):
        found = json.dumps(value, ensure_ascii=False)
        found = found if len(found) <= 60 else f"{found[:60]}…"
        came = "it is missing" if value is None else f"got {found}"
        raise SavedFileError(f"{shown} is damaged: expected {place!r} to be {expected}; {came}. Copy the folder again.")


def _at(value: Any, place: str) -> Any:
    """What stands at a place such as `backbone.size`; None where it is missing."""
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_accuracy(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"value", "low", "high", "n"} or not _is_whole(value["n"]):
        return False
    return all(_is_number(value[part]) and 0 <= value[part] <= 1 for part in ("value", "low", "high"))


def _is_fine_tuning(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(value.get(key)) for key in ("part", "cut", "parent"))


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]


def _are_class_names(value: Any) -> bool:
    names = value if isinstance(value, list) and all(isinstance(name, str) and name for name in value) else []
    return len(names) >= 2 and len(set(names)) == len(names)


def _are_checksums(value: Any) -> bool:
    if not isinstance(value, dict) or TOP not in value:
        return False
    networks = set(value) - {TOP, NOVELTY}
    is_one = networks == {BACKBONE} or (networks and all(re.fullmatch(f"{NETWORK}/{_FILE}", name) for name in networks))
    sums = value.values()
    return bool(is_one) and all(isinstance(sum_, str) and re.fullmatch("[0-9a-f]{64}", sum_) for sum_ in sums)


def _is_file_name(value: Any) -> bool:
    return _is_text(value) and re.fullmatch(_FILE, value) is not None


def _are_pixels(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 7 and all(map(_is_number, value[:6])) and value[6] in (True, False)


_REQUIRED: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("format_version", "a whole number from 1 on", lambda value: _is_whole(value) and value >= 1),
    ("topwork", "the version that wrote it", _is_text),
    ("backbone.name", "the name of a network", _is_text),
    ("backbone.size", "a number of pixels", lambda value: _is_whole(value) and 1 <= value <= LARGEST_SIZE),
    ("backbone.pooling", " or ".join(get_args(Pooling)), lambda value: value in get_args(Pooling)),
    ("backbone.precision", " or ".join(get_args(Precision)), lambda value: value in get_args(Precision)),
    ("backbone.preprocessing", "six numbers, and whether channels are reversed", _are_pixels),
    ("class_names", "a list of two or more different names", _are_class_names),
    ("sha256", f"the checksums of {BACKBONE}, {TOP} and perhaps {NOVELTY}", _are_checksums),
    ("training", "an object", lambda value: isinstance(value, dict)),
)
"""Place, what must stand there in words, and whether it does."""
_OPTIONAL: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("backbone.value_range", "two rising numbers", _is_range),
    ("backbone.file", "the plain name of a file", _is_file_name),
    ("backbone.output", "a text", _is_text),
    ("backbone.licence", "a text", _is_text),
    ("backbone.frame", " or ".join(get_args(Frame)), lambda value: value in get_args(Frame)),
    ("backbone.filter", " or ".join(get_args(Filter)), lambda value: value in get_args(Filter)),
    ("backbone.crop", "a number in 0.1 to 1", lambda value: _is_number(value) and 0.1 <= value <= 1),
    ("training.data", "a text", _is_text),
    ("training.n_train", "a whole number", _is_whole),
    ("training.n_validation", "a whole number", _is_whole),
    ("training.n_flipped", "a whole number", _is_whole),
    ("training.n_folds", "a whole number", _is_whole),
    ("training.temperature", "a positive number", lambda value: _is_number(value) and value > 0),
    ("training.weights", "a text", _is_text),
    ("training.features", "a text", _is_text),
    ("training.top", "an object", lambda value: isinstance(value, dict)),
    ("training.fine_tuned", "what was fine-tuned, and above which layer", _is_fine_tuning),
    ("training.test_folds", "a whole number", _is_whole),
    ("training.test_accuracy", "a value, low and high in 0..1, and n", _is_accuracy),
)
"""The same of what may be missing."""
