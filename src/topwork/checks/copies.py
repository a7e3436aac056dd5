"""Which images are copies, and which near copies.

Copies have equal bytes, or equal pixels. Near copies show nearly the same picture: re-encoded, resized, mirrored, or
one scene taken twice. Pairs that look alike as 8×8 pixels, kept like features, are looked at again as 32×32 pixels,
plain and mirrored; those that correlate there are near copies. The backbone has no part in it: how near it puts two of
them depends on what it was trained on (on CIFAR-10, MobileNetV2's features would miss three quarters of what the
starter's find).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.data.decoding import digest_of, quiet_pillow, read_image, read_square
from topwork.data.images import Images
from topwork.errors import BadImageError
from topwork.features.extraction import extract_thumbnails
from topwork.progress import Reporter
from topwork.recipe import Recipe
from topwork.types import DigestArray, FloatArray, IntArray

CORRELATION = 0.95
"""Of two pictures, colour by colour, from which on they are near copies. Below it, in CIFAR-10, different ships on
like seas come in."""
NEARER = 0.25
"""A near copy must be four times as near, by 1 minus correlation, as about the tenth nearest picture is."""
_EQUAL = 0.99
"""Correlation at 32×32 pixels from which on it is worth comparing all pixels. Equal pixels can have less than 1 there,
because a large JPEG is decoded at a part of its size (0.9996 was seen)."""
_NEIGHBOUR, _SAMPLE = 10, 2000
THUMBNAIL_SIDE, _LARGER_SIDE = 8, 32
_MOST_OF_ONE = 20
"""Pairs that one image can be in: a hundred white pages are found without listing all 4,950 pairs."""
_SURELY = 0.99
"""Of 8×8 pixels: as alike as a picture and its JPEG."""
_ROWS_AT_A_TIME = 2048
_NUMBERS = 100_000_000
"""Products held at a time."""


@dataclass(frozen=True, eq=False)
class Copies:
    """Pairs of images that are copies or near copies of each other, each pair once.

    Of images with equal bytes each is paired with the first of them, and that one alone with others.

    Attributes:
        pairs: `(P, 2)`, indices into the dataset, the smaller first.
        correlation: `(P,)`, of the small pictures; 1 for copies.
        is_exact: `(P,)` booleans, whether they are copies: the bytes are equal, or all pixels.
    """

    pairs: IntArray
    correlation: FloatArray
    is_exact: NDArray[np.bool_]


def find_copies(
    dataset: Images, indices: IntArray, *, near_too: bool = True, reporter: Reporter | None = None
) -> Copies:
    """The copies and near copies among the readable images of a dataset.

    Near copies take time that grows with the square of the number of images: 10 s for 60,000 on two cores.

    Args:
        dataset: the images.
        indices: `(n,)`, those that can be read.
        near_too: whether to look for near copies beside those with equal bytes.
        reporter: hears how far the thumbnails are.
    """
    exact = indices[_exact_pairs(dataset.digests[indices])]
    near: IntArray = np.empty((0, 2), np.int64)
    if near_too:
        thumbnails = extract_thumbnails(dataset, THUMBNAIL_SIDE, reporter=reporter)
        firsts = ~np.isin(thumbnails.indices, exact[:, 1])
        pictures = _normalised(thumbnails.values[firsts].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3))
        near = thumbnails.indices[firsts][_alike(_turned(pictures).reshape(len(pictures), -1))]
    correlation = _correlations(dataset, near)
    near, correlation = near[correlation >= CORRELATION], correlation[correlation >= CORRELATION]
    equal = _have_equal_pixels(dataset, near, correlation)
    pairs = np.concatenate([exact, near])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return Copies(
        pairs[order],
        np.concatenate([np.ones(len(exact)), np.where(equal, 1.0, correlation)])[order],
        np.concatenate([np.ones(len(exact), bool), equal])[order],
    )


def _exact_pairs(digests: DigestArray) -> IntArray:
    """Each image with the first of the same bytes."""
    _, first, place = np.unique(digests, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[place] != np.arange(len(digests)))
    return np.stack([first[place[copies]], copies], axis=1).astype(np.int64)


def _have_equal_pixels(dataset: Images, pairs: IntArray, correlation: FloatArray) -> NDArray[np.bool_]:
    """`(P,)`, which pairs have the same pixels, all of them: a picture saved again without loss."""
    hopeful = np.flatnonzero(correlation >= _EQUAL)
    wanted = np.unique(pairs[hopeful])
    rows = dataset.rows[wanted]
    digests = np.empty(len(wanted), "S16")
    with quiet_pillow():
        for place, (row, payload) in enumerate(zip(rows, dataset.source.payloads(rows), strict=True)):
            try:
                image = read_image(payload, dataset.source.name(int(row)), value_range=dataset.value_range)
                digests[place] = digest_of(image)
            except BadImageError:  # it changed since its thumbnail was made
                digests[place] = digest_of(f"unreadable: {row}".encode())
    one, other = np.searchsorted(wanted, pairs[hopeful].T)
    equal = np.zeros(len(pairs), bool)
    equal[hopeful] = digests[one] == digests[other]
    return equal


def _normalised(pictures: FloatArray) -> FloatArray:
    """Each of `(n, h, w, 3)` pictures with mean 0 in each colour and length 1, so that products are correlations."""
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    length = np.sqrt(np.square(centred).sum(axis=(1, 2, 3), keepdims=True))
    return np.asarray(centred / np.maximum(length, 1e-6), dtype=np.float32)


def _turned(pictures: FloatArray) -> FloatArray:
    """Each picture mirrored so that its brighter half is on the left: mirrored copies become equal."""
    slope = np.linspace(-1, 1, pictures.shape[2], dtype=np.float32)
    rightwards = np.einsum("nhwc,w->n", pictures, slope) > 0
    return np.where(rightwards[:, None, None, None], pictures[:, :, ::-1], pictures)


def _alike(vectors: FloatArray) -> IntArray:
    """`(P, 2)` rows, the smaller first, far more alike than either is to its other neighbours; twenty for each first.

    In sets of simple pictures, such as digits, many are much alike, and no two are copies.
    """
    needed = np.maximum(CORRELATION, 1 - NEARER * (1 - _ordinary(vectors)))
    rows_at_a_time = max(1, min(2048, _NUMBERS // max(1, len(vectors))))
    found = []
    for start in range(0, len(vectors), rows_at_a_time):
        products = vectors[start : start + rows_at_a_time] @ vectors[start:].T
        enough = products >= needed[start : start + rows_at_a_time, None]
        np.fill_diagonal(enough, False)
        for row in np.flatnonzero(enough.any(axis=1)):
            columns = row + 1 + np.flatnonzero(enough[row, row + 1 :])
            columns = columns[products[row, columns] >= needed[start + columns]][:_MOST_OF_ONE]
            found += [(start + row, start + column) for column in columns]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _ordinary(vectors: FloatArray) -> FloatArray:
    """`(n,)`, about the product of each row with its tenth nearest that is no copy, from a sample; -1 where none is."""
    sample = vectors[np.sort(np.random.default_rng(0).permutation(len(vectors))[:_SAMPLE])]
    rank = min(max(2, round(_NEIGHBOUR * len(sample) / max(1, len(vectors)))), len(sample))
    result = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _ROWS_AT_A_TIME):
        products = vectors[start : start + _ROWS_AT_A_TIME] @ sample.T
        products[products >= _SURELY] = -1.0  # however many copies there are, they don't count as neighbours
        result[start : start + len(products)] = np.partition(products, -rank, axis=1)[:, -rank]
    return result


def _correlations(dataset: Images, pairs: IntArray) -> FloatArray:
    """Of the larger pictures of each pair, plain or mirrored, whichever is higher; 0 where one can't be read."""
    wanted = np.unique(pairs)
    pictures = np.zeros((len(wanted), _LARGER_SIDE, _LARGER_SIDE, 3), np.float32)
    rows = dataset.rows[wanted]
    with quiet_pillow():
        for place, (row, payload) in enumerate(zip(rows, dataset.source.payloads(rows), strict=True)):
            name = dataset.source.name(int(row))
            try:
                pictures[place] = read_square(payload, Recipe(_LARGER_SIDE, dataset.value_range), name)
            except BadImageError:
                continue  # it changed since its thumbnail was made
    pictures = _normalised(pictures)
    one, other = np.searchsorted(wanted, pairs[:, 0]), np.searchsorted(wanted, pairs[:, 1])
    result = np.zeros(len(pairs))
    for start in range(0, len(pairs), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        a, b = pictures[one[part]], pictures[other[part]]
        result[part] = np.maximum(np.einsum("nijc,nijc->n", a, b), np.einsum("nijc,nijc->n", a, b[:, :, ::-1]))
    return result
