"""How answers become a file: CSV, JSON lines or Parquet, slice by slice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np

from topwork.classifier.answers import UNKNOWN
from topwork.classifier.predictions import Predictions
from topwork.errors import OptionError
from topwork.files import printable
from topwork.prediction.rows import RowForm, Wording, row_form

if TYPE_CHECKING:
    import pyarrow as pa

FileKind: TypeAlias = Literal["csv", "jsonl", "parquet"]

_GROUP_ROWS, _GROUP_NUMBERS = 16_384, 4_000_000
"""Of a Parquet row group, at most: a row holds a number a class."""


class AnswerWriter(Protocol):
    """Takes predictions, slice by slice in their order."""

    def write(self, predictions: Predictions) -> None:
        """Write the answers of these."""


def file_kind(path: Path) -> FileKind:
    """What the suffix of `path` asks for.

    Raises:
        OptionError: none that Topwork writes.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in get_args(FileKind):
        raise OptionError(
            f"Expected a file that ends in .csv, .jsonl or .parquet; got {printable(str(path))!r}. For a folder with a "
            "file for each shard, end it in /."
        )
    return kind  # type: ignore[return-value]


@contextlib.contextmanager
def open_writer(
    kind: FileKind, file: IO[bytes], class_names: tuple[str, ...], wording: Wording
) -> Iterator[AnswerWriter]:
    """A writer into `file` as `kind`; the file is whole when the block ends."""
    if kind == "parquet":
        with _open_parquet(file, class_names, wording) as writer:
            yield writer
    else:
        form = row_form(kind, None, class_names, wording)
        file.write(form.head().encode())
        yield RowWriter(file, form)


class RowWriter:
    """Answers as lines of UTF-8."""

    def __init__(self, file: IO[bytes], form: RowForm) -> None:
        self._file, self._form = file, form

    def write(self, predictions: Predictions) -> None:
        self._file.write(self._form.text(predictions).encode("utf-8", "replace"))


@contextlib.contextmanager
def _open_parquet(file: IO[bytes], class_names: tuple[str, ...], wording: Wording) -> Iterator[ParquetAnswers]:
    writer = ParquetAnswers(file, class_names, wording)
    try:
        yield writer
        writer.flush()
    finally:
        writer.close()


class ParquetAnswers:
    """Answers as a Parquet table: the columns of a run's `predictions.parquet`, and why an image can't be read.

    The row groups are of one length, so that the same answers are the same bytes however they were sliced.
    """

    def __init__(self, file: IO[bytes], class_names: tuple[str, ...], wording: Wording) -> None:
        self._file, self._wording = file, wording
        self._classes = class_names
        self._n = max(1, min(_GROUP_ROWS, _GROUP_NUMBERS // len(class_names)))
        self._waiting: list[pa.Table] = []
        self._writer: Any = None

    def write(self, predictions: Predictions) -> None:
        self._waiting.append(self._table(predictions))
        if sum(table.num_rows for table in self._waiting) >= self._n:
            self._write_groups()

    def flush(self) -> None:
        """Write what is left."""
        self._write_groups(is_last=True)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write_groups(self, *, is_last: bool = False) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._writer = self._writer or parquet.ParquetWriter(self._file, table.schema)
        n_whole = table.num_rows if is_last else table.num_rows // self._n * self._n
        for start in range(0, n_whole, self._n):
            self._writer.write_table(table.slice(start, min(self._n, n_whole - start)))
        self._waiting = [table.slice(n_whole)]

    def _table(self, predictions: Predictions) -> pa.Table:
        import pyarrow as pa

        n, best = len(predictions.names), predictions.probabilities.argmax(axis=1)
        predicted, is_unnamed = np.array(self._classes, object)[best], np.zeros(len(best), bool)
        if self._wording.as_unknown and predictions.is_unknown is not None:
            is_unnamed = predictions.is_unknown
            predicted[is_unnamed] = UNKNOWN
        offsets = np.arange(0, predictions.probabilities.size + 1, len(self._classes), dtype=np.int32)
        columns = {
            "predicted": pa.array(predicted, pa.string()),
            "probability": pa.array(predictions.probabilities[np.arange(len(best)), best], mask=is_unnamed),
            "probabilities": pa.ListArray.from_arrays(offsets, predictions.probabilities.ravel()),
        }
        if predictions.novelty is not None:
            columns |= {"novelty": pa.array(predictions.novelty), "unknown": pa.array(predictions.is_unknown)}
        places, is_answered = np.zeros(n, np.int64), np.zeros(n, bool)
        places[predictions.indices], is_answered[predictions.indices] = np.arange(len(best)), True
        spread = pa.array(places, mask=~is_answered)  # taking a missing place gives a missing value
        errors = {image.index: image.reason for image in predictions.bad}
        every = {
            "image": pa.array(predictions.names, pa.string()),
            **{name: values.take(spread) for name, values in columns.items()},
            "error": pa.array([errors.get(i) for i in range(n)], pa.string()),
        }
        return pa.table(every, metadata={"classes": "\n".join(self._classes)})
