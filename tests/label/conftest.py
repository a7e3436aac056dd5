"""What the tests of labelling share: a folder of unlabelled images, and a page on it without a process of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers import make_photos, run_async
from topwork.backbones.backbone import Backbone, load_backbone
from topwork.data.images import UnlabelledImages
from topwork.data.journal import JournalRow, open_journal, read_journal
from topwork.label.app import Trial, create_app
from topwork.label.session import Session

TOKEN = "correct-token"


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """A folder of 60 images of three kinds, which their names tell: `ash-0.png`, …"""
    photos, folder = make_photos(tmp_path / "photos", n=20), tmp_path / "unlabelled"
    folder.mkdir()
    for path in sorted(photos.rglob("*.*")):
        shutil.move(path, folder / f"{path.parent.name}-{path.name}")
    return folder


@pytest.fixture(scope="session")
def starter() -> Backbone:
    return load_backbone("starter", size=32)


class Client:
    """Asks an application without a network."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.headers = {"X-Topwork-Token": TOKEN}

    def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **values: Any
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, headers={**self.headers, **(headers or {})}, **values)

        answer: httpx.Response = run_async(ask())
        return answer

    def get(self, path: str, **values: Any) -> httpx.Response:
        return self.request("GET", path, **values)

    def post(self, path: str, **values: Any) -> httpx.Response:
        return self.request("POST", path, **values)


class Page:
    """The page's own requests."""

    def __init__(self, session: Session, client: Client) -> None:
        self.session, self.client = session, client
        self.journal = session.journal.path

    def get(self, path: str, **values: Any) -> Any:
        answer = self.client.get(path, params=values)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, status: int = 200, **values: Any) -> Any:
        answer = self.client.post(path, json=values)
        assert answer.status_code == status, answer.text
        return answer.json()

    def wait(self, until: Callable[[dict[str, Any]], Any], seconds: float = 120) -> dict[str, Any]:
        """The state, once it is as wanted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state: dict[str, Any] = self.get("/api/state")
            if until(state):
                return state
            time.sleep(0.02)
        raise AssertionError(state)

    def label_all(self, kinds: int = 60) -> None:
        """Label the first images of each kind as their names tell."""
        names = self.session.names
        chosen = [i for i, name in enumerate(names) if int(name.split("-")[1].split(".")[0]) < kinds]
        self.post("/api/label", items=[{"id": i, "label": names[i].split("-")[0]} for i in chosen])

    def rows(self) -> list[JournalRow]:
        return read_journal(self.journal)


@pytest.fixture
def opened(starter: Backbone, tmp_path: Path) -> Callable[..., Any]:
    """`with opened(folder) as page:`, ready with all features unless told otherwise."""

    @contextmanager
    def open_page(folder: Path, *, ready: bool = True, **options: Any) -> Iterator[Page]:
        with open_journal(tmp_path / "labels.csv") as journal:
            session = Session(UnlabelledImages.from_directory(folder), journal, starter, **options)

            def no_trial(_: Path) -> Trial:
                raise AssertionError("not in this test")

            app = create_app(session, TOKEN, frozenset(), options.get("open_trial", no_trial))
            client = Client(app)
            session.start()
            try:
                page = Page(session, client)
                if ready:
                    page.wait(lambda state: not state["extracting"] and not state["fitting"])
                yield page
            finally:
                session.stop()

    return open_page
