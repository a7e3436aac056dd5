"""The service's answers: those of the classifier, in one shape, and errors in words."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import topwork as tw
from helpers import COLOURS, make_photo

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def client(service: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.address, timeout=30) as client:
        yield client


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def photo(i: int = 0, form: str = "PNG") -> bytes:
    return encoded(make_photo(list(COLOURS.values())[i % 3], 5000 + i), form)


def squares() -> bytes:
    """An image unlike the photographs."""
    return encoded(Image.fromarray(((np.indices((64, 64)) // 8).sum(axis=0) % 2 * 255).astype(np.uint8)))


def test_raw_bytes_are_one_image(client: httpx.Client, classifier: tw.ImageClassifier) -> None:
    for kind in ("image/png", "image/jpeg", "application/octet-stream"):
        answer = client.post("/predict", content=photo(1), headers={"Content-Type": kind})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert list(answer.json()) == ["predictions"]
        [found] = answer.json()["predictions"]
        assert list(found) == ["image", "class", "probability", "unknown", "runners_up"]
        assert found["class"] == "birch"
        assert found["unknown"] is False
        assert len(found["runners_up"]) == 2
    expected = classifier.predict_proba([photo(1)])[0]
    assert found["probability"] == pytest.approx(expected.max(), abs=1e-6)


def test_many_images_are_answered_in_order_as_python_answers(
    client: httpx.Client, classifier: tw.ImageClassifier
) -> None:
    images = [photo(i, "JPEG" if i % 2 else "PNG") for i in range(32)]
    files = [("images", (f"{i} ä.png", image)) for i, image in enumerate(images)]
    found = client.post("/predict", files=files, params={"runners_up": 2}).json()["predictions"]
    assert [item["image"] for item in found] == [f"{i} ä.png" for i in range(32)]
    probabilities = classifier.predict_proba(images)
    for item, row in zip(found, probabilities, strict=True):
        given = {item["class"]: item["probability"]} | {
            other["class"]: other["probability"] for other in item["runners_up"]
        }
        assert [given[name] for name in classifier.class_names] == pytest.approx(row, abs=2e-6)


def test_requests_that_arrive_together_get_what_they_get_alone(client: httpx.Client) -> None:
    images = [photo(i) for i in range(60)]

    def ask(image: bytes) -> dict[str, Any]:
        return dict(client.post("/predict", content=image, headers=JPEG).json()["predictions"][0])

    alone = [ask(image) for image in images]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(ask, images))
    for one, other in zip(alone, together, strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=2e-6)


def test_an_image_unlike_all_others_is_unknown(client: httpx.Client) -> None:
    [found] = client.post("/predict", content=squares(), headers=JPEG).json()["predictions"]
    assert found["unknown"] is True
    assert found["class"] in COLOURS


def test_runners_up_are_as_many_as_asked_for(client: httpx.Client) -> None:
    for asked, given in ((0, 0), (1, 1), (10, 2)):
        answer = client.post("/predict", content=photo(), headers=JPEG, params={"runners_up": asked})
        assert len(answer.json()["predictions"][0]["runners_up"]) == given
    for wrong in ("-1", "many", "1.5"):
        answer = client.post("/predict", content=photo(), headers=JPEG, params={"runners_up": wrong})
        assert answer.status_code == 422
        assert wrong in answer.json()["detail"]


def test_a_bad_image_among_others_is_named_and_costs_only_itself(client: httpx.Client) -> None:
    files = [("images", ("a.png", photo(0))), ("images", ("b.txt", b"no image")), ("images", ("c.png", photo(2)))]
    answer = client.post("/predict", files=files)
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert [item.get("class") for item in found] == ["ash", None, "cedar"]
    assert list(found[1]) == ["image", "error"]
    assert "not a JPEG" in found[1]["error"]


@pytest.mark.parametrize("content", [b"no image", photo()[:60], b"\xff\xd8\xff\xe0" + bytes(100)])
def test_one_bad_image_is_an_error(client: httpx.Client, content: bytes) -> None:
    for answer in (
        client.post("/predict", content=content, headers=JPEG),
        client.post("/predict", files={"images": ("a.png", content)}),
        client.post("/explain", content=content, headers=JPEG),
    ):
        assert answer.status_code == 422
        assert "can't be read" in answer.json()["detail"]


def test_other_types_and_malformed_forms_are_refused(client: httpx.Client) -> None:
    form = "multipart/form-data; boundary=x"
    cases = [
        (415, "application/json", b"{}"),
        (415, "", b"x"),
        (422, "image/png", b""),
        (400, "multipart/form-data", photo()),
        (400, form, photo()),
        (400, form, b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nabc"),
        (400, "multipart/form-data; boundary=" + 5000 * "y", b"--y"),
        (422, form, b"--x--\r\n"),
        (422, form, b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n\r\n--x--\r\n'),
    ]
    for status, kind, content in cases:
        answer = client.post("/predict", content=content, headers={"Content-Type": kind})
        assert answer.status_code == status, (kind, content, answer.text)
        assert len(answer.json()["detail"]) > 20
    assert client.get("/predict").status_code == 405
    assert client.get("/nothing").status_code == 404
    assert "openapi.json" in client.get("/nothing").json()["detail"]


def test_orientation_and_size_are_as_in_python(client: httpx.Client, classifier: tw.ImageClassifier) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encoded(make_photo(COLOURS["ash"], 1, (900, 500)), "JPEG", exif=exif)
    [found] = client.post("/predict", content=image, headers=JPEG).json()["predictions"]
    assert found["probability"] == pytest.approx(classifier.predict_proba([image]).max(), abs=1e-6)


def test_explanation_has_a_heat_map(client: httpx.Client, classifier: tw.ImageClassifier) -> None:
    from topwork.classifier.explanation import explain

    found = client.post("/explain", content=photo(2), headers=JPEG).json()
    expected = explain(classifier, photo(2))
    assert (found["class"], found["method"]) == ("cedar", "class activation")
    assert np.array(found["heat"]) == pytest.approx(expected.heat, rel=1e-2, abs=1e-3)
    other = client.post("/explain", content=photo(2), headers=JPEG, params={"class": "ash"}).json()
    assert other["class"] == "ash"
    wrong = client.post("/explain", content=photo(2), headers=JPEG, params={"class": "ahs"})
    assert wrong.status_code == 422
    assert "'ash'" in wrong.json()["detail"]
    two = client.post("/explain", files=[("image", photo(0)), ("image", photo(1))])
    assert two.status_code == 422


def test_facts_and_figures(client: httpx.Client, classifier: tw.ImageClassifier) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    facts = client.get("/metadata").json()
    assert facts["class_names"] == list(classifier.class_names)
    assert facts["backbone"] == {"name": "starter", "size": 64, "pooling": "avg", "precision": "f32"}
    assert facts["tells_unknown"] is True
    assert facts["limits"] == {"image_bytes": 20_000_000, "image_pixels": 50_000_000, "images": 32}
    assert facts["training"]["n_train"] > 100
    for content in (b"bad", squares(), photo(1)):
        client.post("/predict", content=content, headers=JPEG)
    text = client.get("/metrics").text
    assert 'topwork_requests_total{path="/predict",status="200"}' in text
    assert 'topwork_predictions_total{class="birch"}' in text
    assert "topwork_waiting_images 0.0" in text
    assert "topwork_internal_errors_total 0.0" in text
    for name in ("bad_images_total", "unknown_images_total", "batch_images_sum", "images_total"):
        assert float(text.split(f"\ntopwork_{name} ")[1].split("\n")[0]) > 0
    from prometheus_client.parser import text_string_to_metric_families

    assert len(list(text_string_to_metric_families(text))) > 8


def test_every_answer_has_the_headers_that_browsers_heed(client: httpx.Client) -> None:
    for path in ("/", "/health", "/nothing", "/metadata"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_the_client_in_the_documentation_works(service: Any, known: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert names["classify"](known / "ash" / "1.jpg", service.address)["class"] == "ash"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_curl_uses_it(service: Any, known: Path) -> None:
    one, other = known / "ash" / "1.jpg", known / "cedar" / "0.png"
    raw = ["--data-binary", f"@{one}", "-H", "Content-Type: image/jpeg"]
    form = ["-F", f"images=@{one}", "-F", f"images=@{other}"]
    for arguments, classes in ((raw, ["ash"]), (form, ["ash", "cedar"])):
        command = ["curl", "--silent", "--fail", *arguments, f"{service.address}/predict"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert [item["class"] for item in json.loads(done.stdout)["predictions"]] == classes
