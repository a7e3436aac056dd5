"""The page for labels in a real browser: from unlabelled images to a trained run, by keyboard, by touch, by camera."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import COLOURS, make_photos
from topwork.data.journal import read_journal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "correct-token"


class Labelling:
    """`topwork label` in a process of its own."""

    def __init__(self, folder: Path, *options: object) -> None:
        self.folder = folder
        self.journal = folder.parent / f"{folder.name}.labels.csv"
        self.port = 0
        self._options = [*map(str, options), "--token", TOKEN, "--backbone", "starter", "--size", "32"]
        self.start()

    def start(self) -> None:
        """On the port of before, if there was one."""
        arguments = ["label", str(self.folder), "--no-browser", "--port", str(self.port), *self._options]
        command = [sys.executable, "-m", "topwork", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=self.folder.parent)
        assert self.process.stdout is not None
        matches = (re.search(r"http://127.0.0.1:(\d+)/\S*", line) for line in self.process.stdout)
        found = next(filter(None, matches), None)
        if found is None:
            self.stop()
            raise AssertionError("It did not start.")
        self.opened, self.port = found[0], int(found[1])
        self.address = f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=40)

    def labels(self) -> dict[str, tuple[str, str]]:
        """What the journal comes to: label and source by file."""
        last = {row.file: row for row in read_journal(self.journal) if row.file}
        return {name: (row.label, row.source) for name, row in last.items() if row.label}


@contextmanager
def labelling(folder: Path, *options: object) -> Iterator[Labelling]:
    """The command on a folder; in the end it is stopped."""
    running = Labelling(folder, *options)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def page_of(chromium: Browser, running: Labelling, *, expected: str = "nothing", **options: Any) -> Iterator[Page]:
    """The page; what the console complains of but for `expected`, and requests to elsewhere, fail the test."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith((running.address, "data:")) else wrong.append(asked.url)
    )
    page.goto(running.opened)
    page.get_by_text(re.compile(r"^\d+ images · ")).wait_for()  # all of them were looked at
    yield page
    assert [text for text in wrong if expected not in text] == []
    context.close()


def shown(page: Page) -> str:
    """The name of the image that is shown large."""
    return page.locator("#caption b").inner_text()


def said(page: Page, text: str) -> None:
    page.locator("#said").get_by_text(text).wait_for()


def kind(name: str) -> str:
    """What is on an image, as its name tells."""
    return name.split("-")[0]


