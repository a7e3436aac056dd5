"""What every request passes on its way in and out: who may ask, the headers of every answer, the counting."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from topwork.serve.access import OPEN, Access
from topwork.serve.metrics import Metrics
from topwork.web.refusal import Refusal

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_PATHS = frozenset({*OPEN, "/predict", "/explain", "/metadata", "/metrics", "/openapi.json"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Middleware:
    """An ASGI application around another. Plain ASGI: a layer of a framework's would cost more than the counting."""

    def __init__(self, app: App, access: Access, metrics: Metrics) -> None:
        self._app = app
        self._access = access
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
            self._access.check(scope["method"], scope["path"], scope["headers"])
        except Refusal as refusal:
            await _refuse(send_on, refusal)
        else:
            await self._app(scope, receive, send_on)
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            self._metrics.request(path, status, time.perf_counter() - began)


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
