"""What a zip or a tar holds: which members, and their bytes, read where they lie; nothing is unpacked.

Nothing is ever written under a member's name, so no name can harm a disk. Names that lead out of the archive, links and
devices are left out all the same, and counted. What expands to more than a hundred times its size is refused.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TypeAlias

from topwork.data.decoding import MAX_BYTES, StoredImage
from topwork.data.walking import Folder
from topwork.errors import DataError, SpecialFileError
from topwork.files import open_regular, printable
from topwork.words import counted

_COMPRESSED = (".tar.gz", ".tgz")
SUFFIXES = (".zip", ".tar", *_COMPRESSED)
NOTES = frozenset({".cls", ".json", ".txt"})
"""Suffixes of files that may hold the label of the image beside them; they are read with the names."""
_LARGEST_NOTE, _LARGEST_HEADER = 64 << 10, 1 << 20
_MOST_TIMES, _ALWAYS_FINE = 100, 64 << 20
"""How many times larger than in the archive a member, or a whole tar, may become; encoded images hardly shrink."""
_LONGEST_NAME, _MOST_FOLDERS = 4096, 64
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, ValueError, RuntimeError, OverflowError, MemoryError),  # NotImplementedError is a RuntimeError
)
"""What the libraries raise on bytes that are no archive."""
Place: TypeAlias = tuple[int, int]
"""Of a member's bytes: where they are (in a tar, from its first byte; in a zip, the number of its entry); how many."""
State: TypeAlias = tuple[int, int]
"""Of a file: its bytes, and when it was written."""


def is_archive(path: str) -> bool:
    """Whether a file of this name is a zip or a tar."""
    return path.lower().endswith(SUFFIXES)


def stem_of(path: Path) -> str:
    """The name of a file without its suffix: `photos` of `photos.tar.gz`."""
    suffix = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default=path.suffix)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def open_archive(path: Path) -> Archive:
    """Read which members an archive has.

    Raises:
        DataError: it isn't there, is no archive, is damaged or encrypted, or expands to an insane size.
    """
    if not path.exists():
        raise DataError(f"There is no file {printable(str(path))!r}.")
    try:
        open_regular(path).close()
        return _open_zip(path) if path.name.lower().endswith(".zip") else _open_tar(path)
    except DataError:
        raise
    except _DAMAGE as error:
        kind = "zip" if path.name.lower().endswith(".zip") else "tar"
        raise DataError(
            f"{printable(str(path))!r} can't be read as a {kind}: {_reason(error)}. Get the file again."
        ) from error


@dataclass(frozen=True, eq=False)
class Archive(ABC):
    """A zip or a tar.

    Attributes:
        path: the file.
        members: where each regular file in it is, by its name with `/` between folders, in the archive's order.
        notes: the bytes of the members that may say labels, by name.
        remarks: what there is to say of what was left out, one sentence each.
    """

    path: Path
    members: dict[str, Place]
    notes: dict[str, bytes]
    remarks: tuple[str, ...]

    @property
    def root(self) -> Folder:
        """The archive as a folder."""
        return Folder(self.path, self.walk)

    def walk(self, folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """As `os.walk`, from a folder whose path begins with that of the archive."""
        waiting = [folder]
        while waiting:
            place = waiting.pop()
            if place in self._folders:
                folders, files = map(list, self._folders[place])
                yield place, folders, files
                waiting += [os.path.join(place, name) for name in reversed(folders)]

    def in_order(self, paths: Sequence[str]) -> list[int]:
        """The order to read these paths in, as indices: as they come, or as they lie in what has no other way."""
        return list(range(len(paths)))

    @abstractmethod
    def read(self, paths: Iterable[str]) -> Iterator[StoredImage]:
        """The images at paths, which begin with that of the archive and come `in_order`."""

    def _place(self, path: str) -> Place:
        return self.members[path[len(str(self.path)) + 1 :].replace(os.sep, "/")]

    @cached_property
    def _folders(self) -> dict[str, tuple[list[str], list[str]]]:
        """The names of the folders and of the files in each folder, by its path."""
        root = str(self.path)
        found: dict[str, tuple[list[str], list[str]]] = {root: ([], [])}
        for name in self.members:
            place = root
            *above, last = name.split("/")
            for folder in above:
                inner = os.path.join(place, folder)
                if inner not in found:
                    found[place][0].append(folder)
                    found[inner] = ([], [])
                place = inner
            found[place][1].append(last)
        return found


@dataclass(frozen=True, eq=False)
class _Zip(Archive):
    state: State
    opened: zipfile.ZipFile
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, paths: Iterable[str]) -> Iterator[StoredImage]:
        for path in paths:
            yield _ZipImage(self, self._place(path)[0])


