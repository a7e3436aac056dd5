"""The feature store: features on disk, found by the image's content and all that else they depend on.

One folder for each way of making features (backbone, weights, preprocessing, size, pooling, view, precision,
decoding), named by the fingerprint of these facts. In it lie shards: files of two arrays in NumPy's format, first the
images' digests, then their vectors, so that opening a store reads the digests alone. Each is written whole or not at
all and never changed. So several runs may write at once, and a killed one keeps its finished shards. A shard's name
ends in the checksum of its bytes, and they are checked before they are used.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from topwork.errors import ShapeError, StorageError
from topwork.files import atomic_file, cache_dir, fingerprint, folder_bytes, open_regular, read_json, write_json
from topwork.kept import checksum, checksum_of_file, set_aside
from topwork.memory import new_array
from topwork.types import DigestArray, FloatArray, IntArray

_SHARD_BYTES = 64 << 20
_CHECKSUM_DIGITS = 32
_FACTS = "facts.json"
_SUFFIX = ".features"
"""Not `.npy`, as before digests had a part of their own: an older Topwork would take these for damaged."""


class KeptFeatures:
    """The features that one way of making them has given, by image digest; `dtype` is that of their numbers."""

    def __init__(self, folder: Path, n_features: int, dtype: str = "<f4") -> None:
        self.folder = folder
        self.n_features = n_features
        self.dtype = dtype
        paths = sorted([*folder.glob("*.npy"), *folder.glob(f"*{_SUFFIX}")])
        self._shards = [shard for path in paths if (shard := self._shard(path)) is not None]
        self._checked: set[Path] = set()
        self._index()

    @property
    def n_images(self) -> int:
        """How many images it knows."""
        return len(self._sorted)

    def find(self, digests: DigestArray) -> IntArray:
        """Where the features of these images lie: `(N,)`, -1 where there are none.

        The shards that they lie in are checked, once. Damaged ones are set aside: their images have no features then.
        """
        places = self._find(digests)
        while damaged := [shard for shard in self._shards_of(places) if not self._is_whole(shard)]:
            self._shards = [shard for shard in self._shards if shard not in damaged]
            self._index()
            places = self._find(digests)
        return places

    def _find(self, digests: DigestArray) -> IntArray:
        if not len(self._sorted):
            return np.full(len(digests), -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._sorted, digests), len(self._sorted) - 1)
        return np.where(self._sorted[places] == digests, self._order[places], -1)

    def _shards_of(self, places: IntArray) -> list[_Shard]:
        """The shards that these places lie in."""
        ends = np.cumsum([len(shard.digests) for shard in self._shards])
        used = np.bincount(np.searchsorted(ends, places[places >= 0], side="right"), minlength=len(ends))
        return [shard for shard, n in zip(self._shards, used, strict=True) if n]

    def _is_whole(self, shard: _Shard) -> bool:
        """Whether a shard's bytes are those that were written, and its features numbers."""
        expected = shard.path.stem.rpartition("-")[2]
        if shard.path in self._checked:
            return True
        try:
            if len(expected) == _CHECKSUM_DIGITS:
                is_whole = checksum_of_file(shard.path) == expected
            else:  # written before shards had checksums
                is_whole = bool(np.isfinite(self._values(shard)).all())
        except FileNotFoundError:  # deleted meanwhile
            return False
        except OSError as error:
            raise StorageError(
                f"Can't read the features kept in {str(shard.path)!r}: {error.strerror or error}. If that stays so, "
                "delete the file: its images are extracted again."
            ) from error
        if is_whole:
            self._checked.add(shard.path)
        else:
            set_aside(shard.path)
        return is_whole

    def read(self, places: IntArray, dtype: str | None = None) -> FloatArray:
        """The features at `places`, as from `find` and none of them -1: `(N, D)`, in another `dtype` if one is given.

        They lie in memory if they fit there twice, so that there is room for the top's copy; else in a file.

        Raises:
            StorageError: they were deleted after these were found, or have no room in memory or on the disk.
        """
        result = new_array((len(places), self.n_features), copies=2, dtype=dtype or self.dtype)
        start = 0
        for shard in self._shards:
            inside = np.flatnonzero((places >= start) & (places < start + len(shard.digests)))
            if len(inside):
                values = np.asarray(self._values(shard))
                result[_as_slice(inside)] = values[_as_slice(places[inside] - start)]
            start += len(shard.digests)
        return result

    def writer(self) -> FeatureWriter:
        """A writer for features that are missing; use it as a context manager."""
        return FeatureWriter(self)

    def add(self, digests: DigestArray, values: FloatArray) -> None:
        """Keep the features `values` `(n, D)` of images `digests` `(n,)`, as one shard."""
        if values.shape != (len(digests), self.n_features):
            raise ShapeError(f"Expected features of shape {(len(digests), self.n_features)}, got {values.shape}.")
        digests, values = np.ascontiguousarray(digests, "S16"), np.ascontiguousarray(values, self.dtype)
        parts = (_npy_head(digests), digests.view(np.uint8).data, _npy_head(values), values.data)
        path = self.folder / f"{time.time_ns():020d}-{checksum(*parts)}{_SUFFIX}"
        with atomic_file(path) as file:
            file.writelines(parts)
        self._checked.add(path)
        self._shards.append(_Shard(path, digests.copy(), sum(map(len, parts[:3]))))

    def refresh(self) -> None:
        """Let `find` see what `add` has brought."""
        self._index()

    def _shard(self, path: Path) -> _Shard | None:
        try:
            with open_regular(path) as file:
                return self._read_shard(path, file)
        except (ValueError, EOFError):  # damaged: its images are extracted again
            set_aside(path)
        except OSError:
            pass
        return None

    def _read_shard(self, path: Path, file: BinaryIO) -> _Shard:
        shape, dtype = _read_npy_head(file)
        if dtype == self._record:  # written before digests had a part of their own
            offset = file.tell()
            records = np.memmap(file, dtype, "r", offset, shape)
            return _Shard(path, records["digest"].copy(), offset, has_records=True)
        if dtype != np.dtype("S16"):
            raise ValueError(f"it holds {dtype}")
        digests = np.frombuffer(file.read(16 * shape[0]), dtype)
        if _read_npy_head(file) != ((shape[0], self.n_features), np.dtype(self.dtype)) or len(digests) != shape[0]:
            raise ValueError("its parts do not belong together")
        return _Shard(path, digests, file.tell())

    def _values(self, shard: _Shard) -> FloatArray:
        """A shard's vectors, mapped while they are being read: what stays mapped counts as this process's memory."""
        n = len(shard.digests)
        try:
            with open_regular(shard.path) as file:
                if shard.has_records:
                    return np.memmap(file, self._record, "r", shard.offset, n)["values"]
                return np.memmap(file, self.dtype, "r", shard.offset, (n, self.n_features))
        except (OSError, ValueError) as error:
            raise StorageError(
                f"Can't read the features kept in {str(shard.path)!r}: {error}. If they were deleted meanwhile, run "
                "again."
            ) from error

    @property
    def _record(self) -> np.dtype[np.void]:
        return np.dtype([("digest", "S16"), ("values", self.dtype, (self.n_features,))])

    def _index(self) -> None:
        digests = [shard.digests for shard in self._shards]
        together = np.concatenate(digests) if digests else np.empty(0, dtype="S16")
        self._order = np.argsort(together, kind="stable")
        self._sorted = together[self._order]


