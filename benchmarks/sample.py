"""What a sample of the images costs: test accuracy by how many images a linear top learns from.

    python benchmarks/sample.py --data DATA --cache CACHE [--quick]

DATA holds cifar10-jpeg.parquet and tiny-imagenet-webp.parquet; the network is the starter. Each sample is drawn as
`topwork train --sample` draws it, from the images for training; three draws of which images are for testing.
"""

from __future__ import annotations

import os

import numpy as np

import topwork as tw
from common import arguments
from feature_sets import add_folders

SETS = ("cifar10-jpeg.parquet", "tiny-imagenet-webp.parquet")
FACTOR = 4


def main() -> None:
    parser = arguments(__doc__)
    add_folders(parser)
    parser.add_argument("--quick", action="store_true", help="one draw, the four smallest samples")
    given = parser.parse_args()
    os.environ["TOPWORK_CACHE"] = str(given.cache)
    for name in SETS:
        dataset = tw.ImageDataset.load(given.data / name)
        features = tw.extract_features(dataset, "starter")
        dataset = dataset.select(features.indices)
        largest = int(0.8 * len(dataset))
        sizes = [largest // FACTOR**power for power in range(5, -1, -1) if largest // FACTOR**power >= 500]
        found = [
            [accuracy(dataset, features.values, size, seed) for size in (sizes[:4] if given.quick else sizes)]
            for seed in range(1 if given.quick else 3)
        ]
        mean, sizes = np.mean(found, axis=0), sizes[: len(found[0])]
        print(f"| {name} | " + " | ".join(f"{n:,}" for n in sizes) + " |\n" + "|---" * (len(sizes) + 1) + "|")
        print("| test accuracy, % | " + " | ".join(f"{value:.1f}" for value in mean) + " |")
        print("| gain | | " + " | ".join(f"{gain:+.1f}" for gain in np.diff(mean)) + " |\n")


def accuracy(dataset: tw.ImageDataset, values: np.ndarray, n: int, seed: int) -> float:
    """Of a linear top that learned from a sample of `n` images, on a fifth of all, in percent."""
    is_test = np.random.default_rng(seed).random(len(dataset)) < 0.2
    train = np.flatnonzero(~is_test)
    sample = dataset.select(train).sample(n)
    rows = train[np.isin(dataset.rows[train], sample.rows)]
    tests = np.random.default_rng(seed).permutation(np.flatnonzero(is_test))[:10_000]
    top = tw.LinearTop(tw.tops.linear.COARSE_L2_VALUES, tol=tw.tops.linear.COARSE_TOLERANCE)
    top.fit(values[rows], dataset.labels[rows])
    return 100 * float(top.score(values[tests], dataset.labels[tests]))


if __name__ == "__main__":
    main()
