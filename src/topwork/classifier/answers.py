"""One image's answer, as every command and the service say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from topwork.classifier.predictions import Predictions
from topwork.types import FloatArray

UNKNOWN = "unknown"
RUNNERS_UP = 2
"""How many other classes are named, unless more or fewer are asked for."""


@dataclass(frozen=True)
class Answer:
    """What a classifier says of one image.

    Attributes:
        image: what a person calls the image.
        ranked: `(class name, probability)`, the most probable first; empty where the image can't be read.
        is_unknown: whether it is unlike all that the classifier was trained on; None where that can't be told.
        error: why the image can't be read; None where it can.
    """

    image: str
    ranked: tuple[tuple[str, float], ...] = ()
    is_unknown: bool | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON has it: `image`, and `class`, `probability`, `unknown`, `runners_up`; or `error`."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        first, *others = [{"class": name, "probability": round(value, 6)} for name, value in self.ranked]
        return {"image": self.image, **first, "unknown": self.is_unknown, "runners_up": others}


def make_answer(
    image: str,
    class_names: tuple[str, ...],
    probabilities: FloatArray,
    is_unknown: bool | None,
    runners_up: int = RUNNERS_UP,
) -> Answer:
    """The answer for one readable image.

    Args:
        image: its name.
        class_names: K names.
        probabilities: `(K,)`, they sum to 1.
        is_unknown: see `Answer`.
        runners_up: how many classes beside the most probable one are named; fewer where there are no more.
    """
    order = (-probabilities).argsort(kind="stable")[: runners_up + 1]
    return Answer(image, tuple((class_names[i], float(probabilities[i])) for i in order), is_unknown)


def answers_of(predictions: Predictions, runners_up: int = RUNNERS_UP) -> list[Answer]:
    """One answer for each of the N images of `predictions`, in their order, unreadable ones among them."""
    answers = [Answer(name) for name in predictions.names]
    for image in predictions.bad:
        answers[image.index] = Answer(image.name, error=image.reason)
    for place, (index, probabilities) in enumerate(zip(predictions.indices, predictions.probabilities, strict=True)):
        is_unknown = None if predictions.is_unknown is None else bool(predictions.is_unknown[place])
        name = predictions.names[index]
        answers[index] = make_answer(name, predictions.class_names, probabilities, is_unknown, runners_up)
    return answers
