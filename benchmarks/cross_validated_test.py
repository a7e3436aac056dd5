"""Does the 95 % interval of a cross-validated test hold the accuracy that the final top has on new images?

    python benchmarks/cross_validated_test.py --data FOLDER --cache FOLDER [--draws 20] [--folds 5]

Of 60 to 1,000 images of 2 to 20 classes every one is tested once, by a top that was fitted on the other folds; the
final top is fitted on all, and tested on up to 5,000 other images. Expected: between 93 and 97 % of the intervals hold
that accuracy. The interval is Wilson's for n / INFLATION images; the last lines give the share for other inflations.
What was measured is kept in the cache folder, so that the same command goes on where it stopped. It takes hours.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

import topwork as tw
from feature_sets import FeatureSet, add_folders, feature_sets
from topwork.data.splits import deal_folds, draw_units

SIZES, CLASSES = (60, 120, 250, 500, 1000), (2, 5, 10, 20)
MOST_UNSEEN = 5000
LEAST_UNSEEN = 300
INFLATIONS = (1.0, 1.2, 1.35, 1.5, 1.75, 2.0)


def cells(found: FeatureSet) -> Iterator[tuple[int, int]]:
    """Numbers of images and of classes of which the set has enough, those for the test on new images included."""
    n_of_class = int(np.bincount(found.y).min())
    for n, k in product(SIZES, CLASSES):
        if k <= found.y.max() + 1 and n // k >= 6 and k * (n_of_class - n // k) >= max(LEAST_UNSEEN, n / 2):
            yield n, k


def measure(found: FeatureSet, n: int, k: int, draw: int, n_folds: int) -> dict[str, Any]:
    """How many of `n` images were answered right in the cross-validated test, and which share of new ones."""
    random = np.random.default_rng([n, k, draw, zlib.crc32(found.data.encode())])
    chosen = np.sort(random.permutation(int(found.y.max()) + 1)[:k])
    pool = random.permutation(np.flatnonzero(np.isin(found.y, chosen)))
    labels = np.searchsorted(chosen, found.y[pool])
    first = np.concatenate([np.flatnonzero(labels == label)[:6] for label in range(k)])  # enough of each to learn from
    order = np.concatenate([first, np.setdiff1d(np.arange(len(pool)), first)])
    rows, rest = pool[order[:n]], pool[order[n:]][:MOST_UNSEEN]
    X, y = found.X[rows], np.searchsorted(chosen, found.y[rows])
    folds = deal_folds(y, draw_units(n, draw), n_folds)
    right = np.zeros(n, bool)
    for fold in range(n_folds):
        out = folds == fold
        right[out] = tw.LinearTop().fit(X[~out], y[~out]).predict(X[out]) == y[out]
    final = tw.LinearTop().fit(X, y)
    unseen = np.searchsorted(chosen, found.y[rest])
    return {"n": n, "right": int(right.sum()), "unseen": float(np.mean(final.predict(found.X[rest]) == unseen))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_folders(parser)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()
    kept = arguments.cache / "cross_validated_test.jsonl"
    rows = {row["cell"]: row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with kept.open("a") as file:
        for draw in range(arguments.draws):
            for found in feature_sets(arguments.data, arguments.cache):
                for n, k in cells(found):
                    cell = f"{found.data} {found.network} {n} {k} {draw} {arguments.folds}"
                    if cell not in rows:
                        rows[cell] = {"cell": cell, **measure(found, n, k, draw, arguments.folds)}
                        file.write(json.dumps(rows[cell]) + "\n")
                        file.flush()
                    results[f"{found.data}, {found.network}"].append(rows[cell])
    show(results)


def show(results: dict[str, list[dict[str, Any]]]) -> None:
    """The share of intervals that hold, by inflation: of each set and network, of each size, and of all."""
    every = [row for rows in results.values() for row in rows]
    parts = {**results, **{f"{n:,} images": [row for row in every if row["n"] == n] for n in SIZES}, "all": every}
    print(f"{'':<34} {'tops':>6} {'cv - new':>9}" + "".join(f"{inflation:>8.2f}" for inflation in INFLATIONS))
    for name, rows in parts.items():
        right, n, unseen = (np.array([row[key] for row in rows]) for key in ("right", "n", "unseen"))
        bias = 100 * np.mean(right / n - unseen)
        shares = [100 * np.mean(holds(right, n / inflation, right / n, unseen)) for inflation in INFLATIONS]
        print(f"{name:<34} {len(rows):>6} {bias:>+7.2f} p" + "".join(f"{share:>7.1f}%" for share in shares))


def holds(right: np.ndarray, n: np.ndarray, share: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Whether Wilson's interval of a share of `n` images holds what was measured on new ones."""
    z = 1.96
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (unseen >= centre - reach) & (unseen <= centre + reach)


if __name__ == "__main__":
    main()
