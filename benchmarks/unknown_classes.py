"""Does the classifier tell images of classes that it was never shown?

    python benchmarks/unknown_classes.py --images cifar10-jpeg.parquet [--backbone NAME --weights FILE --size PIXELS]

Five times, two of CIFAR-10's classes are left out and a linear top learns the other eight (10,000 training images);
then the 10,000 test images of all ten are scored. Last, a top on all ten is shown handwritten digits. ROC-AUC (0.5 is
chance) of the novelty score, of its two signs alone and of one minus the highest probability; and the shares called
unknown. About two minutes on 2 cores once the features are kept. Expected with the starter: novelty 0.69 on average for
left-out classes, 0.95 for digits.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

import topwork as tw
from common import images_and_backbone
from topwork.tops.dense_stack import softmax
from topwork.tops.novelty import fit_novelty

LEFT_OUT = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
N_TRAIN = 10_000


def main() -> None:
    dataset, backbone = images_and_backbone(__doc__)
    dataset = dataset.with_splits
    X, y, sides = tw.extract_features(dataset, backbone).values, dataset.labels, np.asarray(dataset.splits)
    random = np.random.default_rng(0)
    test, rows = sides == "test", []
    print("| left out | novelty | distance | energy | 1 - probability | unknown: known classes | left out |")
    print("|---|---|---|---|---|---|---|")
    for out in LEFT_OUT:
        known = ~np.isin(y, out)
        train = random.choice(np.flatnonzero((sides == "train") & known), N_TRAIN, replace=False)
        val = np.flatnonzero((sides == "validation") & known)
        rows.append(told_apart(X[train], y[train], X[val], y[val], X[test], ~known[test]))
        print(f"| {', '.join(dataset.class_names[k] for k in out)} | {cells(rows[-1])} |", flush=True)
    print(f"| mean | {cells(np.mean(rows, axis=0))} |")
    train = random.choice(np.flatnonzero(sides == "train"), N_TRAIN, replace=False)
    val = sides == "validation"
    digits = tw.extract_features(tw.ImageDataset.from_name("digits"), backbone).values
    images = np.concatenate([X[test], digits])
    strange = np.arange(len(images)) >= test.sum()
    print(f"| none; handwritten digits | {cells(told_apart(X[train], y[train], X[val], y[val], images, strange))} |")


def told_apart(
    X: np.ndarray, y: np.ndarray, X_val: np.ndarray, y_val: np.ndarray, images: np.ndarray, strange: np.ndarray
) -> list[float]:
    """A row of the table, for a top on `X` and `y` that is shown `images`, some of them strange to it."""
    top = tw.LinearTop().fit(X, y, X_val=X_val, y_val=y_val)
    learned = np.concatenate([X, X_val])
    novelty = fit_novelty(learned, np.arange(len(learned)), top.held_out_rows_, top.held_out_logits_)
    logits = top.stack_.logits(images)
    scores, signs = novelty.scores(images, logits), novelty.signs(images, logits)
    areas = [roc_auc_score(strange, s) for s in (scores, *signs.T, 1 - softmax(logits).max(axis=1))]
    unknown = scores > novelty.threshold
    return [*areas, float(unknown[~strange].mean()), float(unknown[strange].mean())]


def cells(row: list[float] | np.ndarray) -> str:
    return " | ".join([f"{value:.3f}" for value in row[:4]] + [f"{100 * value:.0f} %" for value in row[4:]])


if __name__ == "__main__":
    main()
