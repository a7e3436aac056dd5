"""The report says what was measured, escapes what it is given, loads nothing, and can be read on any screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import topwork as tw
from helpers import make_photo, make_photos
from topwork.evaluation.metrics import evaluate_probabilities
from topwork.report.charts import Chart, Line
from topwork.report.verdict import headline, sentences

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with mistakes, an unreadable image, and a class name that is code."""
    folder = tmp_path_factory.mktemp("report")
    photos = make_photos(folder / "photos", n=40)
    hostile = photos / "<script>alert(1)<"
    hostile.mkdir()
    for i in range(40):
        make_photo(((190, 60, 40), (50, 170, 60))[i % 2], 900 + i).save(hostile / f"{i}.png")  # like ash, or birch
    (photos / "ash" / "broken.jpg").write_bytes(b"not an image")
    dataset = tw.ImageDataset.from_directory(photos)
    return tw.train(dataset, top=tw.MLPTop([16], epochs=20), out=folder / "run").folder / "report.html"


def test_it_says_what_was_measured(report: Path) -> None:
    import json

    page = report.read_text("utf-8").replace("\u00a0", " ")
    metrics = json.loads((report.parent / "metrics.json").read_text())
    accuracy = metrics["test"]["accuracy"]
    assert f"Right on {100 * accuracy['value']:.1f} % (95 % interval" in page
    assert f"of {accuracy['n']:,} images" in page
    assert "broken.jpg" in page
    for result in metrics["test"]["classes"]:
        assert f"{100 * result['recall']['value']:.1f} %" in page
    wrong = accuracy["n"] - round(accuracy["value"] * accuracy["n"])
    mistakes = page.split('id="mistakes"')[1].split("</section>")[0]
    assert mistakes.count("data:image/jpeg") == min(12, wrong) > 0


def part_of(page: str, name: str) -> str:
    """The section with this heading's id."""
    return page.split(f'id="{name}"')[1].split("</section>")[0]


def test_findings_are_shown_as_pictures_the_worst_first(topwork: Callable[..., object], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=60)
    for i in range(14):
        (photos / "ash" / f"again {i}.png").write_bytes((photos / "ash" / f"{2 * i}.png").read_bytes())
    (photos / "birch" / "ash.png").write_bytes((photos / "ash" / "40.png").read_bytes())
    Image.new("RGB", (48, 40), "white").save(photos / "ash" / "white.png")
    topwork("train", photos, "--quiet")
    page = (tmp_path / "runs" / "photos-1" / "report.html").read_text("utf-8").replace("\u00a0", " ")
    copies = part_of(page, "copies")
    assert copies.count("data:image/jpeg") == 24
    assert copies.index("two labels") < copies.index("birch/<wbr>ash.png") < copies.index("ash/<wbr>again 0.png")
    assert "… and 3 more in findings.csv." in copies
    assert "ash/<wbr>white.png" in part_of(page, "strange").split("</li>")[0]


def test_label_issues_are_shown_with_both_labels_and_the_probability(tmp_path: Path) -> None:
    digits = tw.ImageDataset.from_name("digits")
    images, labels = list(digits.source.payloads(digits.rows)), digits.labels.copy()
    turned = np.arange(0, len(labels), 50)
    labels[turned] = (labels[turned] + 5) % 10
    dataset = tw.ImageDataset.from_arrays(images, labels, class_names=digits.class_names)
    run = tw.train(dataset, tw.load_backbone("starter", size=32), out=tmp_path / "run")
    issues = part_of((run.folder / "report.html").read_text("utf-8").replace("\u00a0", " "), "issues")
    shown = re.findall(
        r"labelled <strong>(\d)</strong> \(probability (?:below )?([\d.]+) %\), looks like <strong>(\d)<", issues
    )
    assert len(shown) == issues.count("data:image/jpeg") == 12
    assert [float(probability) for _, probability, _ in shown] == sorted(float(row[1]) for row in shown)
    assert sum((int(label) + 5) % 10 == int(likely) for label, _, likely in shown) > 9
    assert re.search(r"… and \d+ more in findings.csv", issues)