@dataclass(frozen=True, eq=False)
class _ZipImage(StoredImage):
    archive: _Zip
    entry: int

    def read(self) -> bytes:
        info = self.archive.opened.infolist()[self.entry]
        _require_sane(info.file_size, info.compress_size)
        with self.archive.lock, _opened_again(self.archive.path, self.archive.state) as file:
            self.archive.opened.fp = file  # lest it hold a file open that nobody closes
            try:
                with self.archive.opened.open(info) as member:
                    return member.read()
            except _DAMAGE as error:
                raise SpecialFileError(f"damaged in its archive: {_reason(error)}") from error


@dataclass(frozen=True, eq=False)
class _Tar(Archive):
    state: State

    def read(self, paths: Iterable[str]) -> Iterator[StoredImage]:
        for path in paths:
            yield _TarImage(self, self._place(path))


@dataclass(frozen=True, eq=False)
class _TarImage(StoredImage):
    archive: _Tar
    place: Place

    def read(self) -> bytes:
        offset, size = self.place
        _require_sane(size, size)
        with _opened_again(self.archive.path, self.archive.state) as file:
            file.seek(offset)
            return file.read(size)


@dataclass(frozen=True, eq=False)
class _CompressedTar(_Tar):
    """A tar of which a byte can be had only after all those before it: its members come in their own order."""

    def in_order(self, paths: Sequence[str]) -> list[int]:
        return sorted(range(len(paths)), key=lambda i: self._place(paths[i]))

    def read(self, paths: Iterable[str]) -> Iterator[StoredImage]:
        try:
            with open_regular(self.path) as file, gzip.GzipFile(fileobj=file) as stream:
                if _state(file) != self.state:
                    raise DataError(f"{printable(str(self.path))!r} changed while it was being read. Run again.")
                for offset, size in map(self._place, paths):
                    if size > MAX_BYTES:
                        yield _Bytes(b"", size)
                        continue
                    stream.seek(offset)
                    yield _Bytes(stream.read(size), size)
        except _DAMAGE as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{printable(str(self.path))!r} is damaged: {_reason(error)}. Get the file again; what was finished is "
                "kept."
            ) from error


@dataclass(frozen=True, eq=False)
class _Bytes(StoredImage):
    content: bytes
    size: int

    @property
    def held(self) -> int:
        return len(self.content)

    def read(self) -> bytes:
        _require_sane(self.size, self.size)
        return self.content


def _require_sane(size: int, packed: int) -> None:
    if size > MAX_BYTES:
        raise SpecialFileError(f"it has {size:,} bytes; {MAX_BYTES:,} are allowed")
    if size > _MOST_TIMES * packed + _ALWAYS_FINE:
        raise SpecialFileError(f"{packed:,} bytes of it would become {size:,}; refused as a decompression bomb")


