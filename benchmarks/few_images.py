"""The log loss of LinearTop from few images, beside scikit-learn's LogisticRegressionCV on the same features.

    python benchmarks/few_images.py --data FOLDER --cache FOLDER [--quick]

Both see the same standardised features of subsets of 60 to 2,000 images of 2 to 20 classes, and are tested on up to
2,000 other images. Expected: a geometric mean of the ratio of at most 1.00, no cell above 1.10. What was measured is
kept in the cache folder, line by line, so that the same command goes on where it stopped; a first draw of every cell
comes before the second. All of it takes about an hour; --quick, a part of the cells with few draws, some minutes.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import log_loss

import topwork as tw
from feature_sets import FeatureSet, add_folders, feature_sets

SIZES, CLASSES, DRAWS = (60, 200, 600, 2000), (2, 5, 10, 20), 20
QUICK_SIZES, QUICK_CLASSES, QUICK_DRAWS = (60, 200), (2, 5, 10), 2
CS = np.logspace(-6, 2, 17)
"""Of scikit-learn's C, which is 1 / (l2 N): from far too strong to far too weak for all of these."""
MOST_TESTED = 2000


def cells(found: FeatureSet, quick: bool) -> Iterator[tuple[int, int]]:
    """Numbers of images and of classes, where there are enough images of each class to learn and test."""
    sizes, classes = (QUICK_SIZES, QUICK_CLASSES) if quick else (SIZES, CLASSES)
    n_of_class = int(np.bincount(found.y).min())
    for n, k in product(sizes, classes):
        if k <= found.y.max() + 1 and 5 <= n // k <= 0.8 * n_of_class:
            yield n, k


def measure(found: FeatureSet, n: int, k: int, draw: int) -> dict[str, Any]:
    """Both tops on one subset."""
    random = np.random.default_rng([n, k, draw])
    chosen = random.permutation(int(found.y.max()) + 1)[:k]
    train, test = [], []
    for label in chosen:
        rows = random.permutation(np.flatnonzero(found.y == label))
        train += rows[: n // k].tolist()
        test += rows[n // k :][: MOST_TESTED // k].tolist()
    X, y = found.X[train], np.searchsorted(np.sort(chosen), found.y[train])
    X_test, y_test = found.X[test], np.searchsorted(np.sort(chosen), found.y[test])
    began = time.perf_counter()
    top = tw.LinearTop().fit(X, y)
    ours = top.stack_.divided_by(top.temperature_).probabilities(X_test)
    between = time.perf_counter()
    mean, scale = X.mean(axis=0), X.std(axis=0) + 1e-6
    X, X_test = (X - mean) / scale, (X_test - mean) / scale
    # turned to as many axes as there are images: the solutions stay the same, and scikit-learn is spared hours
    axes = np.linalg.svd(X, full_matrices=False)[2].T
    X, X_test = X @ axes, X_test @ axes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rival = LogisticRegressionCV(Cs=CS, cv=5, scoring="neg_log_loss", max_iter=300).fit(X, y)
        theirs = rival.predict_proba(X_test)
    ended = time.perf_counter()
    return {
        "log_loss": float(log_loss(y_test, ours, labels=range(k))),
        "rival_log_loss": float(log_loss(y_test, theirs, labels=range(k))),
        "accuracy": float(np.mean(ours.argmax(axis=1) == y_test)),
        "rival_accuracy": float(np.mean(theirs.argmax(axis=1) == y_test)),
        "is_at_an_end": bool(top.end_),
        "seconds": between - began,
        "rival_seconds": ended - between,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_folders(parser)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    kept = arguments.cache / "few_images.jsonl"
    rows = {row["cell"]: row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    results: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    with kept.open("a") as file:
        sets = list(feature_sets(arguments.data, arguments.cache))
        for draw, found in product(range(QUICK_DRAWS if arguments.quick else DRAWS), sets):
            for n, k in cells(found, arguments.quick):
                cell = f"{found.data} {found.network} {n} {k} {draw}"
                if cell not in rows:
                    rows[cell] = {"cell": cell, **measure(found, n, k, draw)}
                    file.write(json.dumps(rows[cell]) + "\n")
                    file.flush()
                results[f"{found.data}, {found.network}", n, k].append(rows[cell])
    show(results)


def show(results: dict[tuple[str, int, int], list[dict[str, Any]]]) -> None:
    """The table: a line a cell, and what all cells come to."""
    ratios, differences, speeds, n_ends = [], [], [], 0
    print(
        f"{'set, network':<32} {'images':>6} {'classes':>7} {'log loss':>9} {'rival':>7} {'ratio':>6} {'accuracy':>9}"
    )
    for (name, n, k), rows in sorted(results.items()):
        ours, theirs = (np.array([row[key] for row in rows]) for key in ("log_loss", "rival_log_loss"))
        gain = np.mean([row["accuracy"] - row["rival_accuracy"] for row in rows])
        ratio = float(np.exp(np.mean(np.log(ours / theirs))))
        ratios.append(ratio)
        differences.append(100 * gain)
        speeds += [row["rival_seconds"] / row["seconds"] for row in rows]
        n_ends += sum(row["is_at_an_end"] for row in rows)
        print(f"{name:<32} {n:>6} {k:>7} {ours.mean():>9.3f} {theirs.mean():>7.3f} {ratio:>6.3f} {100 * gain:>+8.1f} p")
    error = np.std(differences) / np.sqrt(len(differences))
    mean = np.exp(np.mean(np.log(ratios)))
    print(f"log loss, geometric mean of {len(ratios)} cells: {mean:.3f}; worst {max(ratios):.3f}")
    print(f"accuracy {np.mean(differences):+.2f} points (standard error {error:.2f}); L2 at an end, said: {n_ends}")
    print(f"{np.median(speeds):.1f} times as fast (median)")


if __name__ == "__main__":
    main()
