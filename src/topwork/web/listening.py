"""Listening on an address, and ending by a signal without ending the process."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from topwork.errors import OptionError

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port`; port 0 takes any free one.

    Raises:
        OptionError: the port is taken, or the host isn't one of this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"Can't listen on {host!r}, port {port}: {reason}. Choose other ones; `port=0` takes any free one."
        ) from error


def address_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds what `listener` serves."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


@contextmanager
def signals_that_end_nothing() -> Iterator[None]:
    """uvicorn raises the signals that stopped it once more when it is done; the process would end by them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.signal(name, lambda *_: None) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
