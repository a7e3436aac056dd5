"""How good a classifier is, in sentences; numbers first, then what they mean for whoever uses it."""

from __future__ import annotations

from topwork.evaluation.metrics import Evaluation

_WIDE = 0.1
"""An interval wider than this says that the test is too small to tell much."""
_HONEST = 0.03
"""Mean distance between probability and accuracy up to which probabilities are called believable, without more ado."""
_ANSWERED = 0.8
_ENOUGH_FOR_TRUST = 100
"""Test images below which nothing can be said of the probabilities."""


def headline(test: Evaluation) -> str:
    """The one sentence to remember."""
    accuracy = test.accuracy
    return (
        f"Right on {100 * accuracy.value:.1f} % (95 % interval {100 * accuracy.low:.1f} to "
        f"{100 * accuracy.high:.1f} %) of {test.tested_on}."
    )


def sentences(test: Evaluation) -> list[str]:
    """What else a person should know, the most important first."""
    found = (_small(test), _folds(test), _chance(test), _weakest(test), _trust(test), _abstain(test))
    return [sentence for sentence in found if sentence]


def _small(test: Evaluation) -> str:
    width = test.accuracy.high - test.accuracy.low
    if width <= _WIDE:
        return ""
    images = "images" if test.n_folds else "test images"
    return f"The test is small: the interval is {100 * width:.0f} points wide. More {images} would tell more."


def _folds(test: Evaluation) -> str:
    if not test.n_folds:
        return ""
    return (
        f"These are the figures of {test.n_folds} tops, each of which learned from the other folds; the "
        "classifier itself learned from all of them, and should be no worse."
    )


def _chance(test: Evaluation) -> str:
    largest = max(test.classes, key=lambda result: result.n)
    return (
        f"Always answering “{largest.name}”, the most frequent class here, would be right on "
        f"{100 * largest.n / test.n:.1f} %."
    )


def _weakest(test: Evaluation) -> str:
    weakest = min(test.classes, key=lambda result: result.recall.value)
    if weakest.recall.value == 1:
        return "No image was called wrongly."
    text = f"Weakest class: “{weakest.name}”, {100 * weakest.recall.value:.0f} % of its {weakest.n:,} images found."
    true, called, n = test.most_confused[0]
    return f"{text} The commonest mistake: “{true}” called “{called}” ({n:,} of them)."


def _trust(test: Evaluation) -> str:
    if test.n < _ENOUGH_FOR_TRUST:
        return ""
    error = test.reliability.error
    if error <= _HONEST:
        return f"Its probabilities can be used as they are: on average they are off by {100 * error:.1f} points."
    off = f"Its probabilities are off by {100 * error:.1f} points on average"
    if error <= test.reliability.chance:
        return f"{off}. On so few images that can be chance; more images would tell."
    return f"{off}, more than chance explains. Use them to rank images, not as probabilities."


def _abstain(test: Evaluation) -> str:
    curve = test.risk_coverage
    place = next(i for i, coverage in enumerate(curve.coverage) if coverage >= _ANSWERED)
    gain = curve.risk[-1] - curve.risk[place]
    if gain < 0.01:
        return ""
    return (
        f"On the {100 * curve.coverage[place]:.0f} % of the images that it is surest of, it is right on "
        f"{100 * (1 - curve.risk[place]):.1f} %: leave the rest to a person."
    )
