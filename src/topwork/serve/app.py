"""The routes: what can be asked, and the answers as HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from topwork.classifier.answers import RUNNERS_UP, Answer
from topwork.errors import BadImageError, OptionError
from topwork.serve import description
from topwork.serve.access import Access
from topwork.serve.batching import Request as Submitted
from topwork.serve.body import read_images
from topwork.serve.metrics import CONTENT_TYPE
from topwork.serve.middleware import App, Middleware
from topwork.serve.page import page, policy
from topwork.serve.service import Service
from topwork.version import VERSION
from topwork.web.refusal import Refusal

_LOG = logging.getLogger("topwork.serve")
_LOOK_AFTER = 0.5
"""Seconds between two looks whether a client that waits is still there."""
_GONE = 499
"""What web servers count a client under that went away."""


class _NotFinite(Exception):
    """An answer holds NaN or an infinity, which JSON has no words for."""


def create_app(service: Service, access: Access) -> App:
    """The service as an ASGI application.

    Args:
        service: what it serves.
        access: who may ask.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="Topwork",
        version=VERSION,
        description=f"Classifies images: {', '.join(service.classifier.class_names[:20])}.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    _add_answers(app, service)
    _add_facts(app, service)
    _add_errors(app, service)
    if access.token is not None:
        plain = app.openapi
        app.openapi = lambda: description.with_token(plain())  # type: ignore[method-assign]
    return Middleware(app, access, service.metrics)


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/predict", responses=description.PREDICT, openapi_extra=description.IMAGES, summary="Classify images")
    async def predict(
        request: Request,
        runners_up: Annotated[int, Query(ge=0, le=10_000, description="Other classes to name.")] = RUNNERS_UP,
    ) -> Response:
        service.require_ready()
        with service.memory.share() as take:
            images = await read_images(request, service.limits, take)
            answers = await _answers(request, service, service.batcher.submit(images, runners_up))
        if len(answers) == 1 and answers[0].error is not None:
            raise Refusal(422, f"The image can't be read: {answers[0].error}.")
        return _json_response({"predictions": [answer.as_dict() for answer in answers]})

    @app.post("/explain", responses=description.EXPLAIN, openapi_extra=description.ONE_IMAGE, summary="Explain one")
    async def explain(
        request: Request,
        class_name: Annotated[
            str | None, Query(alias="class", description="The class to explain; the most probable one unless given.")
        ] = None,
    ) -> Response:
        service.require_ready()
        with service.memory.share() as take:
            images = await read_images(request, service.limits, take)
            if len(images) > 1:
                raise Refusal(422, f"Expected one image to explain, got {len(images)}. Send one request for each.")
            found = await service.explainer.explain(images[0], class_name, request.is_disconnected)
        return _json_response(found)


async def _answers(request: Request, service: Service, submitted: Submitted) -> list[Answer]:
    """Waits for the answers as long as the client does."""
    while not submitted.done.done():
        await asyncio.wait((submitted.done,), timeout=_LOOK_AFTER)
        if not submitted.done.done() and await request.is_disconnected():
            service.batcher.drop(submitted)
            raise ClientDisconnect
    return submitted.done.result()


def _add_facts(app: FastAPI, service: Service) -> None:
    @app.get("/health", responses=description.HEALTH, summary="Does the process answer?")
    async def health() -> Response:
        return _json_response({"status": "ok"})

    @app.get("/ready", responses=description.READY, summary="Can it classify?")
    async def ready() -> Response:
        return _json_response({"status": service.phase}, 200 if service.phase == "ready" else 503)

    @app.get("/metadata", responses=description.METADATA, summary="The classifier and the limits")
    async def metadata() -> Response:
        return _json_response(service.metadata())

    @app.get("/metrics", responses=description.METRICS, summary="Figures for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/", responses=description.PAGE, summary="The page for people")
    async def home() -> Response:
        return Response(page(), media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy()})


def _add_errors(app: FastAPI, service: Service) -> None:
    """Every error is JSON with a `detail` in words."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return _json_response({"detail": error.detail}, error.status, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)  # for the count alone: nobody is there to read it

    @app.exception_handler(OptionError)
    @app.exception_handler(BadImageError)
    async def wrong(_: Request, error: OptionError | BadImageError) -> Response:
        said = f"The image can't be read: {error.reason}." if isinstance(error, BadImageError) else str(error)
        return _json_response({"detail": said}, 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _json_response(
            {"detail": f"Parameter {first['loc'][-1]!r}: {first['msg']}; got {first['input']!r}."}, 422
        )

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        said = f"There is no {request.method} {request.url.path}. /openapi.json lists what there is."
        return _json_response({"detail": said}, error.status_code, dict(error.headers or {}))

    @app.exception_handler(_NotFinite)
    async def not_finite(request: Request, error: _NotFinite) -> Response:
        said = "The answer has a number that is not finite (NaN or infinity). The classifier's files may be damaged."
        _LOG.error("%s %s: %s", request.method, request.url.path, said)
        service.metrics.bug()
        return _json_response({"detail": f"{said} `topwork info` checks them."}, 500)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return _json_response({"detail": "A mistake in the service; its log says more."}, 500)


def _json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise _NotFinite from error
    return Response(text.encode("utf-8", "backslashreplace"), status, headers, media_type="application/json")
