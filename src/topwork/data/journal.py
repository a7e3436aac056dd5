"""A journal of labels: a CSV to which what a person decides about images is appended, a row for each image.

The last row of an image counts. An image is known by the digest of its content, so a renamed file keeps its label.
Rows of one moment are one action; an action is undone by rows that give its images back what they had. Classes have
rows of their own, without a file, so that there can be one that no image has yet.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from topwork.data.cells import harmless, plain
from topwork.errors import DataError, OptionError, StorageError
from topwork.files import atomic_file, one_at_a_time, printable, read_regular, storage_errors, why_not_written

PERSON, MACHINE, CAMERA, FOLDER = "person", "machine", "camera", "folder"
"""Where a label comes from. A person gave those of the camera too, and those of class folders, which can't be undone
where they come first: they were there before."""
LABELLED, EXCLUDED, SKIPPED, KEPT, OPEN = "labelled", "excluded", "skipped", "kept", ""
"""The states of an image. `kept`: a person looked at what a check found, and lets the image stay as it is."""
CLASS, NO_CLASS = "class", "no class"
"""The states of a class: from this row on it is there, or no longer. A class takes the place of one that goes in the
same action."""
RANDOM, UNDO = "random", "undo"

_LARGEST = 1 << 30
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_WRITTEN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One row of a journal.

    Attributes:
        file: what the image was called then; empty in the row of a class.
        digest: of the image's content, in hex.
        label: its class name, empty where it has none; or the class that the row is about.
        source: 'person', 'machine', 'camera' or 'folder': where the label comes from.
        state: of the image or the class.
        drawn: 'random' where the image was drawn by chance from those without a label, so that it may test.
        undo: 'undo' where the row takes an action back.
        time: in UTC; last, so that a row that was cut short shows it.
    """

    file: str = ""
    digest: str = ""
    label: str = ""
    source: str = ""
    state: str = OPEN
    drawn: str = ""
    undo: str = ""
    time: str = ""


_COLUMNS = tuple(field.name for field in fields(JournalRow))
_HEAD = f"\ufeff{','.join(_COLUMNS)}\r\n".encode()
"""Of the file; by its first character Excel knows UTF-8."""


class Labelling:
    """What the rows of a journal come to.

    Attributes:
        images: the row that counts, by digest, those that changed last at the end.
        classes: the class names, in the order in which they were made.
    """

    def __init__(self, rows: Iterable[JournalRow] = ()) -> None:
        self.images: dict[str, JournalRow] = {}
        self.classes: list[str] = []
        self._actions: list[list[tuple[JournalRow, JournalRow | None]]] = []
        self.take(rows)

    @property
    def can_undo(self) -> bool:
        """Whether there is an action that was not taken back."""
        return bool(self._actions)

    def take(self, rows: Iterable[JournalRow]) -> None:
        """Go on with these rows."""
        for _, action in groupby(rows, attrgetter("time")):
            self._take_action(list(action))

    def undoing(self) -> list[JournalRow]:
        """The rows that take the last action back; none where there is none."""
        if not self._actions:
            return []
        rows = []
        for row, before in reversed(self._actions[-1]):
            if row.state in (CLASS, NO_CLASS):
                rows.append(JournalRow(label=row.label, state=NO_CLASS if row.state == CLASS else CLASS, undo=UNDO))
            else:
                rows.append(replace(before or JournalRow(row.file, row.digest), file=row.file, undo=UNDO))
        return rows

    def _take_action(self, rows: list[JournalRow]) -> None:
        done: list[tuple[JournalRow, JournalRow | None]] = []
        place = len(self.classes)
        for row in rows:
            if row.state == CLASS:
                if row.label not in self.classes:
                    self.classes.insert(place, row.label)
                place = len(self.classes)
                done.append((row, None))
            elif row.state == NO_CLASS:
                place = self.classes.index(row.label) if row.label in self.classes else place
                self.classes = [name for name in self.classes if name != row.label]
                done.append((row, None))
            else:
                done.append((row, self.images.pop(row.digest, None)))
                self.images[row.digest] = row
                if row.label and row.label not in self.classes:
                    self.classes.append(row.label)
        if rows[0].undo:
            del self._actions[-1:]
        elif not all(row.source == FOLDER and before is None for row, before in done):
            self._actions.append(done)


