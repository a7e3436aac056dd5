"""What to label next: the middles of the largest clusters first, then what is uncertain; never what is closed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from topwork.label.choosing import choose, margin_uncertainty


@pytest.fixture
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """200, 100 and 50 points around three directions, and which each belongs to."""
    random = np.random.default_rng(0)
    of = np.repeat([0, 1, 2], [200, 100, 50])
    return (10 * np.eye(16)[of] + random.normal(0, 1, (350, 16))).astype(np.float32), of


NONE = np.empty(0, np.int64)


def test_the_first_are_of_different_clusters_and_typical(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    values, of = clusters
    chosen = choose(values, np.arange(350), NONE, 3)
    assert sorted(of[chosen]) == [0, 1, 2]
    for place in chosen:
        own = values[of == of[place]]
        distance = np.linalg.norm(own - own.mean(axis=0), axis=1)
        assert np.linalg.norm(values[place] - own.mean(axis=0)) < np.median(distance)


def test_what_is_labelled_counts_as_covered(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    values, of = clusters
    labelled = np.concatenate([np.flatnonzero(of == 0)[:5], np.flatnonzero(of == 1)[:5]])
    chosen = choose(values, np.setdiff1d(np.arange(350), labelled), labelled, 1)
    assert of[chosen].tolist() == [2]


def test_doubtful_images_are_preferred(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    values, of = clusters
    uncertainty = np.where(of == 1, 1.0, 0.01)
    assert set(of[choose(values, np.arange(350), NONE, 4, uncertainty=uncertainty)]) == {1}


def test_only_open_images_are_chosen_each_once(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    chosen = choose(clusters[0], np.array([3, 5, 7]), np.array([1, 2]), 9)
    assert sorted(chosen) == [3, 5, 7]
    assert len(choose(clusters[0], NONE, NONE, 9)) == 0


def test_doubt_is_large_where_two_classes_are_as_probable() -> None:
    assert margin_uncertainty(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist() == [1.0, 0.0]


def test_equal_images_are_no_trouble() -> None:
    assert len(choose(np.zeros((20, 4), np.float32), np.arange(20), NONE, 5)) == 5


def test_choosing_among_many_images_takes_no_longer(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    values = np.tile(clusters[0], (300, 1))
    began = time.process_time()
    choose(values, np.arange(len(values)), NONE, 16)
    assert time.process_time() - began < 10  # of 105,000 images; 0.6 s on a quiet machine
