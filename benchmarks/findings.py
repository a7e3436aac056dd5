"""What the check finds in small sets: junk, wrong labels; and how many ordinary images are called unknown.

    python benchmarks/findings.py --data FOLDER --cache FOLDER

Junk: 1 % drawn placeholders, text, black and plain frames, screenshots and digits among the flower photographs. Wrong
labels: 2 % and 0.5 % turned, of 1,000 images of 2 and 10 classes. Expected: junk found at 1 % false alarms 0.9; of the
labels named 0.7 wrong, or none named; 3 to 7 % of ordinary images called unknown. About five minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

import topwork as tw
from feature_sets import FeatureSet, add_folders, feature_set, feature_sets
from topwork.checks.labels import find_label_issues
from topwork.checks.strange import strange_rows
from topwork.data.splits import deal_folds, draw_units
from topwork.tops.cross_validation import out_of_sample_probabilities
from topwork.tops.linear import FOLDS
from topwork.tops.novelty import fit_novelty

SIDE = 256
N_JUNK = 6


def draw_junk(kind: str, random: np.random.Generator) -> Image.Image:
    """A picture that is no photograph."""
    grey = int(random.integers(200, 256))
    image = Image.new("RGB", (SIDE, SIDE), (grey, grey, grey))
    pen = ImageDraw.Draw(image)
    if kind == "placeholder":
        pen.rectangle((20, 60, 236, 196), outline=(120, 120, 120), width=4)
        pen.text((40, 110), "Sorry, this image\ncould not be found", fill=(90, 90, 90), font_size=20)
    elif kind == "text":
        for y in range(10, 240, 14):
            words = " ".join("".join(map(chr, random.integers(97, 123, random.integers(2, 9)))) for _ in range(8))
            pen.text((8, y), words, fill=(20, 20, 20))
    elif kind == "black":
        image.paste(tuple(map(int, random.integers(0, 6, 3))), (0, 0, SIDE, SIDE))
    elif kind == "plain":
        image.paste(tuple(map(int, random.integers(0, 256, 3))), (0, 0, SIDE, SIDE))
    elif kind == "screenshot":
        pen.rectangle((0, 0, SIDE, 24), fill=(40, 80, 160))
        for _ in range(6):
            x, y = random.integers(0, 180, 2)
            pen.rectangle((x, 30 + y, x + 70, 60 + y), fill=tuple(map(int, random.integers(150, 256, 3))))
            pen.text((x + 4, 36 + y), "Button", fill=(0, 0, 0))
    else:
        pen.text((70, 20), str(random.integers(10)), fill=(0, 0, 0), font_size=200)
    return image


JUNK = ("placeholder", "text", "black", "plain", "screenshot", "digit")


def junk(photos: FeatureSet, extract: Callable[[list[Image.Image]], np.ndarray]) -> None:
    """Each kind of junk among 600 photographs, one kind at a time."""
    random = np.random.default_rng(0)
    X = photos.X[random.permutation(len(photos.X))[:600]]
    for kind in JUNK:
        added = extract([draw_junk(kind, random) for _ in range(N_JUNK)])
        everything = np.concatenate([X, added])
        rows, far = strange_rows(everything, np.arange(len(everything)), at_least=-np.inf)
        score = np.empty(len(everything))
        score[rows] = far
        limit = np.quantile(score[:600], 0.99)
        named, _ = strange_rows(everything, np.arange(len(everything)))
        print(
            f"junk, {photos.network:<19} {kind:<12} found at 1 % false alarms {np.mean(score[600:] > limit):.2f}; "
            f"named {np.mean(np.isin(np.arange(600, 600 + N_JUNK), named)):.2f}, false {np.sum(named < 600) / 600:.3f}"
        )


def labels(found: FeatureSet) -> None:
    """Turned labels among 1,000 images (flowers: 900), in three draws together."""
    for n_classes in (2, 10):
        if n_classes > found.y.max() + 1:
            continue
        for share in (0.02, 0.005):
            n_named = n_right = n_turned = 0
            for draw in range(3):
                random = np.random.default_rng([n_classes, draw])
                classes = random.permutation(int(found.y.max()) + 1)[:n_classes]
                rows = random.permutation(np.flatnonzero(np.isin(found.y, classes)))[:1000]
                y = np.unique(found.y[rows], return_inverse=True)[1]
                turned = random.permutation(len(y))[: max(1, round(share * len(y)))]
                y[turned] = (y[turned] + random.integers(1, n_classes, len(turned))) % n_classes
                folds = deal_folds(y, draw_units(len(y), draw), FOLDS)
                named = find_label_issues(y, out_of_sample_probabilities(found.X[rows], y, folds)).indices
                n_named += len(named)
                n_right += len(np.intersect1d(named, turned))
                n_turned += len(turned)
            precision = f"{n_right / n_named:.2f}" if n_named else "none"
            print(
                f"labels, {found.data}, {found.network:<19} {n_classes:>2} classes, {100 * share:g} % wrong: "
                f"of {n_named} named {precision} wrong, of {n_turned} wrong {n_right / n_turned:.2f} named"
            )


def unknown(found: FeatureSet) -> None:
    """Ordinary images that are called unknown, of 200 and 1,000 learned from."""
    shares = []
    for n in (200, 600):
        for draw in range(3):
            random = np.random.default_rng([n, draw])
            classes = random.permutation(int(found.y.max()) + 1)[:5]
            rows = random.permutation(np.flatnonzero(np.isin(found.y, classes)))
            train, test = rows[:n], rows[n : n + 2000]
            X, y = found.X[train], np.unique(found.y[train], return_inverse=True)[1]
            top = tw.LinearTop().fit(X, y)
            stack = top.stack_.divided_by(top.temperature_)
            logits = top.held_out_logits_ / top.temperature_
            novelty = fit_novelty(X, np.arange(n), top.held_out_rows_, logits)
            scores = novelty.scores(found.X[test], stack.logits(found.X[test]))
            shares.append(100 * float(np.mean(scores > novelty.threshold)))
    low, high = min(shares), max(shares)
    print(f"unknown, {found.data}, {found.network:<19} {np.mean(shares):.1f} % (from {low:.1f} to {high:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_folders(parser)
    arguments = parser.parse_args()
    mobilenet = arguments.data / "mobilenet_v2_imagenet_notop.weights.h5"
    networks = {
        "starter": tw.load_backbone("starter"),
        "MobileNetV2": tw.load_backbone("mobilenet_v2", weights=mobilenet, size=224),
    }
    for name, backbone in networks.items():
        extractor = tw.FeatureExtractor(backbone)
        junk(feature_set(arguments.data, arguments.cache, "flowers", name), extractor.transform)
    for found in feature_sets(arguments.data, arguments.cache):
        labels(found)
        unknown(found)


if __name__ == "__main__":
    main()
