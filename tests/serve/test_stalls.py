"""No client holds a connection beyond its time, wherever in a request it stops, and newcomers always get a place."""

from __future__ import annotations

import contextlib
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SECONDS = 0.4
"""Of patience in these tests, wherever the service waits for a client."""
LATE = 2.0
"""Seconds after that within which the connection must be closed, for machines under load."""
PATIENCE = {
    "head_seconds": SECONDS,
    "body_seconds": SECONDS,
    "body_at_most_seconds": 3 * SECONDS,
    "answer_seconds": SECONDS,
    "idle_seconds": SECONDS,
}
TOKEN = b"Authorization: Bearer s3cret\r\n"


def request(line: bytes, *headers: bytes, token: bytes = TOKEN, host: bytes = b"localhost") -> bytes:
    return b"".join([line, b" HTTP/1.1\r\nHost: ", host, b"\r\n", token, *(h + b"\r\n" for h in headers), b"\r\n"])


PNG, LENGTH, CHUNKED = b"Content-Type: image/png", b"Content-Length: 100", b"Transfer-Encoding: chunked"
POST = request(b"POST /predict", PNG, LENGTH)
IN_CHUNKS = request(b"POST /predict", PNG, CHUNKED)
STALLS: dict[str, tuple[bytes, list[int]]] = {
    "before the head": (b"", [408]),
    "after blank lines": (b"\r\n\r\n", [408]),
    "in the first line": (b"POST /pre", [408]),
    "in a header": (b"GET /health HTTP/1.1\r\nHost: loc", [408]),
    "before the last line of the head": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", [408]),
    "after the head": (POST, [408]),
    "in the body": (POST + b"half", [408]),
    "when told to continue": (request(b"POST /predict", PNG, LENGTH, b"Expect: 100-continue"), [100, 408]),
    "in a form": (request(b"POST /predict", b"Content-Type: multipart/form-data; boundary=x", LENGTH) + b"--x", [408]),
    "in the length of a chunk": (IN_CHUNKS + b"5", [408]),
    "in a chunk": (IN_CHUNKS + b"5\r\nab", [408]),
    "between chunks": (IN_CHUNKS + b"2\r\nab\r\n", [408]),
    "in the trailers": (IN_CHUNKS + b"2\r\nab\r\n0\r\nX: y\r\n", [408]),
    "after 401": (request(b"POST /predict", PNG, LENGTH, token=b"") + b"x", [401]),
    "after 401, in chunks": (request(b"POST /predict", PNG, CHUNKED, token=b"") + b"5\r\nab", [401]),
    "after 401, and close": (request(b"POST /predict", LENGTH, b"Connection: close", token=b""), [401]),
    "after 404": (request(b"POST /nothing", LENGTH) + b"x", [404]),
    "after 405": (request(b"POST /health", LENGTH) + b"x", [405]),
    "after 413": (request(b"POST /predict", PNG, b"Content-Length: 1000000") + b"x", [413]),
    "after 415": (request(b"POST /predict", b"Content-Type: text/plain", LENGTH) + b"x", [415]),
    "after 421": (request(b"POST /predict", PNG, LENGTH, host=b"evil.example") + b"x", [421]),
    "after 422": (request(b"POST /predict?runners_up=x", PNG, LENGTH) + b"x", [422]),
    "after 422 of a whole body": (request(b"POST /predict", PNG, b"Content-Length: 1") + b"x", [422]),
    "after 200 with a body that nobody wants": (request(b"GET /health", LENGTH) + b"x", [200]),
    "after an answer": (request(b"GET /health"), [200]),
    "after an answer, with blank lines": (request(b"GET /health") + b"\r\n\r\n", [200]),
    "in the head of the second request": (request(b"GET /health") + b"GET /hea", [200, 408]),
    "in the body of the second request": (request(b"GET /health") + POST + b"x", [200, 408]),
    "after two answers": (2 * request(b"GET /health"), [200, 200]),
    "after a wish for another protocol": (
        request(b"GET /health", b"Connection: Upgrade", b"Upgrade: websocket") + b"\x81\x05",
        [200],
    ),
    "after what is no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", [400]),
    "after a bad chunk": (IN_CHUNKS + b"zz\r\n", [400]),
}


@pytest.fixture(scope="module")
def impatient(saved: Path, serve_with_limits: Callable[..., Any]) -> Iterator[Any]:
    with serve_with_limits(saved, token="s3cret", **PATIENCE) as running:
        yield running


def connect(running: Any, **options: int) -> socket.socket:
    host, port = running.address.removeprefix("http://").split(":")
    connection = socket.socket()
    for name, value in options.items():
        connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    return connection


def read_to_the_end(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answers)]


def metrics(running: Any) -> str:
    asked = urllib.request.Request(f"{running.address}/metrics", headers={"Authorization": "Bearer s3cret"})
    with urllib.request.urlopen(asked, timeout=20) as answer:  # httpx would take 30 ms to begin
        return str(answer.read(), "utf-8")


