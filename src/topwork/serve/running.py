"""Listening, serving, and stopping cleanly."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import uvicorn
from threadpoolctl import threadpool_limits

from topwork.data.decoding import quiet_pillow
from topwork.serve.access import Access
from topwork.serve.app import create_app
from topwork.serve.limits import Connections
from topwork.serve.protocol import BoundedProtocol
from topwork.serve.service import Service
from topwork.web.hosts import names_for
from topwork.web.listening import signals_that_end_nothing

_SECONDS_TO_FINISH = 30
_OTHER_FILES = 124
"""Open files that are no connections: some 30 in a service that works, and room for what libraries open."""


def serve(
    service: Service,
    listener: socket.socket,
    *,
    token: str | None = None,
    allow_hosts: Iterable[str] = (),
    log: bool = False,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM comes; then accept nothing more, and finish what was begun.

    Args:
        service: what is served.
        listener: as from `listen`.
        token: what clients must show; None lets everyone in.
        allow_hosts: names that requests may have in `Host`, beside those of this machine. Where there are none, other
            names are refused if `listener` is on a loopback address, and none is otherwise.
        log: whether to write a line for each request to standard error.
        on_ready: called once it can classify.

    Raises:
        OptionError: one of `allow_hosts` is no name of a host.
        TopworkError: the network can't be compiled.
    """
    access = Access(token, names_for(listener.getsockname()[0], allow_hosts))
    server = _Server(_config(service, access, log))
    server.service = service

    def on_phase() -> None:
        if service.failure is not None:
            server.should_exit = True
        elif service.phase == "ready":
            on_ready()

    service.on_phase = on_phase
    # each worker is one thread: BLAS threads beside them would fight for the same processors
    with quiet_pillow(), threadpool_limits(1, user_api="blas"), signals_that_end_nothing():
        server.run(sockets=[listener])
    if service.failure is not None:
        raise service.failure


class _Server(uvicorn.Server):
    service: Service

    def handle_exit(self, sig: int, frame: object) -> None:
        self.service.phase = "stopping"
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def _config(service: Service, access: Access, log: bool) -> uvicorn.Config:
    config = uvicorn.Config(
        create_app(service, access),
        http=partial(BoundedProtocol, _within_open_files(service.limits.connections)),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        log_level=logging.ERROR,
        access_log=log,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    if log:
        logger = logging.getLogger("uvicorn.access")
        logger.setLevel(logging.INFO)
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
    return config


def _within_open_files(connections: Connections) -> Connections:
    """As many connections as the process may have open files for: a newcomer then takes the place of another one, and
    is not dropped by the kernel without a word.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return connections
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return connections
    return replace(connections, most=min(connections.most, max(1, most - _OTHER_FILES)))
