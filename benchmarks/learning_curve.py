"""Does the learning curve keep its word? Most of a real set is held back, and what the curve promised is looked up.

    python benchmarks/learning_curve.py --images cifar10-jpeg.parquet [--backbone NAME --weights FILE --size PIXELS]

For 400, 2,000 and 10,000 CIFAR-10 training images, three draws each: the curve's promise for twice and four times as
many, and the test accuracy that a top on so many then has (10,000 test images). Two minutes on 2 cores once the
features are kept. Expected: the truth lies in the interval in 16 or more of 18 cases.
"""

from __future__ import annotations

import numpy as np

import topwork as tw
from common import images_and_backbone
from topwork.evaluation.learning_curve import learning_curve
from topwork.tops.linear import COARSE_L2_VALUES, COARSE_TOLERANCE


def main() -> None:
    dataset, backbone = images_and_backbone(__doc__)
    X, y = tw.extract_features(dataset, backbone).values, dataset.labels
    test = np.asarray(dataset.splits) == "test"
    right, cases = 0, 0
    print("| images | draw | now | then | promised | came | inside |\n|---|---|---|---|---|---|---|")
    for n in (400, 2_000, 10_000):
        for draw in range(3):
            order = np.random.default_rng(draw).permutation(np.flatnonzero(~test))
            rows = np.concatenate([order[:n], np.flatnonzero(test)])
            curve = learning_curve(X[rows], y[rows], [np.arange(n, len(rows))], seed=draw)
            for later, promise in curve.ahead.items():
                part = order[:later]
                came = (
                    tw.LinearTop(COARSE_L2_VALUES, tol=COARSE_TOLERANCE).fit(X[part], y[part]).score(X[test], y[test])
                )
                inside = promise.low <= came <= promise.high
                right, cases = right + inside, cases + 1
                text = f"{100 * promise.value:.1f} ({100 * promise.low:.1f} to {100 * promise.high:.1f})"
                now = f"{100 * curve.accuracy[-1]:.1f}"
                print(
                    f"| {n:,} | {draw} | {now} | {later:,} | {text} | {100 * came:.1f} | {'yes' if inside else 'no'} |"
                )
    print(f"inside in {right} of {cases} cases")


if __name__ == "__main__":
    main()