@dataclass(frozen=True, eq=False)
class _Shard:
    """A file, the images whose features are in it, and where these begin; or else records of both do."""

    path: Path
    digests: DigestArray
    offset: int
    has_records: bool = False


def _npy_head(values: NDArray[Any]) -> bytes:
    """What stands before an array in NumPy's format."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(values))
    return head.getvalue()


def _read_npy_head(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype of the array in NumPy's format whose head comes next in a file.

    Raises:
        ValueError: there is none.
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it is not written as NumPy's format 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _as_slice(places: IntArray) -> IntArray | slice:
    """The same places as a slice where they are a run, as mostly they are: that saves a copy."""
    if len(places) and places[-1] - places[0] == len(places) - 1 and np.all(np.diff(places) == 1):
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


class FeatureWriter:
    """Collects features and writes them as shards, often enough that a killed run loses little."""

    def __init__(self, kept: KeptFeatures) -> None:
        self._kept = kept
        self._digests: list[DigestArray] = []
        self._values: list[FloatArray] = []
        self._n_bytes = 0
        self._began = self._last = time.monotonic()

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()  # whatever ended the block, what was computed is kept
        self._kept.refresh()

    def add(self, digests: DigestArray, values: FloatArray) -> None:
        """Take features `values` `(n, D)` of images `digests` `(n,)`."""
        self._digests.append(digests)
        self._values.append(values)
        self._n_bytes += values.nbytes
        now = time.monotonic()
        # at most a twentieth of the work so far, or two minutes of it, is ever at stake
        patience = min(120.0, max(10.0, (now - self._began) / 20))
        if now - self._last > patience or self._n_bytes > _SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        if self._digests:
            self._kept.add(np.concatenate(self._digests), np.concatenate(self._values))
        self._digests, self._values, self._n_bytes, self._last = [], [], 0, time.monotonic()


@dataclass(frozen=True)
class KeptSummary:
    """What `topwork cache` says of one way of making features."""

    folder: Path
    facts: dict[str, Any]
    n_images: int
    n_bytes: int
    last_used: float


def open_kept(facts: dict[str, Any]) -> KeptFeatures | None:
    """The kept features that depend on `facts`; None where there are no such features yet."""
    folder = store_dir() / fingerprint(facts)
    known = _read_facts(folder)
    if known is None:
        return None
    with contextlib.suppress(OSError):  # on a disk that can't be written; `prune` goes by the last use
        os.utime(folder)
    return KeptFeatures(folder, known["n_features"], known.get("dtype", "<f4"))


def new_kept(facts: dict[str, Any], n_features: int) -> KeptFeatures:
    """Room for features of width `n_features` that depend on `facts`, none kept yet."""
    folder = store_dir() / fingerprint(facts)
    known = {"n_features": n_features, **facts}
    write_json(folder / _FACTS, {**known, "checksum": fingerprint(known)})
    return KeptFeatures(folder, n_features, known.get("dtype", "<f4"))


def _read_facts(folder: Path) -> dict[str, Any] | None:
    """What the features in a folder depend on, and their width; None where that can't be read, or was damaged."""
    known = read_json(folder / _FACTS)
    if known is None or known.pop("checksum", fingerprint(known)) != fingerprint(known):
        return None
    n_features = known.get("n_features")
    return known if isinstance(n_features, int) and n_features > 0 and "backbone" in known else None


def store_dir() -> Path:
    """The folder of the feature store."""
    return cache_dir() / "features"


def summaries() -> list[KeptSummary]:
    """All kinds of features in the store, the last used first."""
    folders = [(path.parent, _read_facts(path.parent)) for path in store_dir().glob(f"*/{_FACTS}")]
    found = [_summary(folder, facts) for folder, facts in folders if facts is not None]
    return sorted(found, key=lambda summary: -summary.last_used)


def prune(*, backbone: str | None = None, older_than_days: float = 0.0) -> list[KeptSummary]:
    """Delete features, all or those of one backbone, that were last used longer ago; returns what was deleted."""
    limit = time.time() - older_than_days * 86_400
    chosen = [s for s in summaries() if backbone in (None, s.facts["backbone"]) and s.last_used <= limit]
    for summary in chosen:
        shutil.rmtree(summary.folder)
    return chosen


def _summary(folder: Path, facts: dict[str, Any]) -> KeptSummary:
    last_used = folder.stat().st_mtime
    n_images = KeptFeatures(folder, facts["n_features"], facts.get("dtype", "<f4")).n_images
    return KeptSummary(folder, facts, n_images, folder_bytes(folder), last_used)
