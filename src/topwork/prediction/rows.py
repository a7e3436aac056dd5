"""How one image's answer is written: a line of text, a CSV row, a JSON line."""

from __future__ import annotations

import abc
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from topwork.classifier.answers import RUNNERS_UP, UNKNOWN, answers_of
from topwork.classifier.predictions import Predictions
from topwork.data.sources import ImageSource
from topwork.words import visible

AnswerRow: TypeAlias = dict[str, Any]
"""`Answer.as_dict()`; where the answer itself is to be unknown, its `class` is so and its `probability` None."""
RowKind: TypeAlias = Literal["text", "csv", "jsonl"]

_WIDEST_NAME = 60
_WIDEST_CLASS = 40
_UNLIKE = "   (unlike the training images)"


@dataclass(frozen=True)
class Wording:
    """What is said of each image.

    Attributes:
        runners_up: how many other classes are named.
        as_unknown: whether the answer is `unknown` for images unlike all that the classifier was trained on.
    """

    runners_up: int = RUNNERS_UP
    as_unknown: bool = False

    def rows(self, predictions: Predictions) -> Iterator[AnswerRow]:
        """One row an image, in order."""
        for answer in answers_of(predictions, self.runners_up):
            row = answer.as_dict()
            if self.as_unknown and row.get("unknown"):
                first = {"class": row["class"], "probability": row["probability"]}
                others = [first, *row["runners_up"]][: self.runners_up]
                row |= {"class": UNKNOWN, "probability": None, "runners_up": others}
            yield row

    def most_runners_up(self, n_classes: int) -> int:
        """How many runners-up a row has at most."""
        return min(self.runners_up, n_classes if self.as_unknown else n_classes - 1)


PLAIN = Wording()
"""What is said unless a person asks for something else."""


@dataclass(frozen=True)
class RowForm(abc.ABC):
    """How rows look; each is whole in itself, so that they can be written as they come."""

    wording: Wording

    def text(self, predictions: Predictions) -> str:
        """The rows of all these images, line by line."""
        return "".join(map(self.line, self.wording.rows(predictions)))

    def head(self) -> str:
        """What stands above all rows, if anything; it ends its line."""
        return ""

    @abc.abstractmethod
    def line(self, row: AnswerRow) -> str:
        """The row; it ends its line."""


def row_form(kind: RowKind, source: ImageSource | None, class_names: tuple[str, ...], wording: Wording) -> RowForm:
    """The form called `kind`; `source`, where it is known up front, tells text how wide its first column is."""
    if kind == "csv":
        return CsvRows(wording, wording.most_runners_up(len(class_names)))
    if kind == "jsonl":
        return JsonRows(wording)
    names = max((len(source.name(row)) for row in range(len(source))), default=0) if source is not None else 0
    answers = [*class_names, UNKNOWN] if wording.as_unknown else class_names
    return TextRows(wording, min(names, _WIDEST_NAME), min(max(map(len, answers)), _WIDEST_CLASS))


@dataclass(frozen=True)
class TextRows(RowForm):
    """Columns for a person: image, class, probability, runners-up."""

    width: int
    class_width: int

    def line(self, row: AnswerRow) -> str:
        name = f"{_in_line(row['image']):<{self.width}}"
        if "error" in row:
            return f"{name}  can't be read: {_in_line(row['error'])}\n"
        others = ", ".join(
            f"{_in_line(other['class'])} {100 * other['probability']:.1f} %" for other in row["runners_up"]
        )
        sure = f"{'':>7}" if row["probability"] is None else f"{100 * row['probability']:5.1f} %"
        mark = _UNLIKE if row["unknown"] and not self.wording.as_unknown else ""
        return f"{name}  {_in_line(row['class']):<{self.class_width}}  {sure}   {others}{mark}".rstrip() + "\n"


@dataclass(frozen=True)
class CsvRows(RowForm):
    """Comma-separated values: image, class, probability, unknown, the runners-up, error."""

    runners_up: int

    def head(self) -> str:
        places = range(2, self.runners_up + 2)
        others = [name for place in places for name in (f"class_{place}", f"probability_{place}")]
        return _csv_line(["image", "class", "probability", "unknown", *others, "error"])

    def line(self, row: AnswerRow) -> str:
        if "error" in row:
            return _csv_line([row["image"], *[""] * (3 + 2 * self.runners_up), row["error"]])
        unknown = "" if row["unknown"] is None else str(row["unknown"]).lower()
        others = [cell for other in row["runners_up"] for cell in (other["class"], other["probability"])]
        others += [""] * (2 * self.runners_up - len(others))
        return _csv_line([row["image"], row["class"], row["probability"], unknown, *others, ""])


@dataclass(frozen=True)
class JsonRows(RowForm):
    """One JSON object a line."""

    def line(self, row: AnswerRow) -> str:
        return json.dumps(row, ensure_ascii=False) + "\n"


def _in_line(name: str) -> str:
    """A name as it is shown in a table: on one line, and without control over the terminal."""
    return visible(name).replace("\n", "\\n")


def _csv_line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
