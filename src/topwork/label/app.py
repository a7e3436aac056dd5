"""The page over HTTP: who may ask, what can be asked, and the answers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from topwork.data.journal import EXCLUDED, SKIPPED
from topwork.errors import BadImageError, DataError, OptionError, StorageError
from topwork.label.session import Session
from topwork.web.hosts import Headers, require_known_host, values_of
from topwork.web.refusal import Refusal

App: TypeAlias = Callable[[Any, Any, Any], Any]

MOST_ITEMS = 500
MOST_PREVIEWED = 10_000
MOST_BYTES = 20_000_000
"""Of a request: a picture of the camera, or the ids of a million images."""
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_GUARDED = ("/api/", "/image/", "/report")
"""What needs the token; the page itself holds nothing of the images, and has to load to show it."""


@dataclass(frozen=True)
class Trial:
    """A service that answers for a finished run: its application, and what ends it."""

    app: App
    stop: Callable[[], None]


def create_app(session: Session, token: str, names: frozenset[str] | None, open_trial: Callable[[Path], Trial]) -> Gate:
    """The page as an ASGI application.

    Args:
        session: what it shows.
        token: what each request must carry.
        names: that it answers to, as from `names_for`.
        open_trial: makes the service for a run.
    """
    routes = [
        Route("/", lambda _: _file("index.html")),
        Route("/api/state", _answering(lambda request: _state(session, request))),
        Route("/api/next", _answering(lambda request: session.next(_number(request, "n", 12)))),
        Route("/api/gallery", _answering(lambda request: _gallery(session, request))),
        Route("/api/like", _answering(lambda request: session.like(_number(request, "id"), _number(request, "n", 24)))),
        Route("/api/review", _review(session), methods=["GET", "POST"]),
        Route("/api/label", _changing(session, _label), methods=["POST"]),
        Route("/api/exclude", _changing(session, _marking(EXCLUDED)), methods=["POST"]),
        Route("/api/skip", _changing(session, _marking(SKIPPED)), methods=["POST"]),
        Route("/api/undo", _changing(session, lambda s, _: {"undone": s.undo()}), methods=["POST"]),
        Route("/api/classes", _changing(session, _classes), methods=["POST"]),
        Route("/api/accept", _changing(session, _accept), methods=["POST"]),
        Route("/api/train", _changing(session, _train, status=202), methods=["POST"]),
        Route("/api/camera", _camera(session), methods=["POST"]),
        Route("/image/{id:int}", _answering(lambda request: _picture(session, request))),
        Route("/report", _answering(lambda _: _report(session))),
        Route("/try", lambda _: RedirectResponse("try/")),
        Route("/{name}", lambda request: _file(request.path_params["name"])),
    ]
    handlers = {
        Refusal: _refused,
        OptionError: _wrong,
        DataError: _wrong,
        BadImageError: _unreadable,
        StorageError: _unwritten,
        HTTPException: _unknown,
        Exception: _failed,
    }
    return Gate(Starlette(routes=routes, exception_handlers=handlers), session, token, names, open_trial)


class Gate:
    """Lets requests in that are for this page, by its own page, with its token."""

    def __init__(
        self,
        app: App,
        session: Session,
        token: str,
        names: frozenset[str] | None,
        open_trial: Callable[[Path], Trial],
    ) -> None:
        self._app = app
        self._session = session
        self._token = token.encode()
        self._names = names
        self._open_trial = open_trial
        self._trial: tuple[Path, Trial] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, or the application's lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message.get("headers", ())}
                cache = () if b"cache-control" in there else ((b"cache-control", b"no-store"),)
                message["headers"] = [*message.get("headers", ()), *_HEADERS, *cache]
            await send(message)

        try:
            require_known_host(self._names, scope["headers"])
            _require_own_origin(scope["headers"])
            if scope["path"].startswith(_GUARDED):
                self._require_token(scope)
            app = await self._trial_app(scope) if scope["path"].startswith("/try/") else self._app
        except Refusal as refusal:
            await _json({"error": refusal.detail}, refusal.status)(scope, receive, send_on)
            return
        if app is not self._app:
            scope = {**scope, "path": scope["path"].removeprefix("/try"), "root_path": ""}
        await app(scope, receive, send_on)

    def stop(self) -> None:
        """End the service of the last run, if there is one."""
        if self._trial is not None:
            self._trial[1].stop()

    def _require_token(self, scope: Any) -> None:
        given = values_of(scope["headers"], b"x-topwork-token")
        if not given and scope["method"] in ("GET", "HEAD"):  # pictures and links carry no headers
            given = [value.encode() for value in parse_qs(scope["query_string"].decode("latin-1")).get("token", [])]
        if len(given) != 1 or not secrets.compare_digest(given[0], self._token):
            raise Refusal(403, "This page has no valid token. Open the address that `topwork label` printed.")

    async def _trial_app(self, scope: Any) -> App:
        run = self._session.run
        if run is None:
            raise Refusal(404, "There is nothing to try yet. Train first.")
        if self._trial is None or self._trial[0] != run:
            self.stop()
            self._trial = run, await run_in_threadpool(self._open_trial, run)
        return self._trial[1].app


def _require_own_origin(headers: Headers) -> None:
    """Raise a `Refusal` for what a page of another site sent."""
    host, origin = values_of(headers, b"host")[0], values_of(headers, b"origin")
    if origin and origin != [b"http://" + host] and origin != [b"https://" + host]:
        raise Refusal(403, "A page of another site sent this.")


def _answering(work: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        found = await run_in_threadpool(work, request)
        return found if isinstance(found, Response) else _json(found)

    return answer


def _changing(
    session: Session, work: Callable[[Session, dict[str, Any]], dict[str, Any]], *, status: int = 200
) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        values = await _body(request)
        found = await run_in_threadpool(work, session, values)
        return _json({**found, "version": session.version}, status)

    return answer


async def _bytes(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BYTES:
            raise Refusal(413, f"At most {MOST_BYTES:,} bytes are taken in one request.")
    return bytes(content)


async def _body(request: Request) -> dict[str, Any]:
    try:
        values = json.loads(await _bytes(request) or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"Expected JSON: {error}.") from error
    if not isinstance(values, dict):
        raise Refusal(400, "Expected a JSON object.")
    return values


def _state(session: Session, request: Request) -> Any:
    is_known = request.query_params.get("after") == str(session.version)
    return Response(status_code=204) if is_known else session.state()


def _label(session: Session, values: dict[str, Any]) -> dict[str, Any]:
    items = values.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Refusal(400, 'Expected {"items": [{"id": 17, "label": "ash"}]}.')
    labels = [item.get("label") for item in items]
    if not all(label is None or isinstance(label, str) for label in labels):
        raise Refusal(400, "Expected each label to be a text, or null for none.")
    ids = _ids([item.get("id") for item in items])
    return {"saved": session.label(list(zip(ids, labels, strict=True)))}


def _marking(state: str) -> Callable[[Session, dict[str, Any]], dict[str, Any]]:
    return lambda session, values: {"saved": session.mark(_ids(values.get("ids")), state)}


def _classes(session: Session, values: dict[str, Any]) -> dict[str, Any]:
    do = _one_of(values, "do", ("add", "rename", "merge"))
    session.change_class(do, values.get("name") or "", values.get("to"))
    return {"saved": 1}


def _accept(session: Session, values: dict[str, Any]) -> dict[str, Any]:
    name, above = values.get("class"), values.get("above")
    if not isinstance(name, str) or not isinstance(above, int | float) or not 0 <= above <= 1:
        raise Refusal(400, 'Expected {"class": "ash", "above": 0.99}, above in 0..1.')
    if values.get("preview"):
        items = session.acceptable(name, above)
        return {"total": len(items), "items": items[:MOST_PREVIEWED]}
    return {"saved": session.accept(name, above, _ids(values.get("ids")))}


def _train(session: Session, values: dict[str, Any]) -> dict[str, Any]:
    try:
        session.begin_training()
    except OptionError as error:
        raise Refusal(409, str(error)) from error
    return {"training": session.training}


def _review(session: Session) -> Callable[[Request], Any]:
    def decide(session: Session, values: dict[str, Any]) -> dict[str, Any]:
        do = _one_of(values, "do", ("keep", "relabel", "exclude"))
        ids = None if values.get("ids") is None else _ids(values["ids"])
        return {"saved": session.decide(str(values.get("key")), do, values.get("label"), ids)}

    read = _answering(lambda request: session.review(_number(request, "from", 0), _number(request, "n", 30)))
    write = _changing(session, decide)

    async def answer(request: Request) -> Any:
        return await (write if request.method == "POST" else read)(request)

    return answer


def _camera(session: Session) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        content, label = await _bytes(request), request.query_params.get("label", "")
        place = await run_in_threadpool(session.add_picture, content, label)
        return _json({"id": place, "saved": 1, "version": session.version})

    return answer


def _gallery(session: Session, request: Request) -> dict[str, Any]:
    order = _one_of(request.query_params, "order", ("name", "class", "certainty"), "name")
    labelled = _one_of(request.query_params, "labelled", ("all", "yes", "no"), "all")
    name, start = request.query_params.get("class") or None, _number(request, "from", 0)
    return session.gallery(order, name, labelled, start, _number(request, "n", 60))


def _picture(session: Session, request: Request) -> Response:
    side = max(16, min(2048, _number(request, "side", 256, most=100_000)))
    content = session.picture(request.path_params["id"], side)
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _report(session: Session) -> Response:
    if session.run is None:
        raise Refusal(404, "There is no report yet. Train first.")
    content = (session.run / "report.html").read_bytes()
    return Response(content, media_type=_TYPES[".html"], headers={"Content-Security-Policy": _REPORT_POLICY})


def _file(name: str) -> Response:
    """A file of the page."""
    kind = _TYPES.get(PurePosixPath(name).suffix)
    file = resources.files("topwork.label").joinpath("page", name)
    if kind is None or "/" in name or "\\" in name or not file.is_file():
        raise HTTPException(404)
    return Response(file.read_bytes(), media_type=kind, headers={"Content-Security-Policy": _POLICY})


def _number(request: Request, name: str, default: int | None = None, *, most: int = MOST_ITEMS) -> int:
    """A number of the query; counts are at most `MOST_ITEMS`."""
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal() or not text.isascii() or len(text) > 9:
        raise Refusal(400, f"Expected {name} to be a number; got {text!r}.")
    return min(int(text), most) if name == "n" or name == "side" else int(text)


def _ids(values: Any) -> list[int]:
    if not isinstance(values, list) or not values or not all(type(value) is int for value in values):
        raise Refusal(400, "Expected ids, a list of whole numbers, one at least.")
    return list(dict.fromkeys(values)) if len(set(values)) == len(values) else _refuse_twice()


def _refuse_twice() -> list[int]:
    raise Refusal(400, "Expected each image once.")


def _one_of(values: Any, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
    value = values.get(name, default)
    if value not in allowed:
        raise Refusal(400, f"Expected {name} to be one of {', '.join(allowed)}; got {value!r}.")
    return str(value)


def _json(content: Any, status: int = 200) -> Response:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "backslashreplace"), status, media_type="application/json")


async def _refused(_: Request, error: Any) -> Response:
    return _json({"error": error.detail}, error.status)


async def _wrong(_: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400)


async def _unreadable(_: Request, error: Exception) -> Response:
    return _json({"error": f"The image can't be read: {error}."}, 422)


async def _unwritten(_: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 507)


async def _unknown(request: Request, error: Any) -> Response:
    return _json({"error": f"There is no {request.method} {request.url.path}."}, error.status_code)


async def _failed(_: Request, error: Exception) -> Response:
    return _json({"error": f"A mistake in Topwork: {type(error).__name__}: {error}."}, 500)
