"""How Topwork writes and names files: whole or not at all, in one cache folder."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import IO, Any

import platformdirs
from filelock import FileLock, Timeout

from topwork.errors import OptionError, SavedFileError, SpecialFileError, StorageError, TopworkError

_STAGING = (".topwork-", ".part")
"""How the names of folders for work in progress begin and end."""
_LARGEST_JSON = 64 << 20
"""Bytes: a manifest of 100,000 classes has three million."""
_HERE, _EXCHANGE = -100, 2
"""Linux's AT_FDCWD, and RENAME_EXCHANGE of its renameat2(2)."""


def cache_dir() -> Path:
    """The folder for features, graphs and weights: `$TOPWORK_CACHE`, else the user's cache folder.

    Where that can't be written, or there is no home to have one in, a temporary folder that shows what is kept there,
    and ends with this process: nothing that Topwork does needs more. That is said once.
    """
    try:
        wanted = Path(os.environ.get("TOPWORK_CACHE") or platformdirs.user_cache_dir("topwork"))
    except RuntimeError:  # no HOME, and a user without an entry in passwd
        return _temporary_cache(None)
    return wanted if _can_be_written(wanted) else _temporary_cache(wanted)


@cache
def _can_be_written(wanted: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself; True for what is no folder: that is an error."""
    there = next(path for path in (wanted, *wanted.parents) if path.exists())
    return not there.is_dir() or os.access(there, os.W_OK | os.X_OK)


@cache
def _temporary_cache(wanted: Path | None) -> Path:
    """An empty folder, or one with links to all files of the cache that can't be written."""
    folder = Path(tempfile.mkdtemp(prefix="topwork-cache-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    reason = "There is no home folder"
    if wanted is not None:
        reason = f"{printable(str(wanted))!r} can't be written"
        for inside, _, names in os.walk(wanted):
            target = folder / Path(inside).relative_to(wanted)
            target.mkdir(exist_ok=True)
            for name in names:
                (target / name).symlink_to(Path(inside).absolute() / name)
    logging.getLogger("topwork").warning(
        "%s: what Topwork computes is kept until this process ends only. TOPWORK_CACHE names a folder to keep it in.",
        reason,
    )
    return folder


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a failed write below `path` into a `StorageError` that says what to do."""
    if re.match(r"\w{2,}:/", str(path)):  # what a Path makes of an address; it would be a folder called `s3:`
        raise StorageError(f"Can't write {printable(str(path))!r}: expected a place on this machine.")
    try:
        yield
    except TopworkError:
        raise
    except OSError as error:
        raise StorageError(f"Can't write {printable(str(path))!r}: {why_not_written(error)}") from error


def why_not_written(error: OSError) -> str:
    """Why a write failed, and what to do; it goes on a sentence."""
    kept = "what was finished before is kept."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full. Free some space (`topwork cache` shows what Topwork keeps) and run again; {kept}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write there. Choose another folder; {kept}"
    return f"{error.strerror or error}. Choose another folder; {kept}"


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file to read its bytes, if it is a regular one: a named pipe would wait for ever, a device never end.

    Raises:
        SpecialFileError: it is a pipe, a socket or a device.
        OSError: it can't be opened.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (whoever calls closes it)
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device"
        raise SpecialFileError(f"it is {kind}, not a regular file")
    return file


def read_regular(path: str | Path, *, at_most: int) -> bytes:
    """The bytes of a regular file of at most so many.

    Raises:
        SpecialFileError: it is a pipe, a socket or a device, is larger, or grew while it was being read.
        OSError: it can't be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > at_most:
            raise SpecialFileError(f"it has {size:,} bytes; {at_most:,} are allowed")
        content = file.read(size + 1)
    if len(content) > size:  # somebody writes to it; or it is one of those in /proc, which claim to be empty
        raise SpecialFileError("it grew while it was being read")
    return content


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else a named pipe is waited for


@contextlib.contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` for work in progress; it is gone when the block ends.

    Its maker holds a lock in it. Where the maker was killed, the lock is free, and the next one to work in `parent`
    deletes what is left.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=_STAGING[0], suffix=_STAGING[1]))
        lock = FileLock(folder / "lock", thread_local=False)
        with contextlib.suppress(Timeout, FileNotFoundError, FileExistsError):  # another process sweeps it away
            lock.acquire(blocking=False)
            if (folder / "lock").exists():
                return folder, lock
            lock.release()


def _sweep(parent: Path) -> None:
    """Delete the staging folders whose makers are dead."""
    for folder in parent.glob("*".join(_STAGING)):
        with contextlib.suppress(Timeout, OSError), FileLock(folder / "lock", blocking=False):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def one_at_a_time(path: Path, *, wait: bool = True) -> Iterator[None]:
    """A block that makes `path`, and that one process is in at a time; the others wait, or are refused.

    Raises:
        OptionError: another process is in the block, and this one shall not wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise OptionError(f"Another process is writing {printable(str(path))!r}. Name another file.") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # while it is held: who waits for it sees that it is gone, and makes another
            os.unlink(lock.lock_file)
        lock.release()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears at `path` whole, when the block ends well, or not at all."""
    with storage_errors(path), staging_folder(path.parent) as folder:
        with (folder / "whole").open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder / "whole", path)


@contextlib.contextmanager
def atomic_folder(path: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to fill that appears at `path` whole, when the block ends well, or not at all.

    A folder that stands at `path` by then is replaced; or else it stays: that is for names that follow from the
    content, so that both hold the same.
    """
    with storage_errors(path), staging_folder(path.parent) as folder:
        made = folder / "whole"
        made.mkdir()
        yield made
        sync_folder(made)
        while not _claim(made, path) and replace and not _exchange(made, path):
            with contextlib.suppress(FileNotFoundError):  # another process replaces it too
                os.rename(path, folder / uuid.uuid4().hex)


@contextlib.contextmanager
def new_folder(names: Iterable[Path]) -> Iterator[NewFolder]:
    """A folder to fill that gets the first of `names` that is free when the block ends well, or none at all.

    Args:
        names: all in one folder, and without end.
    """
    names = iter(names)
    first = next(names)
    with storage_errors(first), staging_folder(first.parent) as folder:
        new = NewFolder(folder / "whole")
        new.path.mkdir()
        yield new
        sync_folder(new.path)
        new.path = next(path for path in chain([first], names) if _claim(new.path, path))


@dataclass
class NewFolder:
    """Where a new folder is: while it is being filled, and then under its name."""

    path: Path


def _claim(made: Path, path: Path) -> bool:
    """Give the finished folder `made` the name `path`; False where that is taken. Of several processes, one gets it."""
    if path.exists():  # an empty folder too, which renaming would replace
        return False
    try:
        os.rename(made, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, so that being killed loses neither; False where the system can't."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write arrays as safetensors; its own writer hides what went wrong, and writes for the owner alone."""
    from safetensors.numpy import save

    path.write_bytes(save(tensors))


def read_tensors(path: Path) -> dict[str, Any]:
    """The arrays in a safetensors file, every one of them of finite numbers.

    Raises:
        SavedFileError: it can't be read as safetensors, or holds something else than numbers.
    """
    import numpy as np
    import safetensors
    from safetensors.numpy import load_file

    shown = repr(printable(str(path)))
    try:
        open_regular(path).close()
        tensors = load_file(path)
    # there are dtypes that NumPy doesn't have
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise SavedFileError(f"{shown} can't be read as safetensors: {error}. Get the file again.") from error
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise SavedFileError(f"{shown}: {printable(name)!r} holds values that are not finite. Get the file again.")
    return tensors  # type: ignore[no-any-return]


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where the file is missing or damaged."""
    try:
        value = json.loads(read_regular(path, at_most=_LARGEST_JSON))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically; what can't be encoded becomes a question mark."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8", "replace"))


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(facts: dict[str, Any]) -> str:
    """A 128-bit digest, in hex, of all that a result depends on, given as JSON-able facts."""
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def holds_something_else(path: Path, marker: str) -> bool:
    """Whether `path` must not be replaced: it is there, and is neither an empty folder nor one that holds `marker`."""
    return path.exists() and not (path / marker).is_file() and (not path.is_dir() or any(path.iterdir()))


def folder_bytes(path: Path) -> int:
    """The bytes of all files below a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def prune_copies(*, older_than_days: float = 0.0) -> int:
    """Delete what was copied from object stores, and not copied anew since so long; returns how many bytes."""
    n_bytes = 0
    for folder in (path for kind in ("classifiers", "fetched") for path in (cache_dir() / kind).glob("[!.]*")):
        if folder.is_dir() and time.time() - folder.stat().st_mtime >= 86_400 * older_than_days:
            n_bytes += folder_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return n_bytes


def printable(text: str) -> str:
    """`text` with bytes of a file name that aren't UTF-8 written as `\\xff`, so that it can be shown and stored."""
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that is no byte of a file name
        return text.encode("utf-8", "backslashreplace").decode()


def sync_folder(folder: Path) -> None:
    """Have the bytes of all files below a folder on the disk, not on their way to it."""
    for file in folder.rglob("*"):
        if file.is_file():
            sync_file(file)


def sync_file(file: Path) -> None:
    """Have a file's bytes on the disk."""
    with file.open("rb+") as opened:  # Windows does so for files only that may be written
        os.fsync(opened.fileno())
