"""HTTP as uvicorn speaks it, with bounds on what comes before a request's body."""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
HEAD_SECONDS = 20.0
MOST_CONNECTIONS = 900
"""Below the 1,024 open files that a process usually may have."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn bounds neither the bytes nor the seconds of a request's head, nor how many connections are open."""

    _head_bytes = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._end(503, "Too many connections are open. Try again.", "retry-after: 1\r\n")
        else:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES:
            self._end(431, f"The head of a request may have at most {HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True

    def send_400_response(self, msg: str) -> None:
        self._end(400, "Expected a request in HTTP/1.1; this can't be read.")

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._end(408, f"The head of a request must come within {HEAD_SECONDS:g} s.")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, status: int, detail: str, headers: str = "") -> None:
        body = json.dumps({"detail": detail})
        head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}"
        self.transport.write(f"{head}connection: close\r\n\r\n{body}".encode())
        self.transport.close()
