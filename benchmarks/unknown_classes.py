"""Does the classifier tell images of classes that it was never shown?

    python benchmarks/unknown_classes.py --images cifar10-jpeg.parquet [--backbone NAME --weights FILE --size PIXELS]

Five times, two of CIFAR-10's classes are left out and a linear top learns the other eight (10,000 training images);
then the 10,000 test images of all ten are scored. ROC-AUC (0.5 is chance) of the novelty score, of its two signs alone
and of one minus the highest probability; and the shares called unknown. About two minutes on 2 cores once the features
are kept. Expected with the starter: novelty 0.70 on average, as good as the better of its two signs or better.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.metrics import roc_auc_score

import topwork as tw
from topwork.tops.dense_stack import softmax
from topwork.tops.novelty import fit_novelty

LEFT_OUT = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
N_TRAIN = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="CIFAR-10 as a table: image, label, split")
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--weights")
    parser.add_argument("--size", type=int)
    arguments = parser.parse_args()
    dataset = tw.ImageDataset.load(arguments.images).with_sides
    backbone = tw.load_backbone(arguments.backbone, weights=arguments.weights, size=arguments.size)
    X, y, sides = tw.extract_features(dataset, backbone).values, dataset.labels, np.asarray(dataset.sides)
    random = np.random.default_rng(0)
    test, rows = sides == "test", []
    print("| left out | novelty | distance | energy | 1 - probability | unknown: known classes | left out |")
    print("|---|---|---|---|---|---|---|")
    for out in LEFT_OUT:
        known = ~np.isin(y, out)
        train = random.choice(np.flatnonzero((sides == "train") & known), N_TRAIN, replace=False)
        val = np.flatnonzero((sides == "validation") & known)
        top = tw.LinearTop().fit(X[train], y[train], X_val=X[val], y_val=y[val])
        novelty = fit_novelty(X[train], X[val], top.val_logits_)
        logits = top.stack_.logits(X[test])
        signs = novelty.signs(X[test], logits)
        scores = novelty.scores(X[test], logits)
        strange = ~known[test]
        unknown = scores > novelty.threshold
        areas = [roc_auc_score(strange, s) for s in (scores, *signs.T, 1 - softmax(logits).max(axis=1))]
        rows.append([*areas, unknown[~strange].mean(), unknown[strange].mean()])
        print(f"| {', '.join(dataset.class_names[k] for k in out)} | {cells(rows[-1])} |", flush=True)
    print(f"| mean | {cells(np.mean(rows, axis=0))} |")


def cells(row: list[float] | np.ndarray) -> str:
    return " | ".join([f"{value:.3f}" for value in row[:4]] + [f"{100 * value:.0f} %" for value in row[4:]])


if __name__ == "__main__":
    main()
