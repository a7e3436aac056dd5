"""How long work tells where it is: a bar on a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from topwork.words import visible

if TYPE_CHECKING:
    from rich.console import Console

Row: TypeAlias = dict[str, float]
"""One row of a training history: column -> value; `val_loss` is always among them."""


class Reporter:
    """Hears of long work and says nothing; the others derive from it."""

    @contextlib.contextmanager
    def task(self, title: str, total: int, unit: str, *, done: int = 0) -> Iterator[Task]:
        """Watch a task of `total` units, of which `done` were finished before it began."""
        yield Task(total, done)

    def row(self, row: Row) -> None:
        """Take a row of a training history: a line of the live table."""

    def note(self, text: str) -> None:
        """Say one line of plain fact."""

    def warning(self, text: str) -> None:
        """Say one line that the user should act on."""


class Task:
    """One running task: call `advance` as units finish."""

    def __init__(self, total: int, done: int) -> None:
        self.total = total
        self.done = done

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as finished."""
        self.done += n


class QuietReporter(Reporter):
    """Says warnings alone, on standard error."""

    def warning(self, text: str) -> None:
        print(f"Warning: {visible(text)}", file=sys.stderr, flush=True)


class LineReporter(Reporter):
    """Plain lines on standard error: one now and then while a task runs, and one at its end."""

    seconds_between_lines = 10.0
    seconds_to_first_line = 2.0

    def __init__(self) -> None:
        self._best = math.inf

    @contextlib.contextmanager
    def task(self, title: str, total: int, unit: str, *, done: int = 0) -> Iterator[Task]:
        task = _LineTask(self, title, total, unit, done)
        yield task
        task.finish()

    def row(self, row: Row) -> None:
        if self._best == math.inf:
            self.note("  ".join(f"{name:>12}" for name in row))
        mark = "  *" if row["val_loss"] < self._best else ""  # the best so far
        self._best = min(self._best, row["val_loss"])
        cells = (f"{value:.1e}" if name == "l2" else _number(value) for name, value in row.items())
        self.note("  ".join(f"{cell:>12}" for cell in cells) + mark)

    def note(self, text: str) -> None:
        print(visible(text), file=sys.stderr, flush=True)

    def warning(self, text: str) -> None:
        self.note(f"Warning: {text}")


class _LineTask(Task):
    def __init__(self, reporter: LineReporter, title: str, total: int, unit: str, done: int) -> None:
        super().__init__(total, done)
        self.reporter, self.title, self.unit = reporter, title, unit
        self.first, self.began = done, time.monotonic()
        self.next_line = self.began + reporter.seconds_to_first_line

    def advance(self, n: int = 1) -> None:
        super().advance(n)
        now = time.monotonic()
        if now >= self.next_line and self.done < self.total:
            self.next_line = now + self.reporter.seconds_between_lines
            left = (self.total - self.done) / max(self._rate(now), 1e-9)
            self.reporter.note(f"{self._state(now)}, {duration(left)} left")

    def finish(self) -> None:
        now = time.monotonic()
        if now - self.began >= self.reporter.seconds_to_first_line:
            self.reporter.note(f"{self._state(now)}, took {duration(now - self.began)}")

    def _rate(self, now: float) -> float:
        return (self.done - self.first) / max(now - self.began, 1e-9)

    def _state(self, now: float) -> str:
        rate = self._rate(now)
        return f"{self.title}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.{0 if rate >= 10 else 1}f}/s"


class BarReporter(LineReporter):
    """A bar with rate and remaining time, for a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    @contextlib.contextmanager
    def task(self, title: str, total: int, unit: str, *, done: int = 0) -> Iterator[Task]:
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(elapsed_when_finished=True),
        )
        # rows on the same terminal appear above the bar; in a pipe or file they must not end up on standard error
        is_shared = sys.stdout.isatty()
        with bars.Progress(*columns, console=self.console, redirect_stdout=is_shared) as progress:
            task_id = progress.add_task(title, total=total, completed=done, rate="")
            began = time.monotonic()

            class BarTask(Task):
                def advance(self, n: int = 1) -> None:
                    super().advance(n)
                    rate = (self.done - done) / max(time.monotonic() - began, 1e-9)
                    progress.update(task_id, completed=self.done, rate=f"{rate:,.0f} {unit}/s")

            yield BarTask(total, done)

    def note(self, text: str) -> None:
        self.console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    def warning(self, text: str) -> None:
        self.console.print(f"Warning: {visible(text)}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def console_reporter() -> Reporter:
    """Bars where standard error is a terminal, plain lines where it isn't."""
    if sys.stderr is None:  # a service, or a program without a console
        return Reporter()
    if not sys.stderr.isatty():
        return LineReporter()
    from rich.console import Console

    return BarReporter(Console(stderr=True))


def _number(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """`8 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
