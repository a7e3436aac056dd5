"""Take the screenshots that the docs show: of a run's report, and of a comparison's page.

    python docs/screenshots.py runs/cifar10-1 compare.html

Sections with pictures are left out: the images of a data set are not ours to show.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
VIEWS = (("wide", 1000, "light"), ("phone", 360, "dark"))
WITHOUT_PICTURES = "section:has(img) { display: none } pre { display: none }"


def main(run: str, comparison: str) -> None:
    """Write `images/*.png` beside this file."""
    IMAGES.mkdir(exist_ok=True)
    pages = {"report": Path(run) / "report.html", "compare": Path(comparison)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, path in pages.items():
            for view, width, scheme in VIEWS:
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.goto(path.resolve().as_uri())
                page.add_style_tag(content=WITHOUT_PICTURES)
                picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
                picture.quantize(256).save(IMAGES / f"{name}-{view}.png", optimize=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
