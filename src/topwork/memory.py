"""What this process may take of the machine: large arrays in memory or else in a file, rows uncopied; processors."""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topwork.errors import StorageError
from topwork.files import cache_dir
from topwork.types import FloatArray, IntArray

BLOCK = 1 << 20
"""Numbers to work on at a time where all at once would take another array as large."""

_SHARE = 0.8
"""Of the memory that is free, what one array may take."""
_ALIGNMENT = 64
"""Bytes: JAX uses an array that begins at a multiple of it where it lies, and copies others."""
_PROCESS_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, eq=False)
class Stacked:
    """Arrays one below another, as if they were one `(M, D)`, and not copied into one.

    Attributes:
        parts: each `(m, D)` float32.
    """

    parts: Sequence[FloatArray]

    @property
    def shape(self) -> tuple[int, int]:
        """`(M, D)`."""
        return sum(map(len, self.parts)), self.parts[0].shape[1]

    def __getitem__(self, rows: IntArray) -> FloatArray:
        result = np.empty((len(rows), self.shape[1]), np.float32)
        start = 0
        for part in self.parts:
            inside = (rows >= start) & (rows < start + len(part))
            result[inside] = part[rows[inside] - start]
            start += len(part)
        return result


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array, copied only when they are asked for, and only those.

    Attributes:
        values: `(M, D)`.
        rows: `(N,)`, which of them.
    """

    values: FloatArray | Stacked
    rows: IntArray

    @property
    def shape(self) -> tuple[int, int]:
        """`(N, D)`."""
        return len(self.rows), self.values.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | IntArray) -> FloatArray:
        return self.values[self.rows[which]]

    def first_columns(self, n: int) -> Rows:
        """The same rows of the first `n` columns."""
        if isinstance(self.values, Stacked):
            return Rows(Stacked([part[:, :n] for part in self.values.parts]), self.rows)
        return Rows(self.values[:, :n], self.rows)


def select(X: FloatArray | Rows, which: IntArray) -> Rows:
    """Some rows of X, not copied yet."""
    return Rows(X.values, X.rows[which]) if isinstance(X, Rows) else Rows(X, which)


def blocks(X: FloatArray | Rows, numbers: int = BLOCK) -> Iterator[slice]:
    """Slices that together are all rows of X, each of about so many numbers."""
    step = max(1, numbers // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


def new_array(shape: tuple[int, int], *, copies: int = 1, dtype: str = "<f4") -> FloatArray:
    """An array with nothing in it yet: in memory if `copies` of it fit, else in a file of the cache folder.

    The file has no name, so that nothing is left of it when the array goes, or the process, in whatever way.

    Raises:
        StorageError: there is no room for it on the disk either.
    """
    n_bytes = np.dtype(dtype).itemsize * math.prod(shape)
    if fits(copies * n_bytes):
        raw = np.empty(n_bytes + _ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        return raw[start : start + n_bytes].view(dtype).reshape(shape)
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_dir()) as file:
            if hasattr(os, "posix_fallocate"):  # all of it now: at a later write, a full disk would kill the process
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.asarray(np.memmap(file, dtype, "w+", shape=shape))
    except OSError as error:
        free, folder = gigabytes(available_memory()), str(cache_dir())
        raise StorageError(
            f"{shape[0]:,} × {shape[1]:,} features take {gigabytes(n_bytes)}. {free} of memory are free, and "
            f"{folder!r} can't take them as a file: {error.strerror or error}. Use fewer images, or a backbone with "
            "fewer features, or set TOPWORK_CACHE to a folder with more room."
        ) from error


def fits(n_bytes: int) -> bool:
    """Whether memory has room for so much, and some to spare."""
    return n_bytes <= _SHARE * available_memory()


def available_memory() -> int:
    """Bytes that can be taken before the system swaps or kills: on this machine, or in its container."""
    return max(0, min([_free_on_machine(), *_free_in_groups()]))


def gigabytes(n_bytes: int) -> str:
    """`12.3 GB`."""
    return f"{n_bytes / 1e9:,.1f} GB"


def _free_on_machine() -> int:
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return 1024 * int(found[1])
    if hasattr(os, "sysconf"):  # macOS tells what there is, not what is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return sys.maxsize


def available_processors() -> int:
    """How many processors this process may use: those that it may run on, within the limits of its control groups."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([n, *(limit for group in _groups("cpu") for limit in _processors_of(group))]))


def _groups(controller: str) -> Iterator[Path]:
    """The control groups that limit this process (Linux; versions 1 and 2): its own, and those around it."""
    try:
        lines = _PROCESS_GROUPS.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            root = _GROUPS / controllers
            folder = root / path.lstrip("/")
            # seen from within a container, only the outermost may be there
            yield from (group for group in (folder, *folder.parents) if group.is_relative_to(root))


def _processors_of(group: Path) -> Iterator[int]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text("utf-8") for name in names).split()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            yield math.ceil(int(quota) / int(period))


def _free_in_groups() -> Iterator[int]:
    """What the limits of each control group leave."""
    for group in _groups("memory"):
        yield from _free_in_group(group)


def _free_in_group(group: Path) -> Iterator[int]:
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            most = (group / limit).read_text("utf-8").strip()
            taken = int((group / used).read_text("utf-8"))
            text = (group / "memory.stat").read_text("utf-8")
        except (OSError, ValueError):
            continue
        if most != "max":
            facts = dict(line.split() for line in text.splitlines())
            files = [facts.get(f"total_{name}", facts.get(name, 0)) for name in ("active_file", "inactive_file")]
            yield int(most) - taken + sum(map(int, files))  # what is kept of files goes when its room is needed
