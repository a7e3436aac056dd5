"""How Topwork reaches objects: keys are listed, objects are read and written whole, a store's outage is waited out."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from topwork.errors import EnvironmentProblem, MissingObjectError, ObjectStoreError
from topwork.files import atomic_file, one_at_a_time, printable, storage_errors
from topwork.progress import Task

Result = TypeVar("Result")

_ADDRESS = re.compile(r"(s3|s3a|gs|az|abfs|abfss)://", re.IGNORECASE)
AT_ONCE = 32
"""Requests under way: at 30 ms each they bring a thousand small images a second, more than two cores decode."""
PATIENCE = 600.0
"""Seconds that an outage may last."""
_LONGEST_WAIT = 30.0
_PAGE = 1000
"""Keys that are taken together: what one answer of the store holds, so that an outage costs no answer before it."""
_CHUNK = 8 << 20
"""Bytes of a large object at a time."""
_METADATA = "169.254.169.254"
"""Where clients ask for credentials if the environment has none."""


@dataclass(frozen=True)
class ObjectFacts:
    """What a listing tells of an object: its key below the prefix, its size in bytes, and a mark of its content."""

    key: str
    size: int
    mark: str


class Objects(Protocol):
    """Whole objects below a place, by key, with `/` between its parts: in an object store, or in a folder."""

    @property
    def address(self) -> str:
        """The place."""

    def objects(self, below: str = "") -> Iterator[ObjectFacts]:
        """The objects whose keys begin with the folder `below`, in some order."""

    def get(self, key: str) -> bytes:
        """The bytes of an object."""

    def head(self, key: str, n: int) -> bytes:
        """Its first `n` bytes, or all that it has."""

    def put_new(self, key: str, content: bytes) -> bool:
        """Write an object, whole, unless one of this key is there; whether it was written."""

    def put(self, key: str, content: bytes) -> None:
        """Write an object, whole; one of this key that is there is replaced."""


def open_objects(address: str) -> Objects:
    """The objects below an address such as `s3://bucket/features/`, or in a local folder."""
    if is_address(address):
        return Prefix(address.rstrip("/") + "/")
    return FolderObjects(os.path.abspath(address))  # workers elsewhere may begin in another folder


def is_address(text: str) -> bool:
    """Whether a name means objects in an object store, such as `s3://bucket/photos/`."""
    return _ADDRESS.match(text) is not None


@dataclass(frozen=True)
class Prefix:
    """The objects below `address`, such as `s3://bucket/photos/`; keys are what follows it.

    Endpoint, region and credentials come from the environment variables that the store's own tools read, such as
    `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.

    Every method raises:
        ObjectStoreError: the store refuses, or was away for ten minutes.
        EnvironmentProblem: the extra `cloud` is not installed.
    """

    address: str

    def objects(self, below: str = "") -> Iterator[ObjectFacts]:
        """The objects whose keys begin with the folder `below`, as the store lists them: in order of their keys."""
        pages: Iterator[list[dict[str, Any]]] | None = None
        last: str | None = None

        def next_page() -> list[dict[str, Any]] | None:
            nonlocal pages
            if pages is None:  # after an outage: behind what has come
                pages = iter(_obstore().list(self._store(), below or None, offset=last, chunk_size=_PAGE))
            try:
                return next(pages, None)
            except Exception:
                pages = None
                raise

        while page := self._patiently(next_page):
            for found in page:
                last = found["path"]
                yield _facts(found)

    def facts(self, key: str) -> ObjectFacts:
        """What the store tells of one object."""
        found = self._patiently(lambda: _obstore().head(self._store(), key), key)
        return _facts(found)

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        return self._patiently(lambda: bytes(_obstore().get(self._store(), key).bytes()), key)

    def head(self, key: str, n: int) -> bytes:
        """Its first `n` bytes, or all that it has."""
        return self._patiently(lambda: bytes(_obstore().get_range(self._store(), key, start=0, end=n)), key)

    def fetch(self, key: str, path: Path, task: Task) -> None:
        """Write an object's bytes as a file, which appears whole or not at all; `task` counts megabytes."""

        def fetch() -> None:
            done, n_bytes = task.done, 0
            with storage_errors(path), atomic_file(path) as file:
                for chunk in _obstore().get(self._store(), key).stream(min_chunk_size=_CHUNK):
                    file.write(chunk)
                    n_bytes += len(chunk)
                    task.advance(done + n_bytes // 10**6 - task.done)

        path.parent.mkdir(parents=True, exist_ok=True)
        self._patiently(fetch, key)

    def get_each(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """The bytes of objects, in order, while 32 requests are under way; None of those that are gone."""
        keys = iter(keys)

        def get(key: str) -> bytes | None:
            try:
                return self.get(key)
            except MissingObjectError:
                return None

        running: deque[Future[bytes | None]] = deque()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                while True:
                    running.extend(pool.submit(get, key) for key in islice(keys, AT_ONCE - len(running)))
                    if not running:
                        return
                    yield running.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def put_new(self, key: str, content: bytes) -> bool:
        """Write an object, whole, unless one of this key is there; whether it was written."""
        already_there = _obstore().exceptions.AlreadyExistsError

        def put() -> bool:
            try:
                _obstore().put(self._store(), key, content, mode="create", use_multipart=False)
            except already_there:
                return False
            return True

        return self._patiently(put, key)

    def put(self, key: str, content: bytes) -> None:
        """Write an object, whole; one of this key that is there is replaced."""
        self._patiently(lambda: _obstore().put(self._store(), key, content, use_multipart=False), key)

    def _store(self) -> Any:
        return _open(self.address)

    def _patiently(self, work: Callable[[], Result], key: str = "") -> Result:
        """What `work` gives, tried again for as long as the store is away."""
        began, wait, place = time.monotonic(), 1.0, repr(printable(self.address + key))
        while True:
            try:
                return work()
            except (_obstore().exceptions.BaseError, FileNotFoundError) as error:
                text = str(error).partition("Debug source")[0].strip()
                is_last = time.monotonic() - began > PATIENCE
                if not _is_outage(text) or is_last:
                    is_gone = "status code: 404" in text and key and "NoSuchBucket" not in text
                    kind = MissingObjectError if is_gone else ObjectStoreError
                    raise kind(f"{place}: {_reason(text, is_last)}") from error
            if wait == 1.0:
                logging.getLogger("topwork").warning(
                    "%s: the object store does not answer; it is asked again for up to %d minutes.",
                    place,
                    PATIENCE // 60,
                )
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


@dataclass(frozen=True)
class FolderObjects:
    """The files in a local folder, as objects."""

    address: str

    def objects(self, below: str = "") -> Iterator[ObjectFacts]:
        for place, folders, files in os.walk(Path(self.address, below)):
            folders[:] = [name for name in folders if not name.startswith(".")]  # what is being written
            for name in files:
                path = Path(place, name)
                if not name.startswith("."):
                    yield ObjectFacts(path.relative_to(self.address).as_posix(), path.stat().st_size, "")

    def get(self, key: str) -> bytes:
        return Path(self.address, key).read_bytes()

    def head(self, key: str, n: int) -> bytes:
        with Path(self.address, key).open("rb") as file:
            return file.read(n)

    def put_new(self, key: str, content: bytes) -> bool:
        path = Path(self.address, key)
        with storage_errors(path), one_at_a_time(path):
            if path.exists():
                return False
            self.put(key, content)
            return True

    def put(self, key: str, content: bytes) -> None:
        path = Path(self.address, key)
        with storage_errors(path), atomic_file(path) as file:
            file.write(content)


def _facts(found: dict[str, Any]) -> ObjectFacts:
    return ObjectFacts(found["path"], found["size"], found["e_tag"] or str(found["last_modified"]))


def _is_outage(text: str) -> bool:
    if _METADATA in text:
        return False
    code = re.search(r"status code: (\d{3})", text)
    return int(code[1]) in (408, 429, *range(500, 600)) if code else "HTTP error" in text


def _reason(text: str, is_last: bool) -> str:
    """What is wrong, and what to do, in a sentence or two."""
    said = re.search(r"<Code>(.*?)</Code>(?:\s*<Message>(.*?)</Message>)?", text, re.DOTALL)
    answer = ": ".join(part for part in said.groups() if part).rstrip(".") if said else text[-300:].rstrip(".")
    if _METADATA in text:
        return (
            "there are no credentials for it. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (of other stores, what "
            "their own tools read); for a public bucket, AWS_SKIP_SIGNATURE=true."
        )
    if is_last:
        return f"the object store did not answer for {PATIENCE / 60:.0f} minutes ({answer}). Run again later."
    if re.search(r"status code: 40[13]", text):
        return f"the object store refuses that ({answer}). Check the credentials, and what they allow."
    if "empty path segment" in text:
        return "an object below it has an empty folder name, `//`, in its key. Rename it, or give another address."
    if "status code: 404" in text:
        what = "bucket" if "NoSuchBucket" in text else "object"
        return f"there is no such {what} ({answer}). Check the address."
    return f"the object store can't do that ({answer}). Check the address, the region and the endpoint."


def _obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
    except ImportError as error:
        raise EnvironmentProblem(
            "Object stores need the extra `cloud`: pip install 'topwork[cloud]'. Without it, copy the images here."
        ) from error
    return obstore


@cache
def _open(address: str) -> Any:
    obstore = _obstore()
    from obstore.store import from_url

    endpoint = os.environ.get("AWS_ENDPOINT_URL", "http://")
    if not endpoint.startswith(("http://", "https://")):
        raise ObjectStoreError(f"AWS_ENDPOINT_URL is {endpoint!r}. Expected it to begin with http:// or https://.")
    if "#" in address:
        raise ObjectStoreError(f"{printable(address)!r} has a #, which is not read in addresses. Rename the folder.")
    try:
        return from_url(
            address,
            client_options={"allow_http": True, "timeout": "60s"},  # where an endpoint says http, the user did
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)},  # beyond, we wait, and say so
        )
    except (obstore.exceptions.BaseError, ValueError) as error:
        text = str(error).partition("Debug source")[0].strip()
        raise ObjectStoreError(
            f"{printable(address)!r} can't be used: {text}. Expected an address such as 's3://bucket/photos/'."
        ) from error