class Journal:
    """A journal that is open for more rows; from `open_journal`."""

    def __init__(self, path: Path, rows: list[JournalRow], file: io.FileIO) -> None:
        self.path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._last = rows[-1].time if rows else ""
        self.labelling = Labelling(rows)

    def append(self, rows: Sequence[JournalRow]) -> list[JournalRow]:
        """Add one action; when this returns, it is on the disk. Returns the rows with their time.

        Raises:
            StorageError: it can't be written, and nothing of it is; or another program has changed the file.
        """
        there = self.path.stat() if self.path.exists() else None
        own = os.fstat(self._file.fileno())
        if there is None or (there.st_ino, there.st_dev, there.st_size) != (own.st_ino, own.st_dev, self._size):
            raise StorageError(
                f"{printable(str(self.path))!r} was changed or moved by another program while it was open here. Close "
                "that program, stop `topwork label`, and start it again."
            )
        self._last = _time_after(self._last)
        rows = [replace(row, time=self._last) for row in rows]
        content = _encoded(rows)
        try:
            view = memoryview(content)
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), self._size)
            raise StorageError(f"Can't write {printable(str(self.path))!r}: {why_not_written(error)}") from error
        self._size += len(content)
        self.labelling.take(rows)
        return rows


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """A journal to append to, new or as it is. A last row that was cut short is taken away; it was never acknowledged.

    Raises:
        OptionError: another process has it open.
        DataError: the file is no journal.
        StorageError: it can't be written.
    """
    with ExitStack() as stack:
        with storage_errors(path):
            try:
                stack.enter_context(one_at_a_time(path, wait=False))
            except OptionError as error:
                raise OptionError(
                    f"{printable(str(path))!r} is open in another `topwork label`. Go on in its page, or stop it "
                    "first; or name another file: `journal=FILE`."
                ) from error
            content = read_regular(path, at_most=_LARGEST) if path.exists() else b""
            rows, n_lines = _decoded(content, path)
            is_ours = content.startswith(_HEAD) and content.endswith(b"\r\n") and n_lines == 1 + len(rows)
            if not is_ours:  # new, cut short, or saved by a spreadsheet in its own way
                with atomic_file(path) as file:
                    file.write(_HEAD + _encoded(rows))
            opened = stack.enter_context(open(path, "ab", buffering=0))
        yield Journal(path, rows, opened)


def read_journal(path: Path) -> list[JournalRow]:
    """The rows of a journal.

    Raises:
        DataError: there is no such file, or it is no journal.
    """
    shown = printable(str(path))
    try:
        return _decoded(read_regular(path, at_most=_LARGEST), path)[0]
    except FileNotFoundError as error:
        raise DataError(f"There is no file {shown!r}. `topwork label` makes one.") from error
    except OSError as error:
        raise DataError(f"{shown!r} can't be read: {error.strerror or error}.") from error


def _time_after(last: str) -> str:
    """Now, in UTC; a microsecond after `last` where the clock does not say later: times tell actions apart."""
    now = datetime.now(UTC).strftime(_TIME)
    if now > last:
        return now
    return (datetime.strptime(last, _TIME) + timedelta(microseconds=1)).strftime(_TIME)


def _encoded(rows: Iterable[JournalRow]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(map(harmless, astuple(row)) for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _decoded(content: bytes, path: Path) -> tuple[list[JournalRow], int]:
    """The rows, and how many lines there are with the head, one that was cut short among them."""
    shown = printable(str(path))
    try:
        text = content.rstrip(b"\0").decode("utf-8-sig", "ignore" if _is_cut(content) else "strict")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown!r} isn't text in UTF-8. Save it as “CSV UTF-8”.") from error
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{shown!r} can't be read as CSV: {error}.") from error
    if not lines or (len(lines) == 1 and _is_cut(content)):
        return [], 0
    names = lines[0]
    if missing := [name for name in _COLUMNS if name not in names]:
        raise DataError(
            f"{shown!r} is no journal of labels: it has no column {missing[0]!r}. Expected a file that `topwork label` "
            "made. For other tables: `label_column=NAME`."
        )
    places = [names.index(name) for name in _COLUMNS]
    rows = []
    for number, cells in enumerate(lines[1:], 2):
        is_whole = len(cells) >= len(names) and _WRITTEN_TIME.fullmatch(cells[places[-1]])
        if is_whole:
            rows.append(JournalRow(*(plain(cells[place]) for place in places)))
        elif number < len(lines) and any(cells):
            raise DataError(
                f"Row {number:,} of {shown!r} is no row of a journal: {len(cells)} cells and the time "
                f"{''.join(cells[places[-1] :][:1])!r}. Expected {len(names)}, and a time such as "
                "'2026-01-31T12:00:00.000000Z'. Correct or delete the row."
            )
    return rows, len(lines)


def _is_cut(content: bytes) -> bool:
    return not content.endswith(b"\n")