def test_from_unlabelled_images_to_a_trained_run_by_keyboard(unlabelled: Path, chromium: Browser) -> None:
    with labelling(unlabelled) as running, page_of(chromium, running) as page:
        assert page.url == running.address  # the token is not to be seen
        keys = page.keyboard

        # each class is made by its name, then has keys of its own
        while len(made := page.locator("#classes button").all_inner_texts()) < 3:
            name = shown(page)
            keys.press("+")
            keys.type(kind(name) if kind(name) != "cedar" else "ceder")
            keys.press("Enter")
            said(page, f"Saved: {name} is ")
            keys.press("Escape")
            assert running.labels()[name][1] == "person"
        assert sorted(text.split("\n")[-1] for text in made) == ["ash", "birch", "ceder"]
        page.get_by_label("Change ceder").click()
        page.get_by_label("New name").fill("cedar")
        keys.press("Enter")
        said(page, "Saved: ceder is called cedar now.")
        assert {label for label, _ in running.labels().values()} == set(COLOURS)

        for i in range(9):
            name = shown(page)
            number = page.locator("#classes button").evaluate_all(
                "(all, name) => all.findIndex((one) => one.dataset.name === name) + 1", kind(name)
            )
            keys.press(kind(name)[0] if i % 2 else str(number))
            said(page, f"Saved: {name} is {kind(name)}.")
        page.locator("#estimate").get_by_text("% interval").first.wait_for()
        page.locator("#curve svg").wait_for()

        # undo, skip, exclude, back to an image that has a label
        count = len(running.labels())
        name = shown(page)
        keys.press("1")
        said(page, f"Saved: {name} is ")
        keys.press("u")
        said(page, f"Undone: {name}.")
        assert shown(page) == name
        assert name not in running.labels()
        keys.press("Space")
        said(page, f"Saved: {name} skipped.")
        excluded = shown(page)
        keys.press("e")
        said(page, f"Saved: {excluded} excluded.")
        page.get_by_text("1 skipped · 1 excluded").wait_for()
        keys.press("ArrowLeft")
        assert shown(page) == excluded
        assert len(running.labels()) == count

        # many at once, and what the machine is sure of
        page.get_by_role("link", name="All images").click()
        page.locator("#labelled").select_option("no")
        page.locator("#class").select_option("ash")
        tiles = page.locator("#grid .tile")
        page.get_by_text(re.compile(r"^1\d images$")).wait_for()
        tiles.nth(0).focus()
        keys.press("Space")
        keys.press("Shift+ArrowRight")
        keys.press("Shift+ArrowRight")
        page.get_by_text("Label 3 selected images:").wait_for()
        chosen = [tiles.nth(i).locator("img").evaluate("image => image.parentElement.title") for i in range(3)]
        keys.press("a")
        said(page, "Saved: 3 images are ash.")
        assert {running.labels()[name] for name in chosen} == {("ash", "person")}
        page.locator("#accept-class").select_option("birch")
        page.locator("#accept-above").fill("50")
        page.get_by_role("button", name="Show them first").click()
        page.get_by_text("images are birch, the machine says").wait_for()
        assert not [label for label in running.labels().values() if label[1] == "machine"]
        taken_out = tiles.first.get_attribute("title")
        tiles.first.click()
        page.get_by_role("button", name=re.compile(r"Accept \d+ as birch")).click()
        said(page, "labelled birch by the machine.")
        accepted = {name for name, label in running.labels().items() if label == ("birch", "machine")}
        assert len(accepted) > 5
        assert taken_out not in accepted

        # a run, its report, and the page to try it
        page.get_by_role("button", name="Train a classifier").click()
        page.get_by_role("link", name="Report").wait_for(timeout=60_000)
        run = page.locator("#training").inner_text().removeprefix("Written: ")
        assert (unlabelled.parent / run / "classifier").is_dir()
        with page.context.expect_page() as report:
            page.get_by_role("link", name="Report").click()
        report.value.get_by_text("accuracy").first.wait_for()
        with page.context.expect_page() as trial:
            page.get_by_role("link", name="Try it").click()
        trial.value.get_by_text("What is on the photo?").wait_for()


def test_on_a_phone_by_touch_and_camera(unlabelled: Path, chromium: Browser) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "color_scheme": "dark"}
    with labelling(unlabelled) as running, page_of(chromium, running, **phone) as page:
        name = shown(page)
        page.get_by_placeholder("Type another class").fill("leaf")
        page.get_by_role("button", name="Label", exact=True).tap()
        said(page, f"Saved: {name} is leaf.")
        name = shown(page)
        page.get_by_role("button", name="leaf", exact=True).tap()
        said(page, f"Saved: {name} is leaf.")
        page.get_by_role("button", name="Undo").tap()
        said(page, f"Undone: {name}.")

        page.get_by_role("button", name="More like it").tap()
        page.get_by_role("heading", name=f"More like {name}").wait_for()
        tiles = page.locator("#grid .tile")
        tiles.nth(0).tap()
        box = tiles.nth(2).bounding_box()
        assert box is not None
        finger = page.context.new_cdp_session(page)
        middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [middle]})
        page.get_by_text("Label 3 selected images:").wait_for()  # a long press selects from the last one to this
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.get_by_role("button", name="leaf", exact=True).tap()
        said(page, "Saved: 3 images are leaf.")
        assert len(running.labels()) == 4

        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            if box is not None:
                assert box["height"] >= 44
                assert box["x"] + box["width"] <= 360
        for view in ("One by one", "All images", "Review"):
            page.get_by_role("link", name=view).tap()
            assert page.evaluate("document.documentElement.scrollWidth") == 360, f"{view} scrolls sideways"

        page.get_by_role("button", name="Add images by camera").tap()
        page.locator("#camera-class").fill("ball")
        while not page.evaluate("document.getElementById('video').videoWidth"):
            page.wait_for_timeout(20)
        page.get_by_role("button", name="Take a photo").tap()
        page.get_by_text("1 photo saved.").wait_for()
        page.get_by_role("button", name="Close the camera").tap()
        [photo] = [name for name, label in running.labels().items() if label == ("ball", "camera")]
        assert (unlabelled / photo).is_file()


