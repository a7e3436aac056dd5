"""The split goes by content: it survives adding and reordering, keeps copies and groups together, misses no class."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.data.splits import assign_splits, deal_folds, draw_sample, find_units, growing_sample
from topwork.errors import OptionError, SplitError


def digests(n: int, seed: int = 0) -> np.ndarray:
    return np.array([hashlib.blake2b(f"{seed} {i}".encode(), digest_size=16).digest() for i in range(n)], dtype="S16")


def split(labels: np.ndarray, content: np.ndarray, groups: np.ndarray | None = None, **fractions: float) -> np.ndarray:
    names = tuple(map(str, range(labels.max() + 1)))
    return assign_splits(labels, find_units(content, groups), names, **{"test": 0.2, "validation": 0.1, **fractions})


def test_fractions_and_strata_come_out_as_a_fair_draw() -> None:
    labels, content = np.arange(30_000) % 3, digests(30_000)
    sides = split(labels, content)
    for label in range(3):
        own = sides[labels == label]
        assert abs(np.mean(own == "test") - 0.2) < 0.013  # 3.3 standard deviations of a draw of 10,000
        assert abs(np.mean(own == "validation") - 0.08) < 0.009


def test_adding_images_moves_no_other() -> None:
    labels, content = np.arange(600) % 3, digests(600)
    before = split(labels[:500], content[:500])
    assert np.array_equal(split(labels, content)[:500], before)


def test_order_does_not_matter() -> None:
    labels, content = np.arange(300) % 3, digests(300)
    order = np.random.default_rng(0).permutation(300)
    assert np.array_equal(split(labels[order], content[order]), split(labels, content)[order])


def test_split_keeps_copies_together() -> None:
    content = np.concatenate([digests(200), digests(200)])
    sides = split(np.arange(400) % 2, content)
    assert np.array_equal(sides[:200], sides[200:])


def test_split_keeps_groups_together() -> None:
    labels, groups = np.arange(1000) % 2, np.array([f"patient {i // 10}" for i in range(1000)])
    sides = split(labels, digests(1000), groups)
    assert all(len(set(sides[groups == group])) == 1 for group in set(groups))
    assert set(sides) == {"train", "validation", "test"}


def test_copies_across_groups_tie_the_groups() -> None:
    content, groups = digests(400), np.array([f"camera {i // 4}" for i in range(400)])
    content[4] = content[0]  # the same image from two cameras
    sides = split(np.arange(400) % 2, content, groups)
    assert len(set(sides[:8])) == 1


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(3, 9), min_size=2, max_size=6), seed=st.integers(0, 10_000))
def test_every_class_is_on_every_side(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    sides = split(labels, digests(len(labels), seed))
    for label in range(len(counts)):
        assert set(sides[labels == label]) == {"train", "validation", "test"}


def test_too_few_images_of_a_class_are_named() -> None:
    labels = np.array([0] * 20 + [1] * 2)
    with pytest.raises(SplitError, match="1 of 2 classes has too few images to split: '1' .2 images."):
        split(labels, digests(22))


def test_too_few_groups_of_a_class_are_named() -> None:
    labels = np.array([0] * 20 + [1] * 8)
    groups = np.array([f"a{i}" for i in range(20)] + ["one", "two"] * 4)
    with pytest.raises(SplitError, match="8 images, 2 when copies and groups are kept together"):
        split(labels, digests(28), groups)


def test_no_test_side_where_none_is_asked_for() -> None:
    assert set(split(np.arange(100) % 2, digests(100), test=0.0)) == {"train", "validation"}


def test_a_fraction_out_of_range_is_refused() -> None:
    with pytest.raises(OptionError, match="test fraction in 0..0.9, got 1.5"):
        split(np.arange(100) % 2, digests(100), test=1.5)


def test_folds_keep_copies_together_and_spread_every_class() -> None:
    random = np.random.default_rng(0)
    digests = np.array([random.bytes(16) for _ in range(300)], dtype="S16")
    digests[100:120] = digests[:20]
    labels = np.arange(300) % 3
    labels[100:120] = labels[:20]
    units = find_units(digests)
    folds = deal_folds(labels, units, 5)
    assert np.array_equal(folds[100:120], folds[:20])
    for k in range(3):
        assert np.ptp(np.bincount(folds[labels == k], minlength=5)) <= 14  # 20 of the images come as pairs


def test_sample_grows_in_proportion() -> None:
    digests = np.array([f"{i:016d}" for i in range(1000)], dtype="S16")
    labels = (np.arange(1000) < 100).astype(int)
    order = growing_sample(labels, find_units(digests))
    assert sorted(order) == list(range(1000))
    for n in (50, 200, 500):
        assert labels[order[:n]].mean() == pytest.approx(0.1, abs=0.02)


def test_a_sample_keeps_shares_grows_and_does_not_go_by_order_or_split() -> None:
    labels = np.array([0] * 1500 + [1] * 480 + [2] * 20 + [3] * 4)
    content = digests(len(labels))
    small, large = draw_sample(content, labels, 200), draw_sample(content, labels, 1000)
    assert np.bincount(labels[small]).tolist() == [150, 48, 10, 4]
    assert np.bincount(labels[large]).tolist() == [749, 240, 10, 4]
    assert np.isin(small, large).all()
    order = np.random.default_rng(0).permutation(len(labels))
    assert np.array_equal(np.sort(order[draw_sample(content[order], labels[order], 200)]), small)
    splits = split(labels, content)
    assert abs(np.mean(splits[large] == "test") - np.mean(splits == "test")) < 0.04
