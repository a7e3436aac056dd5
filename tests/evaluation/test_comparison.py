"""What a comparison found says what to take, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from topwork.evaluation.comparison import ComparedBackbone, Comparison, mcnemar
from topwork.evaluation.intervals import proportion
from topwork.report.comparison import comparison_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_mcnemar_is_the_exact_sign_test() -> None:
    one, other = np.zeros(100, bool), np.zeros(100, bool)
    one[:10] = True
    other[10:12] = True
    assert mcnemar(one, other) == pytest.approx(0.0385742, abs=1e-6)  # 2 * P(Binomial(12, 1/2) <= 2)
    assert mcnemar(one, one) == 1.0


def compared(title: str, right: float, milliseconds: float, p_value: float | None) -> ComparedBackbone:
    n = 1000
    return ComparedBackbone(
        title, title, 224, "", 100, 10.0, milliseconds, proportion(round(right * n), n), "", p_value, True
    )


def a_comparison(*backbones: ComparedBackbone, recommended: int) -> Comparison:
    return Comparison(backbones, {"vgg16@224": "no weights"}, backbones[recommended], 1000, 1000, 60.0, 0.0)


def test_advice_says_what_is_sure() -> None:
    best, near = compared("big", 0.9, 30.0, None), compared("small", 0.895, 3.0, 0.4)
    assert a_comparison(best, near, recommended=1).advice == (
        "Take small: 89.5 %, not surely less than big (90.0 %, p = 0.40), and 10.0 times as fast."
    )
    far = compared("small", 0.8, 3.0, 1e-6)
    assert a_comparison(best, far, recommended=0).advice == "Take big: the most accurate, 90.0 %."
    unsure = compared("small", 0.88, 3.0, 0.1)
    assert "not surely more so than small" in a_comparison(best, unsure, recommended=0).advice


@pytest.mark.parametrize("width", [360, 1280])
def test_page_in_a_browser(chromium: Browser, tmp_path: Path, width: int) -> None:
    rows = [compared(f"network {i}", 0.9 - i / 100, 30.0 / (i + 1), 0.3 if i else None) for i in range(9)]
    path = tmp_path / "comparison.html"
    path.write_text(comparison_html(a_comparison(*rows, recommended=1), "<photos>", "topwork train"), "utf-8")
    page = chromium.new_page(viewport={"width": width, "height": 800})
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.goto(path.as_uri())
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    labels = page.locator("svg text", has_text="network ").evaluate_all(
        "texts => texts.map(t => { const b = t.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; })"
    )
    assert len(labels) == 9
    for i, one in enumerate(labels):
        for other in labels[i + 1 :]:
            apart = one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] - 4 or other[1] >= one[3] - 4
            assert apart, "names of networks overlap"
    page.close()
