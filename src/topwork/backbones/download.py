"""Fetching one file over HTTP: resumed where it was cut, checked, and in place whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from topwork.errors import DownloadError, WeightsError
from topwork.files import one_at_a_time, open_regular, sha256_of_file, storage_errors
from topwork.progress import Reporter, Task

ATTEMPTS = 4
_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 30


def fetch(url: str, path: Path, checksum: str, reporter: Reporter, *, token: str | None = None) -> None:
    """Fetch `url` to `path`. A cut connection is taken up again where it broke, in this call or in the next.

    A `token` is sent to the host of `url`, and along no redirect to another.

    Raises:
        DownloadError: the server can't be reached, or doesn't have the file.
        WeightsError: the file that came has the wrong checksum.
        StorageError: it can't be written.
    """
    part = path.with_name(path.name + ".part")
    with storage_errors(path), one_at_a_time(path):
        if path.exists():  # another process fetched it while this one waited
            return
        for attempt in range(ATTEMPTS):
            try:
                _fetch_rest(url, part, reporter, token)
                break
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                status = error.code if isinstance(error, urllib.error.HTTPError) else None
                if attempt == ATTEMPTS - 1 or (status is not None and status < 500):
                    raise DownloadError(_message(url, path, error)) from error
                time.sleep(0.2 * 4**attempt)
        found = checksum_like(part, checksum)
        if checksum and found != checksum:
            part.unlink()
            raise WeightsError(
                f"What came from {url} has the checksum {found}, expected {checksum}. It was thrown away. "
                "Run again; if it stays wrong, something between here and there changes it."
            )
        os.replace(part, path)


def checksum_like(path: Path, like: str) -> str:
    """The checksum of a file's bytes in hex, of the same kind as `like`: SHA-256 if that has 64 digits, else MD5."""
    if len(like) == 64:
        return sha256_of_file(path)
    with open_regular(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def open_url(url: str, *, token: str | None = None, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """The answer to a request for `url`; a `token` goes to its host, and along no redirect to another.

    Raises:
        OSError: the server can't be reached, or refuses (then `urllib.error.HTTPError`).
    """
    request = urllib.request.Request(url, headers=headers or {})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # others follow any redirect
    opener = urllib.request.build_opener(_WithinHost)
    return opener.open(request, timeout=_TIMEOUT_SECONDS)  # type: ignore[no-any-return]


class _WithinHost(urllib.request.HTTPRedirectHandler):
    """Takes a token along where a redirect stays on the same host, over the same protocol."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.get_header("Authorization")
        if following is not None and token and _origin(newurl) == _origin(req.full_url):
            following.add_unredirected_header("Authorization", token)
        return following


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


def _fetch_rest(url: str, part: Path, reporter: Reporter, token: str | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    try:
        response = open_url(url, token=token, headers={"Range": f"bytes={have}-"} if have else {})
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing after what is here: whole, or the wrong file; the checksum tells
            return
        raise
    with response:
        if response.status != 206:  # the server sends it from the start
            have = 0
        total = have + int(response.headers.get("Content-Length") or 0)
        with (
            part.open("ab" if have else "wb") as file,
            reporter.task(f"Fetching {part.stem}", total // 1000, "kB", done=have // 1000) as task,
        ):
            _copy(response, file, task)
        if part.stat().st_size < total:
            raise ConnectionError(f"the connection was cut after {part.stat().st_size:,} of {total:,} bytes")


def _copy(response: http.client.HTTPResponse, file: object, task: Task) -> None:
    while chunk := response.read(_CHUNK):
        file.write(chunk)  # type: ignore[attr-defined]
        task.advance(len(chunk) // 1000)


def _message(url: str, path: Path, error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    code = f" (HTTP {error.code})" if isinstance(error, urllib.error.HTTPError) else ""
    return (
        f"{url} could not be fetched: {reason}{code}. Fetch it yourself and put it at {str(path)!r}, "
        "or use a backbone that needs no download (`backbone=starter`)."
    )
