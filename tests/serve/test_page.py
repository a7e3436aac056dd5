"""The page in a real browser: drop, paste, keyboard, camera, a bad file, the heat map, a phone, no network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from helpers import COLOURS, make_photo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror=alert(1)>.png"
FILES = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, type, content] of files) {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
  }
  return transfer;
}"""
CAMERA = """
navigator.mediaDevices.getUserMedia = async () => {
  const canvas = document.createElement("canvas");
  canvas.width = 320; canvas.height = 240;
  const draw = () => {
    const context = canvas.getContext("2d");
    context.fillStyle = "rgb(50, 170, 60)";
    context.fillRect(0, 0, 320, 240);
  };
  draw(); setInterval(draw, 30);
  return canvas.captureStream(30);
};
"""


def photo(name: str = "ash", i: int = 0, size: tuple[int, int] = (48, 40)) -> bytes:
    file = BytesIO()
    make_photo(COLOURS[name], 7000 + i, size).save(file, "PNG")
    return file.getvalue()


def payload(name: str, content: bytes, type_: str = "image/png") -> Any:
    return {"name": name, "mimeType": type_, "buffer": content}


@contextmanager
def opened(chromium: Browser, address: str, *, expected: tuple[str, ...] = (), **options: Any) -> Iterator[Page]:
    """The page; what the console complains of, and requests to elsewhere, fail the test but for `expected`."""
    context = chromium.new_context(viewport={"width": options.pop("width", 1000), "height": 800}, **options)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))

    def look(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(request.url)

    page.on("request", look)
    page.goto(address)
    yield page
    assert [text for text in wrong if not any(part in text for part in expected)] == []
    context.close()


def answers(page: Page, n: int) -> list[str]:
    """The titles of n answers, once they are there."""
    titles = page.locator("#results h2")
    for i in range(n):
        titles.nth(i).get_by_text("…").wait_for(state="detached")
    found = titles.all_inner_texts()
    assert len(found) == n
    return [text.replace("\u00a0", " ") for text in found]


def classes(page: Page, n: int) -> list[str]:
    """The nearest class of each, whether it is called unknown or not: of ordinary photos one in twenty is."""
    answers(page, n)
    return [page.locator(".bars").nth(i).locator("span").first.inner_text() for i in range(n)]


@pytest.fixture
def page(service: Any, chromium: Browser) -> Iterator[Page]:
    with opened(chromium, service.address) as page:
        yield page


def test_it_is_light_and_loads_nothing_else(service: Any) -> None:
    answer = httpx.get(service.address)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert len(answer.content) < 100_000
    assert "://" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_chosen_photos_are_answered_in_order(page: Page) -> None:
    page.get_by_text("It knows 3 classes: ash, birch, cedar.").wait_for()
    page.locator("#files").set_input_files([payload(f"{name}.png", photo(name)) for name in COLOURS])
    assert classes(page, 3) == ["ash", "birch", "cedar"]
    assert all(text == "Unknown" or text.endswith(" %") for text in answers(page, 3))
    first = page.locator(".card").first
    assert first.locator(".bars li").count() == 3
    width = first.locator(".bar i").first.evaluate("e => e.getBoundingClientRect().width / e.parentElement.clientWidth")
    assert width > 0.5
    assert ".png: " in page.locator("#said").inner_text()


def test_photos_are_dropped(page: Page) -> None:
    files = [[f"{i}.png", "image/png", base64.b64encode(photo("birch", i)).decode()] for i in range(2)]
    transfer = page.evaluate_handle(FILES, files)
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    assert "over" in (page.locator("#drop").get_attribute("class") or "")
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    assert "over" not in (page.locator("#drop").get_attribute("class") or "")
    assert classes(page, 2) == ["birch", "birch"]
    page.dispatch_event("body", "drop", {"dataTransfer": page.evaluate_handle("new DataTransfer()")})
    assert "That was no file" in page.locator("#message").inner_text()


def test_a_photo_is_pasted_from_the_clipboard(service: Any, chromium: Browser) -> None:
    with opened(chromium, service.address, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.evaluate(
            """async (content) => {
              const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
              const blob = new Blob([bytes], {type: "image/png"});
              await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
            }""",
            base64.b64encode(photo("cedar")).decode(),
        )
        page.keyboard.press("Control+V")
        assert classes(page, 1) == ["cedar"]
        page.evaluate("navigator.clipboard.writeText('words')")
        page.keyboard.press("Control+V")
        page.get_by_text("There is no picture in the clipboard.").wait_for()


def test_all_of_it_is_done_by_keyboard(page: Page) -> None:
    choosers: list[Any] = []
    page.on(
        "filechooser", lambda chooser: choosers.append(chooser)
    )  # before the key: the browser takes a while to heed it
    page.get_by_text("It knows 3 classes").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    chooser = choosers[0] if choosers else page.wait_for_event("filechooser")
    chooser.set_files([payload("a.png", photo("ash")), payload("b.png", photo("birch"))])
    answers(page, 2)
    labels = []
    for _ in range(7):
        page.keyboard.press("Tab")
        labels.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")
        )
    assert labels[-6:-1] == [
        "Why this answer for a.png?",
        "Remove a.png",
        "Why this answer for b.png?",
        "Remove b.png",
        "Remove all",
    ]
    page.get_by_label("Remove a.png").focus()
    page.keyboard.press("Enter")
    assert page.locator(".card").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove b.png"
    page.keyboard.press("Space")
    assert page.locator(".card").count() == 0
    assert page.evaluate("document.activeElement.id") == "choose"


def test_why_lays_the_heat_over_the_photo_and_takes_it_away(page: Page) -> None:
    pixels = (
        "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 448, 448).data).filter((_, i) => i % 36 < 4)"
    )
    page.locator("#files").set_input_files(payload("a.png", photo("ash", size=(90, 60))))
    answers(page, 1)
    canvas = page.locator("canvas")
    assert page.locator("figcaption").inner_text() == "What counts: the centre square."
    plain = canvas.evaluate(pixels)
    page.get_by_role("button", name="Why this answer").click()
    page.get_by_text("Orange speaks for ash, blue against it.", exact=True).wait_for(timeout=60_000)
    heated = canvas.evaluate(pixels)
    changed = sum(one != other for one, other in zip(plain, heated, strict=True))
    assert changed > len(plain) / 4
    warm = max(range(0, len(heated), 4), key=lambda i: heated[i] - heated[i + 2])
    assert heated[warm] - heated[warm + 2] > 80
    page.get_by_text("Hide why").click()
    assert canvas.evaluate(pixels) == plain
    assert page.locator("figcaption").inner_text() == "What counts: the centre square."


def test_a_bad_file_is_said_in_words_and_stops_nothing(service: Any, chromium: Browser) -> None:
    with opened(chromium, service.address, expected=("422",)) as page:
        files = [payload("notes.txt", b"just words", "text/plain"), payload(HOSTILE, photo("cedar"))]
        page.locator("#files").set_input_files([*files, payload("empty.jpg", b"", "image/jpeg")])
        found = answers(page, 3)
        assert found[0] == found[2] == "No answer"
        assert page.locator(".bars span").first.inner_text() == "cedar"
        assert (
            "not a JPEG, PNG, WebP, HEIC, AVIF, JPEG 2000, BMP, GIF or TIFF image"
            in page.locator(".card .bad").first.inner_text()
        )
        assert page.locator(".name").nth(1).inner_text() == HOSTILE
        assert page.locator("#results img").count() == 0


def test_a_photo_unlike_all_others_is_called_unknown(page: Page) -> None:
    squares = Image.new("L", (64, 64))
    squares.putdata([255 * ((x // 8 + y // 8) % 2) for y in range(64) for x in range(64)])
    file = BytesIO()
    squares.save(file, "PNG")
    page.locator("#files").set_input_files(payload("squares.png", file.getvalue()))
    assert answers(page, 1) == ["Unknown"]
    page.get_by_text("It is unlike the photos that this classifier learned from").wait_for()


def test_the_camera_takes_a_photo(service: Any, chromium: Browser) -> None:
    with opened(chromium, service.address) as page:
        page.add_init_script(CAMERA)
        page.reload()
        page.get_by_role("button", name="Use the camera").click()
        while not page.evaluate("document.getElementById('video').videoWidth"):  # the policy forbids wait_for_function
            page.wait_for_timeout(20)
        assert page.evaluate("document.activeElement.id") == "shoot"
        page.keyboard.press("Enter")
        page.locator(".card").wait_for()
        answers(page, 1)
        assert page.locator(".name").inner_text() == "camera 1.jpg"
        assert page.locator("#viewer").is_hidden()
        page.get_by_role("button", name="Use the camera").click()
        page.keyboard.press("Escape")
        assert page.locator("#viewer").is_hidden()
        page.evaluate(
            "void (navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); })"
        )
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_text("There is no camera.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(service: Any, chromium: Browser, scheme: str) -> None:
    with opened(chromium, service.address, width=360, color_scheme=scheme, has_touch=True) as page:
        name = "a-very-long-file-name-without-any-place-to-break-" * 3 + ".png"
        page.locator("#files").set_input_files([payload(name, photo("ash")), payload("b.png", photo("birch"))])
        answers(page, 2)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44
            assert box["x"] + box["width"] <= 360


def test_it_asks_for_the_token(saved: Path, serve: Callable[..., Any], chromium: Browser) -> None:
    with (
        serve(saved, "--max-megabytes", "0.05", TOPWORK_TOKEN="s3cret") as running,
        opened(chromium, running.address, expected=("401",)) as page,
    ):
        page.get_by_label("This service wants a token.").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("The service did not take that token.").wait_for()
        page.get_by_label("This service wants a token.").fill("s3cret")
        page.keyboard.press("Enter")
        page.get_by_text("It knows 3 classes").wait_for()
        large = photo("ash", size=(200, 200))
        page.locator("#files").set_input_files([payload("a.png", photo("ash")), payload("large.png", large)])
        found = answers(page, 2)
        assert found[0] != found[1] == "No answer"
        assert "0.05 at most" in page.locator(".card .bad").inner_text()


def test_a_service_that_is_gone_is_said(saved: Path, serve: Callable[..., Any], chromium: Browser) -> None:
    with serve(saved) as running, opened(chromium, running.address, expected=("ERR_",)) as page:
        page.get_by_text("It knows 3 classes").wait_for()
        running.stop()
        page.locator("#files").set_input_files(payload("a.png", photo("ash")))
        assert answers(page, 1) == ["No answer"]
        assert "can't be reached" in page.locator(".card .bad").inner_text()
