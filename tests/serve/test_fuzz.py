"""Broken images and broken requests: every one gets an answer below 500, and the service goes on."""

from __future__ import annotations

import random
import socket
from io import BytesIO
from typing import Any

import httpx
import numpy as np
from PIL import Image

from helpers import COLOURS, make_photo

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def broken(form: str, chance: random.Random) -> bytes:
    """An image with a few bytes changed, taken out, doubled, or cut off."""
    file = BytesIO()
    make_photo(COLOURS["ash"], chance.randrange(100)).save(file, form)
    content = bytearray(file.getvalue())
    for _ in range(chance.randint(1, 8)):
        i = chance.randrange(min(len(content), chance.choice((40, 400, 40_000))))
        how = chance.randrange(4)
        if how == 0:
            content[i] = chance.randrange(256)
        elif how == 1:
            del content[i : i + chance.randint(1, 30)]
        elif how == 2:
            content[i:i] = content[i : i + chance.randint(1, 300)]
        else:
            del content[max(i, 50) :]
    return bytes(content)


def test_broken_images_leave_it_serving(service: Any) -> None:
    chance = random.Random(0)
    n_read = n_bad = 0
    with httpx.Client(base_url=service.address, timeout=60) as client:
        for round_ in range(60):
            contents = [broken(chance.choice(FORMATS), chance) for _ in range(16)]
            answer = client.post("/predict", files=[("images", content) for content in contents])
            assert answer.status_code == 200, answer.text
            for item in answer.json()["predictions"]:
                n_read += "class" in item
                n_bad += "error" in item
            alone = client.post("/predict", content=contents[0], headers={"Content-Type": "image/png"})
            assert alone.status_code in (200, 422), (round_, alone.text)
    assert n_read > 50
    assert n_bad > 200
    is_well(service)


def test_bombs_are_refused_by_their_heads(service: Any) -> None:
    file = BytesIO()
    Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(file, "PNG", compress_level=9)
    answer = httpx.post(f"{service.address}/predict", content=file.getvalue(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 422
    assert "50,000,000 pixels" in answer.json()["detail"]
    is_well(service)


def test_broken_requests_leave_it_serving(service: Any) -> None:
    """Requests cut, mutated and mixed up, byte by byte on the wire."""
    chance = random.Random(1)
    host, port = service.address.removeprefix("http://").split(":")
    body = b"--x\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\nnothing\r\n--x--\r\n"
    head = (
        b"POST /predict?runners_up=2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    )
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            i = chance.randrange(len(content))
            content[i : i + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(2000)
        assert not answer.startswith(b"HTTP/1.1 5"), (bytes(content), answer)
    is_well(service)


def is_well(service: Any) -> None:
    file = BytesIO()
    make_photo(COLOURS["cedar"], 5).save(file, "JPEG")
    answer = httpx.post(f"{service.address}/predict", content=file.getvalue(), headers={"Content-Type": "image/jpeg"})
    assert answer.json()["predictions"][0]["class"] == "cedar"
    assert "topwork_internal_errors_total 0.0" in httpx.get(f"{service.address}/metrics").text
