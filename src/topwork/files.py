"""How Topwork writes and names files: whole or not at all, in one cache folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import platformdirs

from topwork.errors import StorageError, TopworkError


def cache_dir() -> Path:
    """The folder for features, graphs and weights: `$TOPWORK_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("TOPWORK_CACHE") or platformdirs.user_cache_dir("topwork"))


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a failed write below `path` into a `StorageError` that says what to do."""
    try:
        yield
    except TopworkError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full. Free some space (`topwork cache` shows what Topwork keeps) and run again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "no permission to write there. Choose another folder"
        else:
            reason = f"{error.strerror or error}. Choose another folder"
        raise StorageError(f"Can't write {str(path)!r}: {reason}; what was finished before is kept.") from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears at `path` whole, when the block ends well, or not at all."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


@contextlib.contextmanager
def atomic_folder(path: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to fill that appears at `path` whole, when the block ends well, or not at all.

    A folder that stands at `path` by then is replaced, or else left as it is, and this one is thrown away.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield staging
            os.chmod(staging, 0o777 & ~_umask())
            for file in staging.rglob("*"):
                if file.is_file():
                    os.chmod(file, 0o666 & ~_umask())  # safetensors writes for the owner alone
                sync_file(file)
            if path.exists() and not replace:
                shutil.rmtree(staging)
            elif path.exists():
                old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
                os.replace(path, old / path.name)
                os.replace(staging, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(staging, path)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where the file is missing or damaged."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
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
    with path.open("rb") as file:
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


def printable(text: str) -> str:
    """`text` with bytes of a file name that aren't UTF-8 written as `\\xff`, so that it can be shown and stored."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def sync_file(file: Path) -> None:
    """Have a file's bytes on the disk, not on their way to it."""
    if file.is_file():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
