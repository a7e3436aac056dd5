"""Take the screenshots that the docs show: of a run's report, of a comparison's page, of the service's page, and of the
page for labels.

    python docs/screenshots.py runs/cifar10-1 compare.html
    python docs/screenshots.py serve
    python docs/screenshots.py label

Sections with pictures are left out: the images of a data set are not ours to show. The service and the page for labels
are shown with leaves that are drawn here, and with a classifier of them that is trained for it.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import sync_playwright

import topwork as tw

IMAGES = Path(__file__).parent / "images"
VIEWS = (("wide", 1000, "light"), ("phone", 360, "dark"))
WITHOUT_PICTURES = "section:has(img) { display: none } pre { display: none }"
LEAVES = {"birch": (0.36, 0, (96, 150, 52)), "oak": (0.30, 5, (74, 116, 44)), "willow": (0.11, 0, (120, 150, 84))}
"""How wide a leaf is for its length, how many lobes it has, its colour."""
LOOKALIKES = {"beech": (0.33, 0, (90, 142, 50)), "elm": (0.39, 0, (92, 154, 56))}


def main(run: str, comparison: str) -> None:
    """Write the report's and the comparison's `images/*.png` beside this file."""
    pages = {"report": Path(run) / "report.html", "compare": Path(comparison)}
    with chromium() as browser:
        for name, path in pages.items():
            for view, width, scheme in VIEWS:
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.goto(path.resolve().as_uri())
                page.add_style_tag(content=WITHOUT_PICTURES)
                save(page, f"{name}-{view}.png")


def service() -> None:
    """Write `images/serve-*.png`: three leaves answered, one of them explained, and something unknown."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder, served(Path(folder) / "leaves") as address:
        birch, oak, willow = (leaf(name, seed) for name, seed in zip(LEAVES, (9_020, 9_001, 9_022), strict=True))
        shown = [("oak.jpg", oak), ("window.jpg", window()), ("birch.jpg", birch), ("willow.jpg", willow)]
        for view, width, scheme in VIEWS:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(address)
            files = [{"name": name, "mimeType": "image/jpeg", "buffer": encoded(image)} for name, image in shown]
            page.locator("#files").set_input_files(files if view == "wide" else files[:2])
            for title in page.locator("h2").all():
                title.get_by_text("…").wait_for(state="detached")
            page.get_by_role("button", name="Why this answer").first.click()
            page.get_by_text("Hide why").wait_for(timeout=60_000)
            page.evaluate("document.activeElement.blur()")
            save(page, f"serve-{view}.png")


def labels() -> None:
    """Write `images/label-*.png`: leaves of which some are labelled already."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder, labelling(Path(folder) / "leaves") as address:
        page = browser.new_page(viewport={"width": 1280, "height": 960})
        page.goto(address)
        page.get_by_text("240 images ·").wait_for()
        for i in range(44):
            name = page.locator("#caption b").inner_text()
            page.locator("#name").fill(kind_of(int(name[5:9])))
            page.keyboard.press("Enter")
            page.get_by_text(f"240 images · {i + 1} labelled").wait_for()
        page.locator("#curve circle").nth(3).wait_for()
        page.evaluate("document.activeElement.blur()")
        page.locator("#classes .likely").wait_for()
        page.wait_for_timeout(2000)
        save(page, "label-wide.webp", whole=False)
        page = browser.new_page(viewport={"width": 360, "height": 780}, color_scheme="dark", has_touch=True)
        page.goto(address)
        page.locator("#classes .likely").wait_for()
        page.wait_for_timeout(2000)
        save(page, "label-phone.webp", whole=False)


def kind_of(i: int) -> str:
    """The name of a leaf that is to be labelled."""
    return [*LEAVES, *LOOKALIKES][i * 7 % 5]


@contextmanager
def labelling(folder: Path) -> Iterator[str]:
    """The address of a page on which unlabelled leaves wait."""
    folder.mkdir()
    for i in range(240):
        leaf(kind_of(i), i).save(folder / f"leaf-{i:04}.jpg", quality=90)
    command = [sys.executable, "-m", "topwork", "label", str(folder), "--no-browser", "--quiet"]
    with started(command) as address:
        yield address


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def save(page: Any, name: str, *, whole: bool = True) -> None:
    """The page, `whole` or what a screen shows of it, as `images/NAME`."""
    IMAGES.mkdir(exist_ok=True)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole)))
    if name.endswith(".webp"):  # photographs would be large as PNG
        picture.save(IMAGES / name, quality=85)
    else:
        picture.quantize(256).save(IMAGES / name, optimize=True)
    page.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a service that tells the leaves apart."""
    names = [name for name in LEAVES for _ in range(90)]
    images = [leaf(name, i) for i, name in enumerate(names)]
    tw.fit_classifier(tw.ImageDataset.from_arrays(images, names), verbose=False).save(folder)
    with started([sys.executable, "-m", "topwork", "serve", str(folder), "--port", "0"]) as address:
        yield address


