"""Would more images help? Accuracy at growing training sizes, and where the curve points.

The curve is `accuracy(n) = ceiling - b * n**-c`, the inverse power law that learning curves follow (Cortes et al. 1993;
Hestness et al. 2017, arXiv 1712.00409), fitted by least squares on the sizes that were tried. Its uncertainty comes
from fitting it again and again to what other draws, of training and of test images, might have given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.data.dataset import ImageDataset
from topwork.data.splits import TEST, deal_folds
from topwork.errors import DataError
from topwork.evaluation.intervals import CROSS_VALIDATED, Interval
from topwork.features.extraction import extract_features
from topwork.features.ranges import with_range
from topwork.memory import Rows
from topwork.progress import Reporter
from topwork.tops.linear import COARSE_L2_VALUES, COARSE_TOLERANCE, FOLDS, LinearTop
from topwork.types import Device, FloatArray, IntArray

AHEAD = (2, 4)
"""How many times the images that there are the curve is drawn on to."""
_SIZES = 7
_REFITS = 200
_FEWEST_OF_A_CLASS = 3


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Test accuracy by number of training images.

    Attributes:
        n: `(S,)`, the sizes tried, rising; the last is all that there is.
        accuracy: `(S,)`, mean test accuracy over the draws, in 0..1.
        low: `(S,)`, lower end of its 95 % interval, over draws and test images.
        high: `(S,)`, upper end.
        ahead: `factor * n[-1]` images -> the accuracy to expect, with its 95 % interval.
        n_test: how many test images there are.
        n_folds: in how many folds each image was tested once by tops that had not learned from it; 0 where there are
            images for testing alone.
        n_draws: how many draws of each size but the last.
    """

    n: IntArray
    accuracy: FloatArray
    low: FloatArray
    high: FloatArray
    ahead: dict[int, Interval]
    n_test: int
    n_folds: int
    n_draws: int

    @property
    def advice(self) -> str:
        """In a sentence, what more images would bring."""
        n, then = next(iter(self.ahead.items()))
        gain = 100 * (then.value - self.accuracy[-1])
        text = f"twice the images ({n:,}) should give {100 * then.value:.1f} %"
        text += f" ({100 * then.low:.1f} to {100 * then.high:.1f})"
        if gain < 0.5:
            return f"More images would hardly help: {text}. Another backbone or a larger input may."
        return f"More images would help: {text}, {gain:.1f} points more than now."

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = zip(self.n.tolist(), self.accuracy.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        return {
            "measured": [{"n": n, "value": value, "low": low, "high": high} for n, value, low, high in rows],
            "expected": [{"n": n, **interval.as_dict()} for n, interval in self.ahead.items()],
            "n_test": self.n_test,
            "n_folds": self.n_folds,
            "n_draws": self.n_draws,
            "advice": self.advice,
        }


def learning_curve(
    X: FloatArray,
    y: IntArray,
    tests: Sequence[IntArray],
    *,
    n_draws: int = 5,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> LearningCurve:
    """Fit linear tops on growing parts of the images that are not for testing, and test each on those that are.

    Args:
        X: `(N, D)` features.
        y: `(N,)` their labels, integers in 0..K-1.
        tests: which rows are for testing. Of several such parts, each is tested by tops that learned from all the
            others, and the answers are counted together: a cross-validated curve.
        n_draws: how many parts of each size are drawn.
        seed: of the draws.
        reporter: hears how far it is.

    Raises:
        DataError: a class has fewer than 24 training images, so that there is no curve to see.
    """
    trains = [np.setdiff1d(np.arange(len(y)), test) for test in tests]
    smallest = min(np.bincount(y[train])[np.unique(y[train])].min() for train in trains)
    sizes = _sizes(min(map(len, trains)), int(smallest))
    if len(sizes) < 4:
        raise DataError(
            f"A learning curve needs 24 training images of each class at least; the smallest class has {smallest}."
        )
    n_test, measured = sum(map(len, tests)), []
    with (reporter or Reporter()).task("Fitting tops", len(tests) * (n_draws * (len(sizes) - 1) + 1), "tops") as task:
        for n in sizes:
            right = np.zeros(n_draws if n < sizes[-1] else 1)
            for draw, (train, test) in product(range(len(right)), zip(trains, tests, strict=True)):
                part = train[_draw(y[train], n, np.random.default_rng((seed, n, draw)))]
                top = LinearTop(COARSE_L2_VALUES, tol=COARSE_TOLERANCE, seed=seed).fit(Rows(X, part), y[part])
                right[draw] += np.sum(top.predict(X[test]) == y[test])
                task.advance()
            measured.append(right / n_test)
    return _assemble(np.array(sizes), measured, n_test, len(tests), n_draws, seed)


def learning_curve_of(
    dataset: ImageDataset,
    backbone: Backbone,
    *,
    n_draws: int = 5,
    seed: int = 0,
    device: Device = "auto",
    reporter: Reporter | None = None,
) -> LearningCurve:
    """The learning curve of a dataset: train and validation images are drawn from, test images test.

    Args:
        dataset: labelled images; splits that it doesn't bring are as `split(test="auto")` decides. Without test images,
            every image is tested, by cross-validation.
        backbone: as from `load_backbone`.
        n_draws: see `learning_curve`, as for seed and reporter.
        seed: of the draws.
        device: where the backbone runs.
        reporter: hears how far it is.

    Raises:
        DataError: too few images, or no readable test images.
    """
    dataset = dataset if dataset.is_split else dataset.split(test="auto")
    backbone = with_range(backbone, dataset, reporter or Reporter())
    features = extract_features(dataset, backbone, device=device, reporter=reporter)
    labels, is_test = dataset.labels[features.indices], np.asarray(dataset.splits)[features.indices] == TEST
    if np.any(np.asarray(dataset.splits) == TEST):
        tests = [np.flatnonzero(is_test)]
    else:
        folds = deal_folds(labels, dataset.units(features.indices), FOLDS)
        may_test = dataset.may_test[features.indices]
        tests = [np.flatnonzero((folds == fold) & may_test) for fold in np.unique(folds)]
    if not len(tests[0]):
        raise DataError("There is no readable test image to measure accuracy on.")
    return learning_curve(features.values, labels, tests, n_draws=n_draws, seed=seed, reporter=reporter)


def _sizes(n: int, smallest: int) -> list[int]:
    """All images, half of them, a quarter … as long as the smallest class keeps three."""
    halvings = min(_SIZES - 1, int(np.log2(max(1, smallest / _FEWEST_OF_A_CLASS))))
    return [round(n / 2**i) for i in range(halvings, -1, -1)]


def _draw(y: IntArray, n: int, random: np.random.Generator) -> IntArray:
    """`n` of the images, each class in proportion."""
    share = n / len(y)
    parts = [random.permutation(np.flatnonzero(y == k)) for k in np.unique(y)]
    return np.sort(np.concatenate([part[: max(2, round(share * len(part)))] for part in parts]))


def _assemble(
    sizes: IntArray, measured: Sequence[FloatArray], n_test: int, n_tests: int, n_draws: int, seed: int
) -> LearningCurve:
    random = np.random.default_rng(seed)
    means = np.array([fits.mean() for fits in measured])
    spread = np.array([fits.std(ddof=1) if len(fits) > 1 else 0.0 for fits in measured])
    spread[-1] = spread[-2]  # all images can be drawn in one way only, but others might have come
    # the same test images judge every size: their chance moves the whole curve up or down
    inflation = CROSS_VALIDATED if n_tests > 1 else 1.0
    shared = random.normal(0, 1, (_REFITS, 1)) * np.sqrt(inflation * means * (1 - means) / n_test)
    drawn = np.clip(means + shared + random.normal(0, 1, (_REFITS, len(means))) * spread, 0, 1)
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    weights = 1 / np.maximum(spread, 0.002)
    ahead_n = [factor * int(sizes[-1]) for factor in AHEAD]
    best = fit_power_law(sizes, means, weights)
    refits = np.array([[curve(n) for n in ahead_n] for curve in (fit_power_law(sizes, row, weights) for row in drawn)])
    ends = np.percentile(refits, (2.5, 97.5), axis=0)
    ahead = {n: Interval(best(n), float(ends[0, i]), float(ends[1, i])) for i, n in enumerate(ahead_n)}
    return LearningCurve(sizes, means, low, high, ahead, n_test, n_tests if n_tests > 1 else 0, n_draws)


def fit_power_law(sizes: IntArray, accuracy: FloatArray, weights: FloatArray) -> Callable[[float], float]:
    """The inverse power law nearest to the points; it never falls, and stays below 1."""
    from scipy.optimize import least_squares

    relative = sizes / sizes[-1]

    def curve(parameters: FloatArray, n: FloatArray) -> FloatArray:
        ceiling, drop, power = parameters
        return np.asarray(ceiling - drop * n**-power)

    start = np.array([min(0.99, accuracy[-1] + 0.02), 0.02, 0.5])
    found = least_squares(
        lambda parameters: (curve(parameters, relative) - accuracy) * weights,
        start,
        bounds=([0.0, 0.0, 0.05], [1.0, 1.0, 2.0]),
        x_scale=(0.1, 0.1, 0.5),
    )
    return lambda n: float(curve(found.x, np.array(n / sizes[-1])))
