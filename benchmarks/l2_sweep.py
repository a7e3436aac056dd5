"""The L2 sweep of `LinearTop` against scikit-learn's `LogisticRegression` at the same values and the same optimum.

    python benchmarks/l2_sweep.py [--quick] [--images cifar10-jpeg.parquet]

45 values of L2 from 1e5 to 1e-6 on 20,000 × 1,024 features of 10 classes, drawn with the falling spectrum that
features of networks have, or (with --images) the starter's 640 features of CIFAR-10. scikit-learn fits each value from
zero, as its users do, and once more from the last value's solution, both to a tolerance of 1e-6. How far each objective
lies above the lowest that was found is printed: the largest excess, and the share of values within 1e-4. --quick takes
5,000 × 256 and 12 of the values.
Expected: 12 times as fast as from zero (the aim is 10), every objective within 1e-4.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import topwork as tw
from common import arguments, seconds

L2_VALUES = tuple(np.logspace(5, -6, 45))
"""The sweep of Kornblith, Shlens, Le (2019, arXiv 1805.08974), twice as fine as `LinearTop`'s own."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--images")
    given = parser.parse_args()
    X, y = _features(given.images) if given.images else _drawn(*((5_000, 256) if given.quick else (20_000, 1_024)))
    values = L2_VALUES[::4] if given.quick else L2_VALUES
    X = StandardScaler().fit_transform(X.astype(np.float64))

    top = tw.LinearTop(values)
    ours = seconds(lambda: top.fit(X, y, X_val=X[:1000], y_val=y[:1000]))  # seen images: the sweep never ends early
    objectives = {"LinearTop": [row["loss"] for row in top.history_]}
    times = {"LinearTop": ours}
    print(f"LinearTop: {ours:.1f} s for {len(objectives['LinearTop'])} values", flush=True)
    for name, warm in (("scikit-learn", False), ("scikit-learn, each from the last", True)):
        objectives[name], times[name] = _scikit_learn(X, y, values, warm)
        print(f"{name}: {times[name]:.1f} s", flush=True)
    lowest = np.min(list(objectives.values()), axis=0)
    n, d = X.shape
    print(f"\n{n:,} × {d:,} features, {len(values)} values of L2\n")
    print("| | seconds | LinearTop is faster by | objective above the lowest, at most | within 1e-4 |")
    print("|---|---|---|---|---|")
    for name, found in objectives.items():
        excess = np.array(found) / lowest - 1
        cells = [f"{times[name]:.1f}", f"{times[name] / ours:.1f}×", f"{excess.max():.1e}"]
        print(f"| {name} | {' | '.join(cells)} | {100 * np.mean(excess < 1e-4):.0f} % |")


def _drawn(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    y = random.integers(0, 10, n)
    spectrum = np.arange(1, d + 1) ** -0.7
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    centres = random.normal(size=(10, d)) * spectrum * 0.7
    X = (random.normal(size=(n, d)) * spectrum + centres[y]) @ turn
    return X.astype(np.float32), y


def _features(images: str) -> tuple[np.ndarray, np.ndarray]:
    dataset = tw.ImageDataset.load(images).train
    return tw.extract_features(dataset, tw.load_backbone("starter")).values, dataset.labels


def _scikit_learn(X: np.ndarray, y: np.ndarray, values: tuple[float, ...], warm: bool) -> tuple[list[float], float]:
    """The objective at each value, and the seconds of all fits."""
    objectives, total = [], 0.0
    model = LogisticRegression(max_iter=5000, tol=1e-6, warm_start=warm)
    for l2 in values:
        model.set_params(C=1 / (l2 * len(X)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged in 5,000 steps: the excess shows it
            total += seconds(lambda: model.fit(X, y))
        log_probabilities = model.predict_log_proba(X)[np.arange(len(y)), y]
        objectives.append(-float(np.mean(log_probabilities)) + l2 / 2 * float(np.sum(model.coef_**2)))
    return objectives, total


if __name__ == "__main__":
    main()
