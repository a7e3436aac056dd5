"""What a label is: a text in one normal form, or none; and which labels a person may not have meant as they stand."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import DataError
from topwork.files import printable
from topwork.types import IntArray, StrArray
from topwork.words import counted, first, without

NONE = ""
"""The text of a missing label."""
_MISSING_VALUES = frozenset({"None", "<NA>", "NaT"})
"""How Python, pandas and NumPy write values that stand for a missing one."""
_MISSING_WORDS = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "?", "-"})
"""How tables write a missing label in words, in small letters; some are a class's own name."""
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?")
_INTEGER = re.compile(r"-?\d{1,18}")
_LARGEST_EXACT = 2.0**53
"""Above it, not every whole number has a float of its own."""
_SEPARATORS = "|;,"


def label_array(labels: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Labels as given, as an array; where they are no plain array, one of objects."""
    try:
        return np.asarray(labels)
    except ValueError:  # of lists that differ in length; `label_texts` says what is wrong with them
        return np.fromiter(labels, dtype=object, count=len(labels))


def label_texts(labels: NDArray[Any]) -> StrArray:
    """`(N,)`, each label as a text as it came, whole numbers without a fraction; `NONE` where there is none.

    Raises:
        DataError: a value that is a list or the like.
    """
    if labels.dtype.kind == "M":  # as a list, moments become plain integers
        return np.where(np.isnat(labels), NONE, labels.astype(str))
    if labels.dtype.kind == "O":
        return np.array([_text(value) for value in labels], dtype=str)
    values, places = np.unique(labels, return_inverse=True)
    return np.array([_text(value) for value in values.tolist()], dtype=str)[places]


def normal_form(text: str) -> str:
    """`text` in Unicode's form C, without blanks at its ends: equal texts are equal however they were typed."""
    return unicodedata.normalize("NFC", text.replace("\0", "")).strip()  # NumPy drops NULs at the end by itself


def normal_forms(texts: StrArray) -> tuple[StrArray, list[str]]:
    """`(N,)` texts in normal form; and a sentence where different texts came to be one."""
    values, places, counts = np.unique(texts, return_inverse=True, return_counts=True)
    forms = np.array([normal_form(value) for value in values], dtype=str)
    sources: defaultdict[str, list[int]] = defaultdict(list)
    for i, form in enumerate(forms):
        sources[str(form)].append(i)
    changed = [
        f"{str(values[i])!r} ({counted(int(counts[i]), 'image')}) as {form!r}"
        for form, found in sources.items()
        if form != NONE and len(found) > 1
        for i in found
        if values[i] != form
    ]
    notes = []
    if changed:
        notes.append(
            "labels that differ only in blanks at their ends, or in how their letters are encoded, count as one: "
            f"{first(changed, between='; ')}."
        )
    return forms[places], notes


def sorted_names(names: Iterable[str]) -> list[str]:
    """Names in order; whole numbers by their value, so that '10' comes after '9'."""
    names = [str(name) for name in names]
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def doubtful_names(class_names: Sequence[str], counts: IntArray, *, are_folders: bool) -> list[str]:
    """Sentences on names that a person may not have meant as classes of their own.

    Args:
        class_names: K names.
        counts: `(K,)`, how many images each class has.
        are_folders: whether the names were given to folders; or else to images one by one.
    """
    notes = []
    sizes = {name: counted(int(n), "image") for name, n in zip(class_names, counts, strict=True)}
    if pairs := [" and ".join(f"{name!r} ({sizes[name]})" for name in group) for group in _alike(class_names)]:
        notes.append(
            "these classes have names that a person may take for the same: "
            f"{first(pairs, between='; ')}. They are kept apart; if they are one class, give them one name."
        )
    words = [name for name in class_names if name.lower() in _MISSING_WORDS and not are_folders]
    if words:
        shown = first([f"{name!r} ({sizes[name]})" for name in words], between="; ")
        notes.append(f"some labels read like a missing one: {shown}. If so, leave them out: {without(words)}.")
    others = [name for name in class_names if name != "-1"]
    if "-1" in class_names and len(others) > 1 and all(name.isdecimal() for name in others):
        notes.append(
            f"the label '-1' ({sizes['-1']}) counts as a class; often it means that there is no label. If so, leave "
            f"it out: {without(['-1'])}."
        )
    return notes


def require_single_labels(class_names: Sequence[str], counts: IntArray) -> None:
    """Raise a `DataError` where a label is several ones written together, such as `cat|dog` beside `cat` and `dog`."""
    several = [k for k, name in enumerate(class_names) if _is_several(name, class_names)]
    if several:
        names = [class_names[k] for k in several]
        n = int(np.sum(counts[several]))
        raise DataError(
            f"{counted(n, 'image')} {'has' if n == 1 else 'have'} several labels each, such as {names[0]!r}. Expected "
            f"one label for each image. Leave these images out: {without(names)}; or, where such a combination is a "
            "class of its own, write its name as one word."
        )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return NONE
        return str(int(number)) if number.is_integer() and abs(number) < _LARGEST_EXACT else str(value)
    if isinstance(value, list | tuple | set | dict | np.ndarray):
        raise DataError(
            f"A label is {value!r:.60}. Expected one label for each image, a name or a number; for images with "
            "several labels, choose one, or make a class of each combination."
        )
    text = str(value)
    return NONE if text in _MISSING_VALUES and not isinstance(value, str) else printable(text)


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that differ only in case, blanks and dashes, leading zeros, or marks that can't be seen."""
    groups: defaultdict[str | Decimal, list[str]] = defaultdict(list)
    for name in names:
        groups[_heard(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _heard(name: str) -> str | Decimal:
    """What is left of a name when it is read aloud."""
    if _NUMBER.fullmatch(name):
        return Decimal(name)
    words = " ".join(re.sub(r"[_\-\s]+", " ", unicodedata.normalize("NFKC", name)).split()).casefold()
    seen = "".join(letter for letter in words if unicodedata.category(letter) not in ("Cf", "Cc"))
    return re.sub(r"(?<![\d.])0+(?=\d)", "", seen)


def _is_several(name: str, names: Sequence[str]) -> bool:
    """Whether a name is a written list, or other names with a separator between them."""
    if name.startswith("[") and name.endswith("]"):
        return True
    known = set(names)
    for separator in _SEPARATORS:
        parts = [part.strip() for part in name.split(separator)]
        if len(parts) > 1 and set(parts) <= known:
            return True
    return False
