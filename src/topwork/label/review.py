"""What a person should look at again: label issues, surest mistakes, copies, strange images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from topwork.checks.copies import find_copies
from topwork.checks.labels import find_label_issues
from topwork.checks.strange import strange_rows
from topwork.data.images import Images
from topwork.label.learning import Lesson
from topwork.progress import Reporter
from topwork.types import FloatArray, IntArray

FEWEST_FOR_LABELS = 50


@dataclass(frozen=True)
class Finding:
    """Something to decide about.

    Attributes:
        kind: 'label issue', 'sure mistake', 'copy', 'near copy' or 'strange'.
        ids: the images that it is about; of a pair two.
        why: in words.
        likely: the label that the others suggest, where there is one.
        probability: how likely that is.
    """

    kind: str
    ids: tuple[int, ...]
    why: str
    likely: str | None = None
    probability: float | None = None

    @property
    def key(self) -> str:
        """What the page calls it."""
        return f"{self.kind}:{','.join(map(str, self.ids))}"


def findings_of_labels(lesson: Lesson, held_out: FloatArray, sure: float) -> Iterator[Finding]:
    """Labels that are probably wrong; then those of which a top that had not learned from them is `sure` they are.

    Args:
        lesson: the labelled images.
        held_out: `(L, K)`, of tops that had not learned from the image; rows of 0 where there is none.
        sure: the probability from which on.
    """
    there = np.flatnonzero(held_out.any(axis=1))
    named: set[int] = set()
    if len(there) >= FEWEST_FOR_LABELS:
        found = find_label_issues(lesson.labels[there], np.maximum(held_out[there], 1e-12))
        for place, code, own in zip(there[found.indices], found.suggested, found.probability, strict=True):
            named.add(int(place))
            name, likely = lesson.class_names[lesson.labels[place]], lesson.class_names[code]
            why = f"the other labels suggest {likely}; {name} has a probability of {100 * own:.2g} %"
            yield Finding("label issue", (int(lesson.rows[place]),), why, likely, float(held_out[place, code]))
    best, probability = held_out.argmax(axis=1), held_out.max(axis=1)
    wrong = there[(best[there] != lesson.labels[there]) & (probability[there] >= sure)]
    for place in wrong[np.argsort(-probability[wrong], kind="stable")]:
        if int(place) not in named:
            likely = lesson.class_names[best[place]]
            why = f"a classifier that had not learned from it is sure that it is {likely}"
            yield Finding("sure mistake", (int(lesson.rows[place]),), why, likely, float(probability[place]))


def findings_of_images(images: Images, features: FloatArray, ready: IntArray, reporter: Reporter) -> Iterator[Finding]:
    """Copies, near copies and strange images among those whose features are there."""
    from topwork.checks.check import MOST_FOR_NEAR_COPIES  # with scikit-learn, see `learn`

    part = images.select(ready)
    copies = find_copies(part, np.arange(len(part)), near_too=len(part) <= MOST_FOR_NEAR_COPIES, reporter=reporter)
    order = np.lexsort((-copies.correlation, ~copies.is_exact))
    for (one, other), is_exact in zip(copies.pairs[order], copies.is_exact[order], strict=True):
        why = "the same picture twice" if is_exact else "nearly the same picture"
        yield Finding("copy" if is_exact else "near copy", (int(ready[one]), int(ready[other])), why)
    units = np.unique(part.digests, return_inverse=True)[1]
    for row in strange_rows(features[ready], units)[0]:
        yield Finding("strange", (int(ready[row]),), "unlike the other images")