@contextmanager
def started(command: list[str]) -> Iterator[str]:
    """The address that a program prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://[^\s]+", process.stdout.readline())
    assert found is not None
    try:
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def leaf(name: str, seed: int) -> Image.Image:
    """A leaf on pale ground, its size, place, turn and light by chance."""
    random = np.random.default_rng(seed)
    width, lobes, colour = (LEAVES | LOOKALIKES)[name]
    along = np.linspace(0, np.pi, 200)
    half = width * np.sin(along) ** 0.8 * (1 + (0.28 * np.cos(2 * lobes * along) if lobes else 0))
    outline = np.concatenate(
        [np.stack([along / np.pi - 0.5, half], 1), np.stack([along / np.pi - 0.5, -half], 1)[::-1]]
    )
    turn, length = random.uniform(0, 2 * np.pi), random.uniform(250, 330)
    middle = np.array((240, 180)) + random.uniform(-20, 20, 2)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    ground = np.array((226, 220, 205)) * random.uniform(0.85, 1.0)
    image = Image.new("RGB", (480, 360), tuple(ground.astype(int).tolist()))
    draw = ImageDraw.Draw(image)
    light = random.uniform(0.8, 1.2)
    green = tuple(int(min(255, light * part)) for part in colour)
    vein = tuple(int(min(255, 1.35 * part)) for part in green)

    def place(points: Any) -> list[tuple[float, float]]:
        return [tuple(point) for point in (length * np.atleast_2d(points)) @ turned.T + middle]

    draw.line(place([[-0.68, 0], [-0.45, 0]]), fill=vein, width=6)
    draw.polygon(place(outline), fill=green)
    draw.line(place([[-0.5, 0], [0.47, 0]]), fill=vein, width=4)
    for at in np.linspace(-0.3, 0.25, 6):
        for side in (-1, 1):
            draw.line(place([[at, 0], [at + 0.12, side * 0.6 * width]]), fill=vein, width=2)
    noise = random.normal(0, 5, (360, 480, 3))
    return Image.fromarray(
        np.clip(np.asarray(image.filter(ImageFilter.GaussianBlur(1))) + noise, 0, 255).astype(np.uint8)
    )


def window() -> Image.Image:
    """Something that is no leaf."""
    image = Image.new("RGB", (480, 360), (150, 84, 66))
    draw = ImageDraw.Draw(image)
    for y in range(0, 360, 24):
        for x in range(-30 * (y // 24 % 2), 480, 60):
            draw.rectangle((x, y, x + 57, y + 21), fill=(168 + (x * 7 + y) % 23, 92, 74))
    draw.rectangle((150, 60, 330, 300), fill=(240, 238, 230))
    for x in (162, 246):
        for y in (72, 186):
            draw.rectangle((x, y, x + 72, y + 102), fill=(120, 160, 196))
    return image.filter(ImageFilter.GaussianBlur(1))


def encoded(image: Image.Image) -> bytes:
    """As a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    pages = {("serve",): service, ("label",): labels}.get(tuple(sys.argv[1:]))
    pages() if pages else main(*sys.argv[1:])