def _open_zip(path: Path) -> Archive:
    found, n_encrypted = _Found(), 0
    with open_regular(path) as file:
        state, opened = _state(file), zipfile.ZipFile(file)
        for i, info in enumerate(opened.infolist()):
            if info.is_dir():
                continue
            n_encrypted += info.flag_bits & 1
            is_regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
            name = found.add(_name_in_zip(info), (i, info.file_size), is_regular=is_regular, is_zip=True)
            if name is not None and _may_be_note(name, info.file_size) and not n_encrypted:
                found.notes[name] = opened.read(info)
    if n_encrypted:
        raise DataError(
            f"{printable(str(path))!r} is encrypted: {n_encrypted:,} of {counted(len(opened.infolist()), 'member')} "
            "need a password. Unpack it, and give the folder."
        )
    return _Zip(path, found.members, found.notes, tuple(found.remarks()), state, opened)


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Its name; of UTF-8 that doesn't say so, as macOS writes it, Python makes code page 437."""
    try:
        return info.filename if info.flag_bits & 0x800 else info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _open_tar(path: Path) -> Archive:
    found = _Found()
    is_compressed = path.name.lower().endswith(_COMPRESSED)
    with open_regular(path) as file:
        state = _state(file)
        stream: IO[bytes] = gzip.GzipFile(fileobj=file) if is_compressed else file  # type: ignore[assignment]
        bounded = _Bounded(stream, _MOST_TIMES * state[0] + _ALWAYS_FINE)
        tar = tarfile.open(fileobj=bounded, mode="r:")  # type: ignore[call-overload]  # noqa: SIM115
        while (info := tar.next()) is not None:
            tar.members = []  # else it keeps a kilobyte for each
            if info.isdir():
                continue
            place = (info.offset_data, info.size)
            name = found.add(info.name, place, is_regular=info.isreg() and not info.issparse(), is_zip=False)
            if name is not None and _may_be_note(name, info.size):
                stream.seek(info.offset_data)
                found.notes[name] = stream.read(info.size)
        stream.seek(tar.offset)
        end = stream.read(tarfile.BLOCKSIZE)
    if any(end):
        raise tarfile.ReadError(f"what follows the first {counted(len(found.members), 'file')} is no header of a file")
    remarks = [*found.remarks(), *(() if end else ("its end mark is missing: it may have been cut short.",))]
    kind = _CompressedTar if is_compressed else _Tar
    return kind(path, found.members, found.notes, tuple(remarks), state)


class _Bounded:
    """A stream of a tar that doesn't become endless, and of which no header takes much memory."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most = stream, most
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        if place > self._most:
            raise tarfile.ReadError(f"it would become more than {self._most:,} bytes; refused as a decompression bomb")
        return self._stream.seek(place)


@dataclass
class _Found:
    """The members of an archive as they turn up."""

    members: dict[str, Place] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, place: Place, *, is_regular: bool, is_zip: bool) -> str | None:
        """The name under which it is a member; None where it's left out."""
        inner = _inner_name(name.replace("\\", "/") if is_zip else name)  # some programs for Windows write those
        if not is_regular or inner is None:
            self._count("names that lead out of the archive" if is_regular else "links, devices or the like", name)
            return None
        if inner in self.members:
            self._count("members with the name of a later one", name)
        self.members[inner] = place
        return inner

    def _count(self, why: str, name: str) -> None:
        self.left_out[why] += 1
        self.examples.setdefault(why, printable(name[:200]))

    def remarks(self) -> Iterator[str]:
        for why, n in self.left_out.items():
            yield f"{why}: {counted(n, 'member')} left out (such as {self.examples[why]!r})."


def _inner_name(name: str) -> str | None:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    leads_out = name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts or "\0" in name
    is_odd = not parts or len(name) > _LONGEST_NAME or len(parts) > _MOST_FOLDERS
    return None if leads_out or is_odd else "/".join(parts)


def _may_be_note(name: str, size: int) -> bool:
    return size <= _LARGEST_NOTE and os.path.splitext(name)[1].lower() in NOTES


@contextlib.contextmanager
def _opened_again(path: Path, state: State) -> Iterator[IO[bytes]]:
    with open_regular(path) as file:
        if _state(file) != state:
            raise SpecialFileError("its archive changed while it was being read")
        yield file


def _state(file: IO[bytes]) -> State:
    """What tells whether a file is still the same."""
    state = os.fstat(file.fileno())
    return state.st_size, state.st_mtime_ns


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0].rstrip(".")
