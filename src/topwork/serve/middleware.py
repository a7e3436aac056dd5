"""What every request passes on its way in and out: the token, the headers of every answer, the counting."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from topwork.serve.metrics import Metrics

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/", "/health", "/ready"})
"""What needs no token: the page has to load to ask for it, and a supervisor has none."""
_PATHS = frozenset({*OPEN, "/predict", "/explain", "/metadata", "/metrics", "/openapi.json"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Middleware:
    """An ASGI application around another. Plain ASGI: a layer of a framework's would cost more than the counting."""

    def __init__(self, app: App, token: str | None, metrics: Metrics) -> None:
        self._app = app
        self._bearer = None if token is None else f"Bearer {token}".encode()
        self._metrics = metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, or the application's lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            if self._may_pass(scope):
                await self._app(scope, receive, send_on)
            else:
                await _refuse(send_on)
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            self._metrics.request(path, status, time.perf_counter() - began)

    def _may_pass(self, scope: Message) -> bool:
        if self._bearer is None or scope["path"] in OPEN:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return secrets.compare_digest(given, self._bearer)


async def _refuse(send: Send) -> None:
    body = json.dumps(
        {"detail": "Expected the header 'Authorization: Bearer TOKEN' with this service's token."}
    ).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b"Bearer"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
