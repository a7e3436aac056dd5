"""Which images show the same picture: byte for byte, or re-encoded, resized or mirrored.

Pairs that look alike as 8×8 pixels, kept like features, are looked at again as 32×32 pixels, plain and mirrored; those
that correlate there show the same picture. The backbone has no part in it: how near it puts two copies depends on what
it was trained on (on CIFAR-10, MobileNetV2's features would miss three quarters of what the starter's find).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.data.dataset import ImageDataset
from topwork.data.decoding import quiet_pillow, read_square
from topwork.errors import BadImageError
from topwork.features.extraction import extract_thumbnails
from topwork.progress import Reporter
from topwork.types import DigestArray, FloatArray, IntArray

CORRELATION = 0.95
"""Of two pictures, colour by colour, from which on they are called the same. Below it, in CIFAR-10, different ships on
like seas come in."""
NEARER = 0.25
"""A copy must be four times as near, by 1 minus correlation, as about the tenth nearest picture is."""
_NEIGHBOUR, _SAMPLE = 10, 2000
_SIDE, _LARGER_SIDE = 8, 32
_MOST_OF_ONE = 20
"""Pairs that one image can be in: a hundred white pages are found without listing all 4,950 pairs."""
_SURELY = 0.99
"""Of 8×8 pixels: as alike as a picture and its JPEG."""
_ROWS_AT_A_TIME = 2048
_NUMBERS = 100_000_000
"""Products held at a time."""


@dataclass(frozen=True, eq=False)
class Copies:
    """Pairs of images that show the same picture.

    Attributes:
        pairs: `(P, 2)`, indices into the dataset, the smaller first.
        correlation: `(P,)`, of the small pictures; 1 for equal bytes.
        is_exact: `(P,)` booleans, whether the bytes are equal.
    """

    pairs: IntArray
    correlation: FloatArray
    is_exact: NDArray[np.bool_]


def find_copies(
    dataset: ImageDataset, indices: IntArray, *, near_too: bool = True, reporter: Reporter | None = None
) -> Copies:
    """The copies among the readable images of a dataset.

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
        thumbnails = extract_thumbnails(dataset, _SIDE, reporter=reporter)
        pictures = _normalised(thumbnails.values.reshape(-1, _SIDE, _SIDE, 3))
        near = thumbnails.indices[_alike(_turned(pictures).reshape(len(pictures), -1))]
        near = near[dataset.digests[near[:, 0]] != dataset.digests[near[:, 1]]]
    correlation = _correlations(dataset, near)
    same = correlation >= CORRELATION
    pairs = np.concatenate([exact, near[same]])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return Copies(
        pairs[order],
        np.concatenate([np.ones(len(exact)), correlation[same]])[order],
        np.repeat([True, False], [len(exact), int(same.sum())])[order],
    )


def _exact_pairs(digests: DigestArray) -> IntArray:
    """Each image with the first of the same bytes."""
    _, first, place = np.unique(digests, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[place] != np.arange(len(digests)))
    return np.stack([first[place[copies]], copies], axis=1).astype(np.int64)


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


def _correlations(dataset: ImageDataset, pairs: IntArray) -> FloatArray:
    """Of the larger pictures of each pair, plain or mirrored, whichever is higher; 0 where one can't be read."""
    wanted = np.unique(pairs)
    pictures = np.zeros((len(wanted), _LARGER_SIDE, _LARGER_SIDE, 3), np.float32)
    rows = dataset.rows[wanted]
    with quiet_pillow():
        for place, (row, payload) in enumerate(zip(rows, dataset.source.payloads(rows), strict=True)):
            try:
                pictures[place] = read_square(payload, _LARGER_SIDE, dataset.source.name(int(row)))
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