def open_files(running: Any) -> int:
    return int(float(metrics(running).split("\nprocess_open_fds ")[1].split("\n")[0]))


@pytest.mark.parametrize("where", STALLS)
def test_a_client_that_stalls_is_let_go(impatient: Any, where: str) -> None:
    sent, expected = STALLS[where]
    with connect(impatient) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        answers = read_to_the_end(connection)
        seconds = time.monotonic() - began
    assert statuses(answers) == expected
    assert seconds < SECONDS + LATE
    if expected[-1] not in (100, 200):
        assert re.search(rb'"detail": ?"[^"]{20}', answers)


@pytest.mark.parametrize(
    ("where", "drop"),
    [
        ("after an answer", b"\r\n"),
        ("in a header", b"a"),
        ("in the body", b"a"),
        ("in the length of a chunk", b"0"),
        ("in the trailers", b"X: y\r\n"),
        ("after 401", b"a"),
        ("after 401, in chunks", b"a"),
        ("after what is no HTTP", b"a"),
    ],
)
def test_a_client_that_sends_drops_is_let_go(impatient: Any, where: str, drop: bytes) -> None:
    """One drop every tenth of the time that it has; the last one comes when nobody listens any more."""
    began = time.monotonic()
    with connect(impatient) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(STALLS[where][0])
        while time.monotonic() - began < 3 * SECONDS + LATE:
            time.sleep(SECONDS / 10)
            connection.sendall(drop)
    assert time.monotonic() - began < 2 * SECONDS + LATE


@pytest.mark.parametrize("token", [TOKEN, b""])
def test_a_body_that_comes_steadily_has_an_end_too(impatient: Any, token: bytes) -> None:
    """After a 413 and after a 401 it counts on."""
    head = request(b"POST /predict", PNG, CHUNKED, token=token)
    began = time.monotonic()
    with connect(impatient) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(head)
        while time.monotonic() - began < 3 * SECONDS + LATE:
            connection.sendall(b"1388\r\n" + bytes(5000) + b"\r\n")
            time.sleep(SECONDS / 10)
    assert time.monotonic() - began < 3 * SECONDS + LATE


def test_a_body_that_began_quickly_may_not_pause_for_longer(impatient: Any) -> None:
    """90 kB at 16 kB a second would have 5 s more."""
    with connect(impatient) as connection:
        connection.sendall(request(b"POST /predict", PNG, b"Content-Length: 99000") + bytes(90_000))
        began = time.monotonic()
        assert statuses(read_to_the_end(connection)) == [408]
        assert time.monotonic() - began < SECONDS + LATE


def test_a_slow_but_steady_body_is_read(impatient: Any) -> None:
    """It takes longer than the longest pause."""
    head = request(b"POST /predict", PNG, b"Content-Length: 10000")
    with connect(impatient) as connection:
        connection.sendall(head)
        for _ in range(10):
            time.sleep(SECONDS / 5)
            connection.sendall(bytes(1000))
        answers = read_to_the_end(connection)
    assert statuses(answers) == [422]
    assert b"can't be read" in answers


LONG_PATH = b"GET /" + 50_000 * b"a"
"""Nothing is there; the answer says so, and is as long."""


def ask_and_read_nothing(impatient: Any, connection: socket.socket, n: int = 1000) -> int:
    """How many of `n` requests are answered into the buffers of the kernel and the service, before they are full."""
    before = n_unknown_paths(impatient)
    for i in range(n):
        connection.sendall(request(LONG_PATH))
        sent = time.monotonic()
        while n_unknown_paths(impatient) == before + i:
            if time.monotonic() - sent > SECONDS / 4:
                return i
    return n


def n_unknown_paths(running: Any) -> int:
    found = re.findall(r'topwork_requests_total{path="other",status="404"} (\S+)', metrics(running))
    return sum(int(float(n)) for n in found)


def test_a_client_that_reads_no_answers_is_let_go(impatient: Any) -> None:
    """Once while the service wants to write more, and then at about that point with an end of the connection."""
    before = open_files(impatient)
    with connect(impatient, SO_RCVBUF=4096) as connection:
        n = ask_and_read_nothing(impatient, connection)
        assert 2 < n < 1000
        until(lambda: open_files(impatient) == before, SECONDS + LATE)
    for earlier in (1, 2, 3):
        with connect(impatient, SO_RCVBUF=4096) as connection:
            ask_and_read_nothing(impatient, connection, n - earlier)
            connection.sendall(request(LONG_PATH, b"Connection: close"))
            until(lambda: open_files(impatient) == before, 2 * SECONDS + LATE)


def until(is_true: Callable[[], bool], seconds: float) -> None:
    began = time.monotonic()
    while not is_true():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
