"""One image's answer, as every command and the service say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
