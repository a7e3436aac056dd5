"""Many clients that stop in the midst of a request, and whether others are still answered.

    python benchmarks/faults/stalls.py RUN [--connections 1000] [--seconds 15]

Starts `topwork serve RUN` with a token and opens so many connections. Each stops at one of the points in `STALLS`, some
go on with a drop now and then, and each that the service closes is opened anew. Meanwhile another client asks for
/health again and again, by a new connection each time. At the end nothing is opened any more, and the time is taken
until the service has closed all connections.

Expected: every /health is answered 200; no errors; all connections are closed within the times of `docs/serve.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = "s3cret"
LONGEST_WAIT = 60.0
"""Seconds after which connections that are still open count as kept for ever."""


def request(line: bytes, *headers: bytes, token: str = TOKEN) -> bytes:
    shown = [b"Authorization: Bearer " + token.encode()] if token else []
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: localhost", *shown, *headers, b"", b""])


POST, PNG, LENGTH = b"POST /predict", b"Content-Type: image/png", b"Content-Length: 100"
CHUNKED = request(POST, PNG, b"Transfer-Encoding: chunked")
STALLS: dict[str, tuple[bytes, bytes]] = {
    "before the head": (b"", b""),
    "before the head, with blank lines": (b"\r\n", b"\r\n"),
    "in the first line": (b"POST /pre", b""),
    "in a header": (b"GET /health HTTP/1.1\r\nHost: loc", b""),
    "in a header, with drops": (b"GET /health HTTP/1.1\r\nHost: loc", b"a"),
    "after the head": (request(POST, PNG, LENGTH), b""),
    "in the body": (request(POST, PNG, LENGTH) + b"half", b""),
    "in the body, with drops": (request(POST, PNG, b"Content-Length: 100000"), b"a"),
    "at the end of a large body": (request(POST, PNG, b"Content-Length: 200001") + bytes(200_000), b""),
    "in a form": (request(POST, b"Content-Type: multipart/form-data; boundary=x", LENGTH) + b"--x\r\n", b""),
    "in a chunk": (CHUNKED + b"5\r\nab", b""),
    "in the trailers, with drops": (CHUNKED + b"2\r\nab\r\n0\r\n", b"X: y\r\n"),
    "after 401": (request(POST, PNG, LENGTH, token="") + b"x", b""),
    "after 401, with drops": (request(POST, PNG, b"Content-Length: 100000", token=""), b"a"),
    "after 405": (request(b"POST /health", LENGTH) + b"x", b""),
    "after 413": (request(POST, PNG, b"Content-Length: 100000000") + b"x", b""),
    "after 415": (request(POST, b"Content-Type: text/plain", LENGTH) + b"x", b""),
    "after 422": (request(POST + b"?runners_up=x", PNG, LENGTH) + b"x", b""),
    "after an answer": (request(b"GET /health"), b""),
    "after an answer, with blank lines": (request(b"GET /health"), b"\r\n"),
    "in the second request": (request(b"GET /health") + request(POST, PNG, LENGTH) + b"x", b""),
    "without reading": (request(b"GET /" + 50_000 * b"a"), request(b"GET /" + 50_000 * b"a")),
}
"""What is sent at once, and what is sent again and again."""


@dataclass
class Watch:
    """What another client sees of /health."""

    n_ok: int = 0
    n_503: int = 0
    errors: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    longest_503_seconds: float = 0.0
    """From the first 503 to the next answer 200."""

    def until(self, done: threading.Event, address: tuple[str, int]) -> None:
        refused_since = None
        while not done.wait(0.01):
            began = time.perf_counter()
            answer = ask(address)
            ended = time.perf_counter()
            self.slowest_seconds = max(self.slowest_seconds, ended - began)
            if answer.startswith("HTTP/1.1 200"):
                self.n_ok += 1
                refused_since = None
            elif answer.startswith("HTTP/1.1 503"):
                self.n_503 += 1
                refused_since = refused_since or began
                self.longest_503_seconds = max(self.longest_503_seconds, ended - refused_since)
            else:
                self.errors.append(answer[:80])


def ask(address: tuple[str, int]) -> str:
    """The answer to /health on a new connection, or why there is none."""
    try:
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(request(b"GET /health", b"Connection: close", token=""))
            return connection.recv(4096).decode() or "closed without an answer"
    except OSError as error:
        return repr(error)


class Stalling:
    """Connections that stall, held open as long as the service lets them."""

    def __init__(self, address: tuple[str, int], n: int) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._points = [list(STALLS.items())[i % len(STALLS)] for i in range(n)]
        self._open: dict[int, socket.socket] = {}
        self.n_opened = 0

    def fill(self) -> None:
        """Opens those that are not open."""
        for i in set(range(len(self._points))) - set(self._open):
            name, (first, _) = self._points[i]
            connection = socket.socket()
            if name == "without reading":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(10)
            with contextlib.suppress(ConnectionError):  # others had taken its place before it was through
                connection.connect(self._address)
                connection.sendall(first)
            connection.setblocking(False)
            self._open[i] = connection
            self._selector.register(connection, selectors.EVENT_READ, i)
            self.n_opened += 1

    def step(self) -> int:
        """Sends the drops, reads, and closes what the service has ended; the number that are open still."""
        for key, _ in self._selector.select(0):
            name, _ = self._points[key.data]
            if name != "without reading" and not self._read(self._open[key.data]):
                self._close(key.data)
        for i, connection in list(self._open.items()):
            try:
                if drop := self._points[i][1][1]:
                    connection.send(drop)
            except BlockingIOError:
                pass
            except ConnectionError:
                self._close(i)
        return len(self._open)

    def _read(self, connection: socket.socket) -> bytes:
        with contextlib.suppress(ConnectionError):
            return connection.recv(65_536)
        return b""

    def _close(self, i: int) -> None:
        connection = self._open.pop(i)
        self._selector.unregister(connection)
        connection.close()


def main(run: Path, n_connections: int = 1000, *, seconds: float = 15.0, to_the_end: bool = True) -> dict[str, object]:
    """What happened: answers of /health by kind, the longest time of 503, errors, and how long connections were held.

    Args:
        run: a run folder, or a saved classifier.
        n_connections: that stall at any time.
        seconds: for which those that were closed are opened anew.
        to_the_end: whether to wait then until all are closed, up to a minute.
    """
    with served(run) as address:
        _allow_open_files(n_connections + 100)
        watch, done = Watch(), threading.Event()
        watcher = threading.Thread(target=watch.until, args=(done, address))
        watcher.start()
        stalling = Stalling(address, n_connections)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            stalling.fill()
            n_open = stalling.step()
            time.sleep(0.02)
        began = time.perf_counter()
        while to_the_end and n_open and time.perf_counter() - began < LONGEST_WAIT:
            n_open = stalling.step()
            time.sleep(0.02)
        held = time.perf_counter() - began
        done.set()
        watcher.join()
    found: dict[str, object] = {
        "n_connections": n_connections,
        "n_opened": stalling.n_opened,
        "n_ok": watch.n_ok,
        "n_503": watch.n_503,
        "longest_503_seconds": round(watch.longest_503_seconds, 3),
        "slowest_seconds": round(watch.slowest_seconds, 3),
        "errors": watch.errors,
    }
    return found | {"n_open_at_the_end": n_open, "held_seconds": round(held, 1)} if to_the_end else found


@contextmanager
def served(run: Path) -> Iterator[tuple[str, int]]:
    """The address of `topwork serve run`, in a process of its own."""
    command = [sys.executable, "-m", "topwork", "serve", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TOPWORK_TOKEN": TOKEN})
    assert process.stdout is not None
    try:
        found = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline())
        if found is None:
            raise SystemExit(f"topwork serve did not start on {run}.")
        yield found[1], int(found[2])
    finally:
        process.terminate()
        process.wait(60)


def _allow_open_files(n: int) -> None:
    """Called once the service has started: it keeps the limit that users have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    print(json.dumps(main(given.run, given.connections, seconds=given.seconds), indent=2))
