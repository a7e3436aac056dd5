"""What the service's tests share: a classifier, and the command serving it in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import topwork as tw
from helpers import make_photos


@dataclass
class Running:
    """A service that runs: where it is, and its process."""

    address: str
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Its exit status after a signal; what it wrote to standard error is then in `said`."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, err = self.process.communicate(timeout=40)
        self.said.append(err)
        return self.process.returncode


@contextmanager
def serving(run: Path, *options: object, **environment: str) -> Iterator[Running]:
    """`topwork serve run OPTIONS` on a free port, until the end of the block; it must then end well."""
    with _started(["-m", "topwork", "serve", str(run), "--port", "0", *map(str, options)], environment) as running:
        yield running


_WITH_LIMITS = """
import json, sys
from topwork.classifier.loading import load_classifier
from topwork.serve.limits import Connections, Limits
from topwork.serve.running import serve
from topwork.serve.service import Service
from topwork.web.listening import address_of, listen

run, token, connections = sys.argv[1:]
limits = Limits(image_bytes=100_000, connections=Connections(**json.loads(connections)))
with listen("127.0.0.1", 0) as listener:
    said = lambda: print(address_of(listener), flush=True)
    serve(Service(load_classifier(run), limits), listener, token=token or None, on_ready=said)
"""


@contextmanager
def serving_with_limits(run: Path, *, token: str = "", **connections: float) -> Iterator[Running]:
    """The service started from Python, with `connections` as the fields of `Connections`."""
    with _started(["-c", _WITH_LIMITS, str(run), token, json.dumps(connections)], {}) as running:
        yield running


@contextmanager
def _started(arguments: list[str], environment: dict[str, str]) -> Iterator[Running]:
    command = [sys.executable, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://[\d.]+:\d+", line)
    if found is None:
        process.kill()
        raise AssertionError(f"It did not start: {line} {process.communicate()[1]}")
    running = Running(found[0], process)
    try:
        yield running
    finally:
        try:
            status = running.stop()
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert status == 0
    assert "Traceback" not in "".join(running.said), running.said


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs: three classes of 90."""
    return make_photos(tmp_path_factory.mktemp("serve") / "photos", n=90)


@pytest.fixture(scope="session")
def classifier(known: Path) -> tw.ImageClassifier:
    """A classifier that can tell unknown images."""
    classifier = tw.fit_classifier(tw.ImageDataset.from_directory(known), verbose=False)
    assert classifier.novelty is not None
    return classifier


@pytest.fixture(scope="session")
def saved(classifier: tw.ImageClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is saved in."""
    folder = tmp_path_factory.mktemp("saved") / "trees"
    classifier.save(folder)
    return folder


@pytest.fixture(scope="module")
def service(saved: Path) -> Iterator[Running]:
    """A service with the usual limits, one for all tests of a module."""
    with serving(saved) as running:
        yield running


@pytest.fixture(scope="session")
def serve_with_limits() -> Callable[..., object]:
    """`serving_with_limits`, for tests that want the service to lose its patience soon."""
    return serving_with_limits


@pytest.fixture(scope="session")
def serve() -> Callable[..., object]:
    """`serving`, for tests that want a service of their own."""
    return serving


@pytest.fixture(scope="session")
def serve_as() -> Callable[..., object]:
    """`_started`, for tests that start the service with arguments to Python, and an environment, of their own."""
    return _started
