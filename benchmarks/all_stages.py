"""Features of all stages against those of the last: accuracy of a linear top, and what `LinearTop(last=…)` chooses.

    python benchmarks/all_stages.py --data DATA --cache CACHE [--draws 5]

DATA holds cifar10-jpeg.parquet, tiny-imagenet-webp.parquet and flower-photos.parquet (columns image, label, split). Two
tasks are made of these that are far from what the networks learned: by how many quarter turns a photograph is turned,
and which of scikit-learn's digits was drawn on it. For each draw, a top is fitted on N images and tested on the rest.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import topwork as tw
from common import arguments
from feature_sets import add_folders

NETWORKS = ("starter", "efficientnet_lite0")


def main() -> None:
    parser = arguments(__doc__)
    add_folders(parser)
    parser.add_argument("--draws", type=int, default=5)
    given = parser.parse_args()
    os.environ["TOPWORK_CACHE"] = str(given.cache)
    print(
        "| task | network | images | last, % | all | `auto` | worst draw of `auto` | all taken |\n" + "|---" * 8 + "|"
    )
    for name, pictures, labels, numbers in tasks(given.data):
        dataset = tw.ImageDataset.from_arrays(pictures, labels)
        for network in NETWORKS:
            backbone = tw.load_backbone(network, pooling="stages")
            X = tw.extract_features(dataset, backbone).values
            for n in numbers:
                print(row(name, network, n, X, dataset.labels, backbone.card.n_features, given.draws), flush=True)


def row(name: str, network: str, n: int, X: np.ndarray, y: np.ndarray, n_last: int, draws: int) -> str:
    """One line of the table."""
    found: dict[str, list[float]] = {"last": [], "all": [], "auto": []}
    taken = 0
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[:n], order[n:]
        for way, features, last in (("last", X[:, :n_last], None), ("all", X, None), ("auto", X, n_last)):
            top = tw.LinearTop(last=last, seed=seed).fit(features[train], y[train])
            found[way].append(100 * float(np.mean(top.predict(features[test]) == y[test])))
            taken += bool(getattr(top, "takes_all_", False))
    last, every, auto = (np.array(found[way]) for way in ("last", "all", "auto"))
    gains = f"{np.mean(every - last):+.1f} | {np.mean(auto - last):+.1f} | {np.min(auto - last):+.1f}"
    return f"| {name} | {network} | {n:,} | {last.mean():.1f} | {gains} | {taken} of {draws} |"


def tasks(data: Any) -> Iterator[tuple[str, list[Image.Image], list[str], tuple[int, int]]]:
    """Name, pictures, labels, and two numbers of images to train on."""
    from sklearn.datasets import load_digits

    pictures, _ = pictures_of(data / "tiny-imagenet-webp.parquet", "val", range(200), 3000)
    turns = [str(i % 4) for i in range(len(pictures))]
    turned = [picture.rotate(90 * int(turn)) for picture, turn in zip(pictures, turns, strict=True)]
    yield "quarter turns", turned, turns, (300, 1500)
    digits = load_digits()
    random = np.random.default_rng(0)
    drawn = [draw(picture, digit, random) for picture, digit in zip(pictures, digits.images, strict=False)]
    yield "digits on photographs", drawn, [str(label) for label in digits.target], (300, 1200)
    yield (
        "Tiny ImageNet, 20",
        *pictures_of(data / "tiny-imagenet-webp.parquet", "train", range(40, 60), 4000),
        (400, 2000),
    )
    yield "CIFAR-10", *pictures_of(data / "cifar10-jpeg.parquet", "train", range(10), 4000), (200, 1000)
    yield "flowers", *pictures_of(data / "flower-photos.parquet", None, range(5), 900), (100, 600)


def pictures_of(file: Any, split: str | None, classes: range, n: int) -> tuple[list[Image.Image], list[str]]:
    """At most `n` pictures of some classes, drawn, and their labels."""
    table = pq.read_table(file, columns=["image", "label", "split"])
    labels, splits = table["label"].to_numpy(), np.array(table["split"].to_pylist())
    rows = np.flatnonzero(np.isin(labels, classes) & ((splits == split) | (split is None)))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:n])
    encoded = table["image"].take(rows).to_pylist()
    return [Image.open(io.BytesIO(one)).convert("RGB") for one in encoded], [str(labels[row]) for row in rows]


def draw(picture: Image.Image, digit: np.ndarray, random: np.random.Generator) -> Image.Image:
    """A digit in white, 40 pixels high, somewhere on a picture of 64."""
    stroke = Image.fromarray((digit * 16).clip(0, 255).astype(np.uint8)).resize((40, 40))
    x, y = random.integers(0, 24, 2)
    drawn = picture.copy()
    drawn.paste((255, 255, 255), (int(x), int(y)), stroke)
    return drawn


if __name__ == "__main__":
    main()
