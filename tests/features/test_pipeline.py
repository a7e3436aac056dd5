"""A stream of features in any order comes out in the order of its images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topwork.features.pipeline import BadImage, in_order


class ShuffledStream:
    """Batches of `(position,)` features in an order drawn beforehand; the bad ones turn up with any batch."""

    class engine:
        n_features = 1

    def __init__(self, n: int, is_bad: list[bool], batch_size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.rows = np.arange(n)
        self.bad: list[BadImage] = []
        batches = [np.arange(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
        self._batches = [batches[i] for i in random.permutation(len(batches))]
        self._is_bad, self._random = is_bad, random

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in self._batches:
            self.bad += [BadImage(int(i), str(i), "bad") for i in batch if self._is_bad[i]]
            good = np.array([i for i in batch if not self._is_bad[i]], dtype=np.int64)
            if len(good):
                yield good, good[:, None].astype(np.float32)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 7), st.integers(1, 20), st.integers(0, 99))
def test_every_image_comes_once_and_in_order(is_bad: list[bool], batch_size: int, step: int, seed: int) -> None:
    stream = ShuffledStream(len(is_bad), is_bad, batch_size, seed)
    slices = list(in_order(stream, step))  # type: ignore[arg-type]
    assert [start for start, *_ in slices] == list(range(0, len(is_bad), step))
    assert [int(i) for _, positions, _, _ in slices for i in positions] == [
        i for i, bad in enumerate(is_bad) if not bad
    ]
    assert [image.index for *_, bad in slices for image in bad] == [i for i, bad in enumerate(is_bad) if bad]
    for start, positions, features, _ in slices:
        assert np.all((positions >= start) & (positions < start + step))
        assert np.array_equal(features[:, 0], positions)
