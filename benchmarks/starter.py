"""What the starter's features are worth, beside MobileNetV2's and those of the starter's shape with random weights.

    python benchmarks/starter.py --images cifar10-jpeg.parquet --mobilenet mobilenet_v2_imagenet_notop.weights.h5

Prints the table of `docs/starter.md`: test accuracy of tops on frozen features, and images per second from encoded
images to kept features. About 12 minutes on 2 cores; features are kept, so a second time takes 5.

CIFAR-10: the 10,000 test images, once for each row. Tops are fitted on all 50,000 training images, or on 1,000 or 100
of them (3 draws, mean ± standard deviation), a tenth of these held out for validation, as the tops do by themselves.
Digits: the test side of Topwork's own split.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable

import numpy as np
from sklearn.model_selection import train_test_split

import topwork as tw
from common import arguments
from topwork.tops.base import DenseTop

DRAWS = 3
RATE_IMAGES = 6_000

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Features and labels for training, features and labels for testing."""


def linear(seed: int) -> DenseTop:
    return tw.LinearTop(seed=seed)


def mlp(seed: int) -> DenseTop:
    return tw.MLPTop(class_layers=[256], dropout=0.5, seed=seed)


def arrays(dataset: tw.ImageDataset, backbone: tw.Backbone) -> Arrays:
    features = tw.extract_features(dataset.with_splits, backbone).values
    sides = np.asarray(dataset.with_splits.splits)
    train, test = sides != "test", sides == "test"
    return features[train], dataset.labels[train], features[test], dataset.labels[test]


def accuracy(make_top: Callable[[int], DenseTop], data: Arrays, n: int | None, seed: int) -> float:
    """Per cent of the test images that a top gets right, fitted on `n` training images, or on all."""
    X, y, X_test, y_test = data
    if n is not None:
        X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=seed)
    return 100 * float(make_top(seed).fit(X, y).score(X_test, y_test))


def cell(make_top: Callable[[int], DenseTop], data: Arrays, n: int | None) -> str:
    if n is None:
        return f"{accuracy(make_top, data, None, 0):.2f}"
    draws = [accuracy(make_top, data, n, seed) for seed in range(DRAWS)]
    return f"{np.mean(draws):.1f} ± {np.std(draws, ddof=1):.1f}"


def images_per_second(dataset: tw.ImageDataset, backbone: tw.Backbone) -> float:
    """From encoded images to features on disk, in an empty store; the graph was built before."""
    kept = os.environ.get("TOPWORK_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = folder
        try:
            tw.extract_features(dataset.select(np.arange(100)), backbone)
            some = dataset.select(np.arange(100, 100 + RATE_IMAGES))
            began = time.perf_counter()
            tw.extract_features(some, backbone)
            return RATE_IMAGES / (time.perf_counter() - began)
        finally:
            os.environ.pop("TOPWORK_CACHE")
            if kept is not None:
                os.environ["TOPWORK_CACHE"] = kept


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", required=True, help="CIFAR-10 as a table: image, label, split")
    parser.add_argument("--mobilenet", required=True, help="MobileNetV2's ImageNet weights, without its top")
    given = parser.parse_args()
    images, digits = tw.ImageDataset.load(given.images), tw.ImageDataset.from_name("digits")
    backbones = {
        "starter, 64 px": tw.load_backbone("starter"),
        "MobileNetV2, 64 px": tw.load_backbone("mobilenet_v2", weights=given.mobilenet, size=64),
        "MobileNetV2, 224 px": tw.load_backbone("mobilenet_v2", weights=given.mobilenet),
        "starter's shape, random weights, 64 px": tw.load_backbone("starter", weights="random"),
    }
    print(
        "| frozen backbone | top | CIFAR-10, 50,000 | 1,000 | 100 | digits | images/s |\n|---|---|---|---|---|---|---|"
    )
    for name, backbone in backbones.items():
        rate = f"{images_per_second(images, backbone):,.0f}"
        cifar, small = arrays(images, backbone), arrays(digits, backbone)
        for top in (linear, mlp):
            cells = [cell(top, cifar, n) for n in (None, 1000, 100)] + [cell(top, small, None)]
            print(f"| {name} | {top.__name__} | {' | '.join(cells)} | {rate} |", flush=True)


if __name__ == "__main__":
    main()
