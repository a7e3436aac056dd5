"""What is too much is refused in words, and a token keeps others out."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from helpers import COLOURS, make_photo, run_async
from topwork.errors import OptionError
from topwork.serve.limits import BytesHeld, Limits
from topwork.web.refusal import Refusal

JPEG = {"Content-Type": "image/jpeg"}
TOKEN = {"Authorization": "Bearer s3cret"}


@pytest.fixture(scope="module")
def strict(saved: Path, serve: Callable[..., Any]) -> Iterator[Any]:
    """A service with small limits and a token."""
    options = ("--max-megabytes", "0.1", "--max-megapixels", "1", "--max-images", "3", "--queue", "3", "--log")
    with serve(saved, *options, TOPWORK_TOKEN="s3cret") as running:
        yield running
    assert "s3cret" not in "".join(running.said)
    assert "POST /predict" in "".join(running.said)


def png(side: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (side, side), (190, 60, 40)).save(file, "PNG")
    return file.getvalue()


def test_a_token_is_wanted_everywhere_but_at_the_door(strict: Any) -> None:
    for path in ("/metadata", "/metrics", "/openapi.json", "/nothing"):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer é"},
        ):
            answer = httpx.get(strict.address + path, headers=httpx.Headers(headers, encoding="utf-8"))
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "Authorization" in answer.json()["detail"]
    assert httpx.post(f"{strict.address}/predict", content=png(8), headers=JPEG).status_code == 401
    for path in ("/", "/health", "/ready"):
        assert httpx.get(strict.address + path).status_code == 200
    assert httpx.get(f"{strict.address}/metadata", headers=TOKEN).status_code == 200
    described = httpx.get(f"{strict.address}/openapi.json", headers=TOKEN).json()
    assert described["paths"]["/predict"]["post"]["security"] == [{"token": []}]
    assert "401" in described["paths"]["/predict"]["post"]["responses"]


def test_too_many_bytes_pixels_or_images(strict: Any) -> None:
    address = f"{strict.address}/predict"
    large = httpx.post(address, content=bytes(100_001), headers=JPEG | TOKEN)
    assert large.status_code == 413
    assert "0.1 megabytes" in large.json()["detail"]
    streamed = httpx.post(address, content=iter([bytes(60_000)] * 3), headers=JPEG | TOKEN)
    assert streamed.status_code == 413
    part = httpx.post(address, files={"a": bytes(100_001)}, headers=TOKEN)
    assert part.status_code == 413
    many = httpx.post(address, files=[("a", png(8))] * 4, headers=TOKEN)
    assert many.status_code == 413
    assert "At most 3 images" in many.json()["detail"]
    wide = httpx.post(address, content=png(1001), headers=JPEG | TOKEN)
    assert wide.status_code == 422
    assert "1,000,000 pixels" in wide.json()["detail"]
    assert httpx.post(address, content=png(1000), headers=JPEG | TOKEN).status_code == 200


def test_a_full_queue_says_when_to_come_back(strict: Any) -> None:
    """The queue has three places: of many requests at once some are refused, and none is lost."""
    image = png(1000)

    async def flood() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=60)) as client:
            post = [
                client.post(f"{strict.address}/predict", files=[("images", image)] * 3, headers=TOKEN)
                for _ in range(60)
            ]
            return await asyncio.gather(*post)

    answers = run_async(flood())
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert "Try again" in answer.json()["detail"]
        else:
            assert len(answer.json()["predictions"]) == 3
    assert httpx.post(f"{strict.address}/predict", content=image, headers=JPEG | TOKEN).status_code == 200


def test_a_client_that_goes_away_leaves_nothing_behind(strict: Any) -> None:
    host, port = strict.address.removeprefix("http://").split(":")
    for cut in (b"", b"abc"):
        with socket.create_connection((host, int(port))) as half:
            head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n"
            half.sendall(head + b"Content-Type: image/png\r\nContent-Length: 1000\r\n\r\n" + cut)
    time.sleep(0.3)
    assert "topwork_internal_errors_total 0.0" in httpx.get(f"{strict.address}/metrics", headers=TOKEN).text


def test_heads_of_requests_are_bounded(strict: Any) -> None:
    host, port = strict.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\nX: " + bytes(b"a" * 70_000))
        assert b" 431 " in endless.recv(1000)
    with socket.create_connection((host, int(port)), timeout=10) as garbage:
        garbage.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert b" 400 " in garbage.recv(1000)


def test_all_requests_together_hold_so_many_bytes() -> None:
    memory = BytesHeld(100)
    with memory.share() as take:
        take(60)
        with pytest.raises(Refusal, match="memory"), memory.share() as other:
            other(30)
            other(30)
        with memory.share() as other:
            other(40)
    with memory.share() as take:
        take(100)


def test_a_queue_shorter_than_a_request_is_refused() -> None:
    with pytest.raises(OptionError, match="`waiting=32`"):
        Limits(images=32, waiting=31)


def test_photo_within_limits_is_answered(strict: Any) -> None:
    file = BytesIO()
    make_photo(COLOURS["birch"], 3).save(file, "JPEG")
    answer = httpx.post(f"{strict.address}/predict", content=file.getvalue(), headers=JPEG | TOKEN)
    assert answer.json()["predictions"][0]["class"] == "birch"
