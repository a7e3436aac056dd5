"""HTTP as uvicorn speaks it, with bounds on what a client may hold: bytes, connections, and seconds at every point.

uvicorn alone limits none of these but the pause between two requests. Here a connection always waits for one thing
(`_Wait`), has one deadline for it, and one timer. When all places are taken, the connection that has waited longest for
its client gives way to a newcomer.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from enum import Enum
from typing import Any, NoReturn, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from topwork.serve.limits import Connections

HEAD_BYTES = 65_536
"""Of a head with its trailers, or of anything else that is no body. Browsers and proxies send a few kB; Node.js allows
16 kB, uvicorn's other parser 64 kB."""
MOST_HEADERS = 100
"""As Apache and Python's own server have it. A header of four bytes costs some 200 in memory."""
MOST_AHEAD = 16
"""Requests of one client that may wait for the answers before them. Some 3 kB each; no common client sends any."""
SLOWEST = 16_000
"""Bytes a second that a body must come at: 128 kbit/s, slower than a phone at the edge of its network."""


class _Wait(Enum):
    """What a connection waits for; the value names the field of `Connections` with the seconds that it may take."""

    HEAD = "head_seconds"
    BODY = "body_seconds"
    """The rest of a body, whether it has been answered already or not."""
    SERVICE = ""
    """An answer of this service: no client can make that longer."""
    READER = "answer_seconds"
    """The client, to read what was answered, or to close."""
    REQUEST = "idle_seconds"


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._part = _Wait.HEAD  # of a request that comes next
        self._wait: _Wait | None = None
        self._since = self._deadline = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._n_no_body = self._n_head = self._n_headers = 0
        self._refusal = (400, "Expected a request in HTTP/1.1; this can't be read.")
        self._is_ended = False

    # what the transport says

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self._limits.most:
            others = cast("set[BoundedProtocol]", self.connections)  # this one among them, with the shortest wait
            min((one for one in others if one._wait is not _Wait.SERVICE), key=lambda one: one._since)._give_way()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._leave_unanswered()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_ended or self.transport.is_closing():
            return
        self._since = now = self.loop.time()
        if self._wait is _Wait.BODY:
            # what came quickly buys no pause later: otherwise 20 MB sent at once would hold their memory for minutes
            credit = self._deadline + len(data) / SLOWEST
            self._deadline = min(credit, now + self._limits.body_seconds, self._last)
        self._n_no_body += len(data)
        super().data_received(data)
        if self._n_no_body > HEAD_BYTES and not self._is_ended:
            self._end(*_TOO_LARGE)
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    # what the parser says

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = _Wait.HEAD
        self._n_head = self._n_headers = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._n_headers += 1
        self._count(len(name) + len(value) + 4)
        if self._part is not _Wait.BODY:  # trailers are no headers: the application has begun without them
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        self._part = _Wait.BODY
        self._n_no_body = 0
        if len(self.pipeline) > MOST_AHEAD:
            self._refuse(400, f"At most {MOST_AHEAD} requests may be sent before their answers.")

    def on_body(self, body: bytes) -> None:
        self._n_no_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = _Wait.REQUEST
        if self._wait is _Wait.BODY:
            self._wait = None  # the body of the next request has its own time

    def send_400_response(self, msg: str) -> None:
        self._end(*self._refusal)

    def _count(self, n: int) -> None:
        """Adds to a head whose lines are whole; what came of an unfinished one is in `_n_no_body`."""
        self._n_head += n
        if self._n_head > HEAD_BYTES or self._n_headers > MOST_HEADERS:
            self._refuse(*_TOO_LARGE)

    def _refuse(self, status: int, detail: str) -> NoReturn:
        """Stops the parser, which then comes to `send_400_response`."""
        self._refusal = (status, detail)
        raise ValueError(detail)

    # what the application says

    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's own timer, which every byte that comes would stop
        self._watch()

    # the deadline

    def _watch(self) -> None:
        """Sets the deadline if the connection waits for another thing than before."""
        wait = self._waits_for()
        if wait is self._wait:
            return
        self._wait = wait
        self._since = self.loop.time()
        self._deadline = self._since + (getattr(self._limits, wait.value) if wait.value else math.inf)
        self._last = self._since + self._limits.body_at_most_seconds
        self._set_timer()

    def _waits_for(self) -> _Wait:
        if self._is_ended or self.flow.write_paused or self.transport.is_closing():
            return _Wait.READER
        return _Wait.SERVICE if self._is_working() else self._part

    def _is_working(self) -> bool:
        """Whether a request that came whole has not been answered yet."""
        n_in_part = self._part is _Wait.BODY and not self.cycle.response_complete
        return len(self._unanswered) > n_in_part

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if math.isinf(self._deadline) else self.loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        """The time is over, unless bytes of a body have put it off."""
        if self.loop.time() < self._deadline:
            self._set_timer()
        elif self._wait is _Wait.READER:
            self._abort()
        elif self._wait is _Wait.REQUEST:
            self.transport.close()
            self._watch()
        else:
            self._end(408, self._too_slow())

    def _too_slow(self) -> str:
        limits = self._limits
        if self._wait is _Wait.HEAD:
            return f"The head of a request must come within {limits.head_seconds:g} s."
        return (
            f"The body came too slowly. It must come at {SLOWEST:,} bytes a second or more, with pauses of less than "
            f"{limits.body_seconds:g} s, within {limits.body_at_most_seconds:g} s."
        )

    # the end

    def _end(self, status: int, detail: str, headers: str = "", *, is_urgent: bool = False) -> None:
        """Ends the connection, with an answer in the application's place where it has not begun one."""
        self._is_ended = True
        if self._is_working() or (self._part is _Wait.BODY and self.cycle.response_started):
            self.transport.close()
        else:
            body = json.dumps({"detail": detail})
            head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}"
            self.transport.write(f"{head}connection: close\r\n\r\n{body}".encode())
            self._leave_unanswered()
            if is_urgent:
                self.transport.close()
            else:
                # closed with bytes unread, the kernel would reset the connection, and the client could lose the answer
                self.transport.write_eof()
        self._watch()

    def _give_way(self) -> None:
        """Makes room for another connection, which may be this one."""
        self.connections.discard(self)
        if self._wait is _Wait.READER or self.transport.get_write_buffer_size():
            self._abort()
        elif self._wait is _Wait.REQUEST:
            self.transport.close()
        else:
            self._end(503, "Too many connections are open. Try again.", "retry-after: 1\r\n", is_urgent=True)

    def _abort(self) -> None:
        self._leave_unanswered()
        self.transport.abort()

    def _leave_unanswered(self) -> None:
        """Tells the application that nobody reads its answers; uvicorn tells it of the newest request only."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()


_TOO_LARGE = (431, f"The head of a request may have at most {HEAD_BYTES:,} bytes and {MOST_HEADERS} headers.")
