"""What all tests share: an own cache folder, small real image files, and the command line as a function."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import numpy as np
import pytest

_CACHE = tempfile.TemporaryDirectory(prefix="topwork-tests-", ignore_cleanup_errors=True)
os.environ["TOPWORK_CACHE"] = _CACHE.name  # before anything is computed; the user's own is never touched
os.environ["KERAS_BACKEND"] = "jax"
# what is compiled here runs for a moment: most of a test's time went into compiling the same again, and well
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(_CACHE.name, "compiled"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["HF_ENDPOINT"] = os.environ["TOPWORK_MIRROR"] = (
    "http://127.0.0.1:9"  # nothing listens there: no test may fetch from outside
)
sys.path.insert(0, str(Path(__file__).parent))

from helpers import SHARED, make_photos  # noqa: E402

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer
    from playwright.sync_api import Browser


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    status: int
    out: str
    err: str


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three classes of 12 small photographs each."""
    return make_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def digits_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small classifier of ten digits, which tells unknown images."""
    import topwork as tw

    dataset = tw.ImageDataset.from_name("digits")
    few = dataset.select(dataset.rows < 500)
    folder = tmp_path_factory.mktemp("classifier") / "digits"
    tw.fit_classifier(few, tw.load_backbone("starter", size=32), verbose=False).save(folder)
    return folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for one test alone."""
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own_cache(empty_cache: Path) -> Path:
    """A cache folder for one test alone, with nothing in it but the starter's graphs: making one takes 5 s."""
    for graph in Path(_CACHE.name, "graphs").glob("starter-*"):
        shutil.copytree(graph, empty_cache / "graphs" / graph.name)
    return empty_cache


@pytest.fixture
def topwork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """`topwork("train", folder)`: the command line, run in this process from an empty folder."""
    from topwork.cli.main import run

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["topwork", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run()
        out, err = capsys.readouterr()
        return Answer(int(stop.value.code or 0), out, err)

    return call


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A real Chromium without a window, where this machine has one."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not on this machine")
    with sync_playwright() as playwright:
        options = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *options, *camera])
        yield browser
        browser.close()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the library logs, whatever libraries loaded by other tests did to loggers that they found."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("topwork")
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "handlers", [handler])
    return lines


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images and weights, where this machine has it."""
    if not SHARED.is_dir():
        pytest.skip(f"real images and weights are not on this machine ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ThreadedMotoServer]:
    """A server on loopback that speaks S3, with the bucket `bucket`; it holds everything in memory."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    host, port = server.get_host_and_port()
    with urlopen(Request(f"http://{host}:{port}/bucket", method="PUT"), timeout=60):
        pass
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty place in an object store, which the environment leads to."""
    from topwork import objects

    host, port = s3_server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    objects._open.cache_clear()
    yield f"s3://bucket/{uuid.uuid4().hex}/"
    objects._open.cache_clear()


@pytest.fixture
def no_random_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras on JAX spends most of its building time drawing weights that nobody uses."""
    from keras.src.initializers import random_initializers

    for kind in vars(random_initializers).values():
        if isinstance(kind, type) and "__call__" in vars(kind):
            monkeypatch.setattr(kind, "__call__", lambda self, shape, dtype=None: np.zeros(shape, np.float32))