def test_planted_wrong_labels_are_reviewed(tmp_path: Path, chromium: Browser) -> None:
    folder = make_photos(tmp_path / "photos", n=20)
    for i in range(3):
        (folder / "ash" / f"{i}{'.jpg' if i % 2 else '.png'}").rename(folder / "birch" / f"planted-{i}.png")
    with labelling(folder, "--review") as running, page_of(chromium, running) as page:
        assert page.url.endswith("#review")
        found = []
        for key, words in (("r", "labelled ash"), ("e", "excluded"), ("k", "kept")):
            page.get_by_text("Given: birch. Likely: ash").wait_for()
            name = page.locator("#finding .tile").get_attribute("title")
            assert name is not None
            found.append(name)
            page.keyboard.press(key)
            said(page, f"Saved: {name} {words}.")
        assert sorted(found) == [f"birch/planted-{i}.png" for i in range(3)]
        rows = {row.file: row for row in read_journal(running.journal)}
        assert rows[found[0]].label == "ash"
        assert [rows[name].state for name in found[1:]] == ["excluded", "kept"]
        for name, state in ((found[2], "labelled"), (found[1], "labelled")):
            page.keyboard.press("u")
            said(page, f"Undone: {name}.")
            assert next(row.state for row in reversed(read_journal(running.journal)) if row.file == name) == state


def test_an_answer_counts_as_saved_only_when_the_program_says_so(unlabelled: Path, chromium: Browser) -> None:
    with labelling(unlabelled) as running, page_of(chromium, running, expected="ERR_") as page:
        strip = page.locator("#strip .tile")
        held: list[Any] = []
        page.route("**/api/label", lambda route: held.append(route))
        first = shown(page)
        page.get_by_placeholder("Type another class").fill("ash")
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        picture = page.locator("#frame img").evaluate("image => [image.alt, image.complete && image.naturalWidth > 0]")
        assert picture[0] != first
        assert picture[1], "the next image is there before the answer"
        while not held:
            page.wait_for_timeout(10)
        assert strip.first.inner_text() == "ash …"
        assert page.locator("#said").inner_text() == ""
        assert page.locator("#about").inner_text().endswith("0 labelled")
        held.pop().continue_()
        said(page, f"Saved: {first} is ash.")
        assert strip.first.inner_text() == "ash"
        page.unroute("**/api/label")

        running.stop()
        second = shown(page)
        page.keyboard.press("a")
        page.get_by_text("1 answer is not saved.").wait_for()
        assert strip.nth(1).inner_text() == "not saved: ash"
        third = shown(page)
        page.keyboard.press("a")
        assert shown(page) == third  # nothing more is taken on
        running.start()
        page.get_by_role("button", name="Try again").click()
        said(page, f"Saved: {second} is ash.")
        assert running.labels() == {first: ("ash", "person"), second: ("ash", "person")}
        assert page.locator("#trouble").is_hidden()


def test_it_is_light_and_loads_nothing_else(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled, ready=False) as page:
        answer = page.client.get("/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.findall(r"://|\son\w+=|style=", answer.text)
        waiting, size = ["page.css", "page.js"], len(answer.content)
        for name in waiting:
            text = page.client.get(f"/{name}").raise_for_status().text
            size += len(text.encode())
            assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
            waiting += sorted(set(re.findall(r'(?:from|import) "./([\w.]+)"', text)) - set(waiting))
        assert len(waiting) > 5
        assert size < 150_000