def test_names_are_escaped_and_nothing_is_loaded(report: Path) -> None:
    page = report.read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)


def visit(page: Page, report: Path) -> None:
    """Open it; an error on the console, or a request that leaves the file, fails the test."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    address = report.resolve().as_uri()
    page.on("request", lambda request: wrong.append(request.url) if request.url != address else None)
    page.route("data:**", lambda route: route.continue_())
    page.goto(address)
    assert [item for item in wrong if not item.startswith("data:")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_can_be_read_in_a_browser(report: Path, chromium: Browser, width: int, scheme: str) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    visit(page, report)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    images = page.locator("img")
    assert images.count() > 0
    for i in range(images.count()):
        assert images.nth(i).evaluate("image => image.complete && image.naturalWidth > 0")
        assert images.nth(i).get_attribute("alt")
    plots = page.locator("svg")
    assert plots.count() == 3
    for i in range(plots.count()):
        box = plots.nth(i).bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["height"] > 100
        assert plots.nth(i).get_attribute("aria-label")
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, paper) > 7
    assert contrast(page.locator("figcaption").first.evaluate("e => getComputedStyle(e).color"), paper) > 4.5
    page.close()


def test_what_is_wider_than_the_screen_is_reached_by_keyboard(report: Path, chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": 360, "height": 800})
    visit(page, report)
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Confusion matrix"
    page.close()


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours as `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        channels = np.array([int(value) for value in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_verdict_of_a_small_and_of_a_perfect_test() -> None:
    labels = np.arange(20) % 2
    probabilities = np.eye(2)[labels] * 0.98 + 0.01
    perfect = evaluate_probabilities(labels, probabilities, ("a", "b"))
    assert headline(perfect).startswith("Right on 100.0 % (95 % interval 83.9 to 100.0 %) of 20 images")
    assert "No image was called wrongly." in sentences(perfect)
    assert any("The test is small" in sentence for sentence in sentences(perfect))


def test_probabilities_are_doubted_only_where_chance_does_not_explain_it() -> None:
    random = np.random.default_rng(0)

    def said(n: int, exponent: float) -> str:
        """Of n answers whose probabilities are those of a calibrated classifier, sharpened by an exponent."""
        sure = random.uniform(0.5, 1, n)
        labels = (random.random(n) > sure).astype(int)
        called = sure**exponent / (sure**exponent + (1 - sure) ** exponent)
        return " ".join(sentences(evaluate_probabilities(labels, np.stack([called, 1 - called], 1), ("a", "b"))))

    assert "used as they are: on average" in said(20_000, 1.0)
    assert "can be chance" in said(150, 1.0)
    assert "more than chance explains. Use them to rank images" in said(2000, 3.0)
    assert "more than chance explains. Use them to rank images" in said(200, 8.0)


def test_many_classes_get_pairs_and_no_matrix(topwork: Callable[..., object], tmp_path: Path) -> None:
    photos = tmp_path / "many"
    random = np.random.default_rng(0)
    for k in range(31):
        (photos / f"kind {k}").mkdir(parents=True)
        for i in range(8):
            make_photo(tuple(random.integers(0, 255, 3)), 100 * k + i).save(photos / f"kind {k}" / f"{i}.png")
    answer = topwork("train", photos, "--quiet")
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    page = (tmp_path / "runs" / "many-1" / "report.html").read_text("utf-8")
    assert 'class="matrix"' not in page
    assert "was called" in page


def test_chart_of_one_value_and_of_a_log_axis() -> None:
    flat = Chart("flat", "x", "y", [Line("", [1, 2], [3, 3], "accent")]).svg()
    assert "nan" not in flat
    log = Chart("log", "x", "y", [Line("", [1e-6, 1e5], [0, 1], "accent")], log_x=True).svg()
    assert ">1e-6<" in log
    assert ">10,000<" in log
