"""The library names parameters; here they become flags of the command line."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from topwork.progress import Reporter, Row, Task
from topwork.words import counted, visible

if TYPE_CHECKING:
    from topwork.checks.check import DataCheck

_RENAMED = {"ignore-classes": "ignore-class", "dataset": "data", "waiting": "queue", "images": "max-images"}
"""Flags that are not called as their parameters are."""
_SHARE_TO_SAY = 0.1
"""Of pictures that are cut to less than half: fewer are not worth a line."""


def say(text: str, *, err: bool = False) -> None:
    """Print what people read: control characters in names of files and classes are shown, not obeyed."""
    click.echo(visible(text).encode("utf-8", "backslashreplace").decode(), err=err)


def with_flags(text: str) -> str:
    """`text` with parameters such as `` `min_images=3` `` written as a person types them: `--min-images 3`."""
    return re.sub(r"`([a-z_]+)=([^`]+)`", _flag, text)


def _flag(parameter: re.Match[str]) -> str:
    name = parameter[1].replace("_", "-")
    flag = f"--{_RENAMED.get(name, name)}"
    return flag if parameter[2] == "True" else f"{flag} {shlex.quote(parameter[2])}"


class FlagReporter(Reporter):
    """Tells another reporter what the library says, in flags."""

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner

    @contextlib.contextmanager
    def task(self, title: str, total: int, unit: str, *, done: int = 0) -> Iterator[Task]:
        with self._inner.task(title, total, unit, done=done) as task:
            yield task

    def row(self, row: Row) -> None:
        self._inner.row(row)

    def note(self, text: str) -> None:
        self._inner.note(with_flags(text))

    def warning(self, text: str) -> None:
        self._inner.warning(with_flags(text))


def say_json(value: Any) -> None:
    """Print what programs read: names as they are, in ASCII, so that nothing in them moves a terminal."""
    click.echo(json.dumps(value, indent=2), color=True)


def cut_remark(share: float) -> list[str]:
    """That of this share of the pictures much is not seen, and what would show it; nothing where that is few."""
    if share <= _SHARE_TO_SAY:
        return []
    return [
        f"Wide or tall pictures: of {100 * share:.0f} % the backbone sees less than half, the centre square; "
        "--frame squash or --frame pad shows all of them"
    ]


def frames_remark(found: DataCheck) -> list[str]:
    """How many images have several pages or frames, and what becomes of them; nothing where none has."""
    n, looked_at = found.n_several_frames, found.n_frames_looked_at
    if n == 0:
        return []
    images = (
        counted(n, "image") if looked_at + len(found.bad) == found.n else f"{n:,} of {looked_at:,} images looked at"
    )
    return [f"{images} {'has' if n == 1 else 'have'} several pages or frames; the first of each is used"]
