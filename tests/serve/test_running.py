"""Starting and stopping: what it says, what stands in its way, and that nothing begun is lost."""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from helpers import run_async

Topwork = Callable[..., Any]
PNG = {"Content-Type": "image/png"}


def large_png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (3000, 3000), (190, 60, 40)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stopping_finishes_what_was_begun(saved: Path, serve: Callable[..., Any], how: int) -> None:
    """Twelve large images are on their way when the signal comes: all are answered, and the exit status is 0."""
    image = large_png()

    async def ask(address: str, process: Any) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            asked = [
                asyncio.create_task(client.post(f"{address}/predict", content=image, headers=PNG)) for _ in range(12)
            ]
            for _ in range(200):
                text = (await client.get(f"{address}/metrics")).text
                if float(text.split("\ntopwork_waiting_images ")[1].split("\n")[0]) > 0:
                    break
            await asyncio.sleep(0.1)  # on a busy machine, the last of them may be on their way yet
            process.send_signal(how)
            return await asyncio.gather(*asked)

    with serve(saved) as running:
        answers = run_async(ask(running.address, running.process))
        assert [answer.status_code for answer in answers] == [200] * 12
        assert running.process.wait(timeout=30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.address}/health")


def test_a_taken_port_is_said_in_a_line(saved: Path, topwork: Topwork) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = topwork("serve", saved, "--port", taken.getsockname()[1])
    assert answer.status == 1
    assert "in use" in answer.err
    assert "--port" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--host", "no.such.host.invalid"), "Can't listen on 'no.such.host.invalid'"),
        (("--host", "192.0.2.1"), "Can't listen on '192.0.2.1'"),
        (("--queue", "5"), "--queue"),
        (("--token", ""), "token"),
        (("--token", "ü"), "token"),
        (("--port", "70000"), "--port"),
    ],
)
def test_options_that_can_not_be_are_said_in_words(
    saved: Path, topwork: Topwork, options: tuple[str, ...], expected: str
) -> None:
    answer = topwork("serve", saved, *options)
    assert answer.status in (1, 2)
    assert expected in answer.err
    assert "Traceback" not in answer.err


def test_what_is_no_run_is_said(topwork: Topwork) -> None:
    answer = topwork("serve", "nowhere")
    assert answer.status == 1
    assert "run folder" in answer.err


def test_without_the_extra_it_says_what_to_install(
    saved: Path, topwork: Topwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name in ("fastapi", "uvicorn", "prometheus_client"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **options)

    for name in [name for name in sys.modules if name.startswith("topwork.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    answer = topwork("serve", saved)
    assert answer.status == 1
    assert "pip install 'topwork[serve]'" in answer.err
    assert answer.err.count("\n") == 1


def test_beyond_this_machine_without_a_token_it_warns(saved: Path, serve: Callable[..., Any]) -> None:
    with serve(saved, "--host", "0.0.0.0") as open_to_all:
        pass
    assert "Warning: anyone who can reach this machine" in "".join(open_to_all.said)


def test_until_it_is_ready_it_is_alive_and_says_so(saved: Path, tmp_path: Path) -> None:
    """With an empty cache the graph is built first, which takes seconds."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "topwork", "serve", str(saved), "--port", str(port)]
    environment = {**os.environ, "TOPWORK_CACHE": str(tmp_path / "empty")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: httpx.get(f"{address}/health").status_code == 200)
        assert httpx.get(f"{address}/ready").json() == {"status": "starting"}
        answer = httpx.post(f"{address}/predict", content=b"x", headers=PNG)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        wait_for(lambda: httpx.get(f"{address}/ready").status_code == 200)
        assert httpx.post(f"{address}/predict", content=large_png(), headers=PNG).status_code == 200
    finally:
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out == f"Serving {saved} (3 classes, starter) at {address}  (Ctrl-C stops)\n"
    assert err == ""


def wait_for(is_true: Callable[[], bool]) -> None:
    for _ in range(600):
        try:
            if is_true():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("waited for nothing")


def test_a_network_that_can_not_be_built_ends_it_with_an_error(saved: Path) -> None:
    script = f"""
import sys
from topwork.backbones.openvino_engine import OpenVINOEngine
from topwork.cli.main import run
from topwork.errors import WeightsError
def fail(*args):
    raise WeightsError("The weights do not fit.")
OpenVINOEngine.__init__ = fail
sys.argv = ["topwork", "serve", {str(saved)!r}, "--port", "0"]
run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error: The weights do not fit.\n")
