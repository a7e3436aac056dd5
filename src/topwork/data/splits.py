"""Which split an image is in: train, validation or test, decided by its content.

Each image (or group of images that must stay together) has a place in [0, 1) drawn from its digest: the first
`test` of that line is the test split, the next part validation, the rest train. So a copy is never in two splits,
and adding, removing or reordering files moves no other image. Classes come out stratified as a fair draw does;
then a class that came out without an image in a split is given its nearest one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.errors import OptionError, SplitError
from topwork.types import DigestArray, IntArray, StrArray
from topwork.words import counted, first, without

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1
FEWEST_TO_SPLIT = 1000
"""Images below which cross-validation tests. Of 80 % a fifth of so many tells to 5.5 points, all of them to 3, for some
4 s (10 classes, 640 or 1,280 features); beyond, the time grows faster than the images, and the gain shrinks."""
_FEWEST_OF_STRATUM = 10
"""Images of a class that a sample keeps, so that a rare one can still be split."""


@dataclass(frozen=True)
class Units:
    """Images that must stay together, as units: copies of one image, and images of one group.

    `of_image` is `(N,)`, the unit of each image; `place` is `(U,)`, where each unit lies in [0, 1).
    """

    of_image: IntArray
    place: NDArray[np.float64]


def find_units(digests: DigestArray, groups: StrArray | None = None) -> Units:
    """Tie images that share a digest, or a group, into units, and draw a place for each from its content.

    Args:
        digests: `(N,)`.
        groups: `(N,)`, such as a patient or a camera for each image.
    """
    _, of_image = np.unique(digests, return_inverse=True)
    keys = digests
    if groups is not None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        names, of_group = np.unique(groups, return_inverse=True)
        n_digests = int(of_image.max(initial=-1)) + 1
        edges = coo_array(
            (np.ones(len(of_image)), (of_image, of_group + n_digests)), shape=(n_digests + len(names),) * 2
        )
        of_image = connected_components(edges, directed=False)[1][of_image]
        keys = np.array([name.encode() for name in groups], dtype=bytes)
    _, of_image = np.unique(of_image, return_inverse=True)
    place = np.ones(int(of_image.max(initial=-1)) + 1)
    np.minimum.at(place, of_image, _places(keys))
    return Units(of_image.astype(np.int64), place)


def draw_units(n: int, seed: int) -> Units:
    """N units of one image each, placed by chance: for images of which no more is known."""
    return Units(np.arange(n), np.random.default_rng(seed).random(n))


def assign_splits(
    labels: IntArray, units: Units, class_names: tuple[str, ...], *, test: float, validation: float
) -> StrArray:
    """The split of each image: `(N,)` of 'train', 'validation', 'test'.

    Args:
        labels: `(N,)`, integers in 0..K-1.
        units: as from `find_units`.
        class_names: K names, for messages.
        test: the fraction of all images for testing, 0 for none.
        validation: the fraction of the images not for testing, 0 for none.

    Raises:
        OptionError: a fraction outside 0..0.9.
        SplitError: a class has fewer units than there are splits to fill.
    """
    for name, fraction in (("test", test), ("validation", validation)):
        if not 0 <= fraction <= 0.9:
            raise OptionError(f"Expected a {name} fraction in 0..0.9, got {fraction}.")
    bounds = {TEST: test, VALIDATION: test + (1 - test) * validation}
    wanted = [split for split, fraction in ((TEST, test), (VALIDATION, validation)) if fraction > 0]
    splits = np.full(len(units.place), TRAIN, dtype="<U10")
    if VALIDATION in wanted:
        splits[units.place < bounds[VALIDATION]] = VALIDATION
    if TEST in wanted:
        splits[units.place < bounds[TEST]] = TEST
    of_class = _units_of_classes(labels, units, len(class_names))
    _require_enough(labels, of_class, class_names, 1 + len(wanted))
    for split in (*wanted, TRAIN):
        _give_every_class(splits, split, of_class, units.place, class_names)
    return splits[units.of_image]


def deal_folds(labels: IntArray, units: Units, n_folds: int) -> IntArray:
    """The fold of each image, `(N,)` in 0..n_folds-1: units stay together, every class is spread evenly.

    Args:
        labels: `(N,)`, integers in 0..K-1.
        units: as from `find_units`.
        n_folds: two at least.
    """
    label_of_unit = np.zeros(len(units.place), np.int64)
    label_of_unit[units.of_image[::-1]] = labels[::-1]  # of its first image
    folds = np.empty(len(units.place), np.int64)
    folds[np.lexsort((units.place, label_of_unit))] = np.arange(len(units.place)) % n_folds
    return folds[units.of_image]


def growing_sample(labels: IntArray, units: Units) -> IntArray:
    """`(N,)`, the order in which images join a sample that grows: at any length, each class is there in proportion."""
    order = np.lexsort((units.place[units.of_image], labels))
    n_of_class = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(n_of_class) - n_of_class, n_of_class)
    return order[np.argsort((rank + 0.5) / n_of_class[labels[order]], kind="stable")]


def draw_sample(digests: DigestArray, strata: IntArray, n: int) -> IntArray:
    """About `n` of the images, ascending: of each stratum its share, but ten at least, or all that it has.

    An image is drawn by its content alone, and independently of its split: the sample is the same whatever the order,
    and a larger one holds a smaller one.

    Args:
        digests: `(N,)`.
        strata: `(N,)`, integers from 0 on, such as the class.
        n: how many.
    """
    sizes = np.bincount(strata)
    wanted = np.minimum(sizes, np.maximum(_FEWEST_OF_STRATUM, np.round(sizes * n / len(digests)).astype(np.int64)))
    order = np.lexsort((_places(digests, b"topwork sample"), strata))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[rank < wanted[strata[order]]])


def _places(keys: NDArray[np.bytes_], salt: bytes = b"topwork split") -> NDArray[np.float64]:
    """A uniform draw in [0, 1) for each key; its own hash, so that keys need not look random."""
    import hashlib

    draws = [int.from_bytes(hashlib.blake2b(salt + bytes(key), digest_size=8).digest()) for key in keys]
    return np.array(draws, dtype=np.float64) / 2**64


def _units_of_classes(labels: IntArray, units: Units, n_classes: int) -> list[IntArray]:
    order = np.argsort(labels, kind="stable")
    borders = np.searchsorted(labels[order], np.arange(1, n_classes))
    return [np.unique(part) for part in np.split(units.of_image[order], borders)]


def _require_enough(labels: IntArray, of_class: list[IntArray], class_names: tuple[str, ...], needed: int) -> None:
    n_images = np.bincount(labels, minlength=len(class_names))
    small = [k for k, own in enumerate(of_class) if len(own) < needed]
    if not small:
        return
    described = [f"{class_names[k]!r} ({_size(int(n_images[k]), len(of_class[k]))})" for k in small]
    has = "has" if len(small) == 1 else "have"
    raise SplitError(
        f"{len(small):,} of {len(class_names):,} classes {has} too few images to split: {first(described, most=10)}. "
        f"Each of {needed} splits needs one. {_way_out(small, n_images, class_names)}"
    )


def _way_out(small: list[int], n_images: IntArray, class_names: tuple[str, ...]) -> str:
    """What to do about classes that are too small: of the ways to leave them out, one that leaves two classes."""
    most = int(n_images[small].max())
    if np.sum(n_images > most) >= 2:
        return f"Add images, or leave classes out that have fewer than {most + 1:,}: `min_images={most + 1}`."
    if len(class_names) - len(small) >= 2:
        return f"Add images, or leave these classes out: {without([class_names[k] for k in small])}."
    return "Add images. If the labels are measured numbers, put them into a few classes first, such as low and high."


def _size(n_images: int, n_units: int) -> str:
    """`1 image`, or `5 images, 2 when copies and groups are kept together`."""
    together = "" if n_units == n_images else f", {n_units} when copies and groups are kept together"
    return f"{counted(n_images, 'image')}{together}"


def _give_every_class(
    splits: StrArray,
    split: str,
    of_class: list[IntArray],
    place: NDArray[np.float64],
    class_names: tuple[str, ...],
) -> None:
    """For each class that lacks `split`, move the unit that lies lowest of those that can be spared elsewhere."""
    for name, own in zip(class_names, of_class, strict=True):
        if np.any(splits[own] == split):
            continue
        spare = [unit for unit in own[np.argsort(place[own])] if _can_leave(unit, splits, of_class)]
        if not spare:
            raise SplitError(
                f"Class {name!r} has no image to spare for the {split} split: its copies or groups tie it to others. "
                "Add images of it, leave it out, or give the split yourself."
            )
        splits[spare[0]] = split


def _can_leave(unit: int, splits: StrArray, of_class: list[IntArray]) -> bool:
    """Whether no class loses its last unit in a split when `unit` leaves it."""
    return all(np.sum(splits[own] == splits[unit]) > 1 for own in of_class if unit in own)
