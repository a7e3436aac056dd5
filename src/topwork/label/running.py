"""Serving the page until a signal comes."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from topwork.data.decoding import quiet_pillow
from topwork.label.app import Trial, create_app
from topwork.label.session import Session
from topwork.web.hosts import names_for
from topwork.web.listening import signals_that_end_nothing


def serve_page(
    session: Session,
    listener: socket.socket,
    *,
    token: str,
    allow_hosts: tuple[str, ...],
    open_trial: Callable[[Path], Trial],
    on_ready: Callable[[], None],
) -> None:
    """Serve the page until SIGINT or SIGTERM comes.

    Args:
        session: what the page shows; it is started and stopped here.
        listener: as from `topwork.web.listening.listen`.
        token: what requests must carry.
        allow_hosts: names that requests may have in `Host`, beside those of this machine.
        open_trial: makes the service for a finished run.
        on_ready: called once requests are answered.
    """
    app = create_app(session, token, names_for(listener.getsockname()[0], allow_hosts), open_trial)
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,  # it would have the token
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config)
    server.on_ready = on_ready
    with quiet_pillow(), signals_that_end_nothing():
        session.start()
        try:
            server.run(sockets=[listener])
        finally:
            session.stop()
            app.stop()


class _Server(uvicorn.Server):
    on_ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_ready()
