"""Images are answered as they arrive in folders: by looking again and again, which works on network shares too."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from topwork.classifier.classifier import ImageClassifier
from topwork.data.sources import FileImages
from topwork.data.walking import Folder, PassedOver, sorted_image_files
from topwork.errors import DataError, OptionError
from topwork.files import one_at_a_time, open_regular, printable, storage_errors
from topwork.prediction.rows import PLAIN, RowForm, RowKind, Wording, row_form
from topwork.progress import Reporter

SECONDS_BETWEEN_LOOKS = 1.0
MANY = 100
"""Images at once from which progress is shown."""

State: TypeAlias = tuple[int, int]
"""Size and time of change of a file: equal in two looks, nobody is writing it any more."""


class Arrivals:
    """Tells which images have newly come, or changed, look by look.

    An image counts once its state was the same in two looks one after another, so a half-copied one does not. Those
    that `answered` names were there before, and count again only when they change.
    """

    def __init__(self, answered: frozenset[str] = frozenset()) -> None:
        self._before = answered
        self._last: dict[str, State] = {}
        self._told: dict[str, State] = {}

    def look(self, states: dict[str, State]) -> list[str]:
        """The images that have arrived by this look, in its order."""
        for path, state in states.items():
            if path not in self._last and path not in self._told and printable(path) in self._before:
                self._told[path] = state
        arrived = [
            path for path, state in states.items() if self._last.get(path) == state and self._told.get(path) != state
        ]
        self._told |= {path: states[path] for path in arrived}
        self._last = states
        return arrived


@dataclass
class WatchCount:
    """How many images were answered while watching, and how many of them can't be read."""

    n: int = 0
    n_bad: int = 0


@dataclass(frozen=True)
class AnswerLog:
    """Where answers go while watching.

    Attributes:
        form: how rows look.
        say: takes whole lines, some dozens at a time.
        answered: names of images that it has answers for already; they are left out unless they change.
    """

    form: RowForm
    say: Callable[[str], object]
    answered: frozenset[str] = frozenset()


def require_folders(words: Sequence[str]) -> None:
    """Raise a `DataError` unless every word is a folder."""
    for word in words:
        if not os.path.isdir(word):
            raise DataError(
                f"{printable(word)!r} isn't a folder. `watch=True` looks into folders for images that arrive."
            )


def watch_folders(
    classifier: ImageClassifier,
    folders: Sequence[str],
    log: AnswerLog,
    count: WatchCount,
    *,
    reporter: Reporter | None = None,
) -> None:
    """Answer each image in `folders`, then each that arrives or changes; only an exception ends it, such as Ctrl-C.

    A folder or image that vanishes is no reason to end. An image that can't be read is named once.

    Args:
        classifier: what answers.
        folders: looked through with all below them, every second.
        log: where the answers go.
        count: counts along, for who stops it.
        reporter: hears of progress where many images come at once.
    """
    arrivals = Arrivals(log.answered)
    while True:
        arrived = arrivals.look(_states(folders))
        if arrived:
            hears = reporter if len(arrived) >= MANY else None
            for predictions in classifier.stream(FileImages(tuple(arrived)), hears):
                log.say(log.form.text(predictions))
                count.n += len(predictions.names)
                count.n_bad += len(predictions.bad)
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _states(folders: Sequence[str]) -> dict[str, State]:
    found: dict[str, State] = {}
    for folder in folders:
        for path in sorted_image_files(Folder(Path(folder)), PassedOver()):
            try:
                state = os.stat(path)
            except OSError:  # it went while we looked
                continue
            found[path] = state.st_size, state.st_mtime_ns
    return found


@contextlib.contextmanager
def open_log(path: Path, class_names: tuple[str, ...], wording: Wording = PLAIN) -> Iterator[AnswerLog]:
    """A file that answers are appended to, line by line; opened again, it knows whom it has answered.

    Raises:
        OptionError: it isn't such a file, or has other columns.
        StorageError: it can't be written.
    """
    kind = log_kind(path)
    form = row_form(kind, None, class_names, wording)
    with storage_errors(path), one_at_a_time(path, wait=False):
        content = b""
        if path.exists():
            with open_regular(path) as log:
                content = log.read()
        whole = content[: content.rfind(b"\n") + 1]  # a line that was cut short is written anew
        answered = frozenset(_names(kind, whole.decode("utf-8", "replace"), form.head(), path))
        with path.open("ab") as file:

            def say(text: str) -> None:
                file.write(text.encode("utf-8", "replace"))
                file.flush()

            file.truncate(len(whole))
            if not whole:
                say(form.head())
            yield AnswerLog(form, say, answered)


def log_kind(path: Path) -> RowKind:
    """What the suffix of a log asks for.

    Raises:
        OptionError: it isn't a kind of file that lines can be added to.
    """
    for kind in ("csv", "jsonl"):
        if path.suffix.lower() == f".{kind}":
            return kind
    raise OptionError(
        f"Expected a file that ends in .csv or .jsonl, to which `watch=True` adds lines; got {printable(str(path))!r}."
    )


def _names(kind: RowKind, text: str, head: str, path: Path) -> Iterator[str]:
    """The images that a log has answered."""
    if not text:
        return
    if not text.startswith(head):
        raise OptionError(
            f"{printable(str(path))!r} has other columns than these answers. Name another file, or ask for as many "
            "runners-up as before."
        )
    try:
        if kind == "csv":
            yield from (row[0] for row in csv.reader(io.StringIO(text[len(head) :])))
        else:
            yield from (str(json.loads(line)["image"]) for line in text.split("\n") if line)
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        raise OptionError(f"{printable(str(path))!r} isn't a log of answers: {error}. Name another file.") from error
