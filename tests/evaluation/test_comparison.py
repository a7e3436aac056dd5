"""The race drops what is slower and worse, looks at no test image, keeps to its time, and says what to take."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import topwork as tw
from helpers import make_photos
from topwork.data.splits import deal_folds, find_units, growing_sample
from topwork.errors import DataError, OptionError, UnknownNameError
from topwork.evaluation import comparison as module
from topwork.evaluation.comparison import Candidate, ComparedBackbone, Comparison, compare_backbones, mcnemar
from topwork.evaluation.intervals import proportion
from topwork.features.extraction import extract_features
from topwork.progress import Reporter
from topwork.report.comparison import comparison_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", n=60)


def test_mcnemar_is_the_exact_sign_test() -> None:
    one, other = np.zeros(100, bool), np.zeros(100, bool)
    one[:10] = True
    other[10:12] = True
    assert mcnemar(one, other) == pytest.approx(0.0385742, abs=1e-6)  # 2 * P(Binomial(12, 1/2) <= 2)
    assert mcnemar(one, one) == 1.0


def test_folds_keep_copies_together_and_spread_every_class() -> None:
    random = np.random.default_rng(0)
    digests = np.array([random.bytes(16) for _ in range(300)], dtype="S16")
    digests[100:120] = digests[:20]
    labels = np.arange(300) % 3
    labels[100:120] = labels[:20]
    units = find_units(digests)
    folds = deal_folds(labels, units, 5)
    assert np.array_equal(folds[100:120], folds[:20])
    for k in range(3):
        assert np.ptp(np.bincount(folds[labels == k], minlength=5)) <= 14  # 20 of the images come as pairs


def test_sample_grows_in_proportion() -> None:
    digests = np.array([f"{i:016d}" for i in range(1000)], dtype="S16")
    labels = (np.arange(1000) < 100).astype(int)
    order = growing_sample(labels, find_units(digests))
    assert sorted(order) == list(range(1000))
    for n in (50, 200, 500):
        assert labels[order[:n]].mean() == pytest.approx(0.1, abs=0.02)


def test_what_is_slower_and_worse_is_dropped_and_no_test_image_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """On digits, 32-pixel features through a maximum of random weights lose to the starter."""
    seen: list[set[int]] = []
    times = iter([0.001, 0.002])

    def spy(dataset: tw.ImageDataset, backbone: tw.Backbone, **options: object) -> tw.Features:
        seen.append(set(dataset.rows.tolist()))
        features = extract_features(dataset, backbone)
        if backbone.size == 32:
            features.values[:] = np.random.default_rng(0).normal(size=features.values.shape)
        return features

    monkeypatch.setattr(module, "extract_features", spy)
    monkeypatch.setattr(module, "_seconds_per_image", lambda engine, size: next(times))
    dataset = tw.ImageDataset.from_name("digits")
    found = compare_backbones(dataset, ["starter", "starter@32"])
    first, dropped = found.backbones
    assert first.title == "starter@64"
    assert first.accuracy.n == len(dataset) - len(dataset.test)
    assert first.accuracy.value > 0.95
    assert dropped.dropped_for == "starter@64"
    assert dropped.accuracy.n == 500
    assert found.seconds_saved > 0
    assert not set().union(*seen) & set(dataset.test.rows.tolist())
    assert seen[0] == seen[1] < seen[2]


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


def test_candidates_as_typed() -> None:
    assert Candidate.read("DenseNet121") == Candidate("densenet121")
    assert Candidate.read("mobilenet_v2@160=w.h5") == Candidate("mobilenet_v2", 160, "w.h5")
    assert Candidate.read("mobilenet_v2@160=a/w.h5").title == "mobilenet_v2@160=w.h5"
    assert Candidate.read("resnet50").title == "resnet50@224"
    for text, error in (("resnet5", UnknownNameError), ("resnet50@big", OptionError), ("resnet50@8", OptionError)):
        with pytest.raises(error):
            Candidate.read(text)


def test_no_time_leaves_the_first_alone(photos: Path) -> None:
    found = compare_backbones(tw.ImageDataset.from_directory(photos), ["starter@32", "starter@48"], budget=1e-9)
    assert [backbone.title for backbone in found.backbones] == ["starter@32"]
    assert found.left_out == {"starter@48": "the time was up before its turn"}


def test_a_budget_makes_rounds_smaller(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setattr(module, "_seconds_per_image", lambda engine, size: 0.01)
    monkeypatch.setattr(module, "_ENOUGH_TO_TIME", 10**9)
    rounds: list[int | None] = []
    next_sample = module._next_sample
    monkeypatch.setattr(module, "_next_sample", lambda *given: rounds.append(next_sample(*given)) or rounds[-1])
    dataset = tw.ImageDataset.from_name("digits")
    began = time.perf_counter()
    found = compare_backbones(dataset, ["starter@32"], budget=8.0)  # 14 s, were it really 10 ms an image
    assert time.perf_counter() - began < 8.0
    whole = [500, found.n_available]  # what the rounds would be with all the time
    assert all(n < most for n, most in zip(rounds, whole, strict=False) if n is not None)
    assert rounds[0] is not None


def test_the_command_prints_draws_and_leaves_out(topwork: Callable[..., object], photos: Path, tmp_path: Path) -> None:
    arguments = ("compare", photos, "--backbones", "starter,starter@32,mobilenet_v2", "--offline", "--out", "c.html")
    answer = topwork(*arguments)
    assert answer.status == 0, answer.err  # type: ignore[attr-defined]
    assert "recommended" in answer.out  # type: ignore[attr-defined]
    assert "Left out: mobilenet_v2@224" in answer.out  # type: ignore[attr-defined]
    assert "mobilenet_v2@224 is left out: The weights of mobilenet_v2 aren't on this machine" in answer.err  # type: ignore[attr-defined]
    assert f"Next: topwork train {photos} --backbone starter --size" in answer.out  # type: ignore[attr-defined]
    assert "<svg" in (tmp_path / "c.html").read_text("utf-8")
    facts = json.loads(topwork(*arguments, "--json", "--quiet").out)  # type: ignore[attr-defined]
    assert {backbone["title"] for backbone in facts["backbones"]} == {"starter@64", "starter@32"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "There is no 'nowhere'"),
        (("photos", "--backbones", "resnet5"), "Did you mean 'resnet50'?"),
        (("photos", "--backbones", "starter@big"), "Expected a size in pixels after '@'"),
        (("photos", "--budget", "soon"), "Expected a time such as 90s, 10m or 1h30m; got 'soon'"),
        (("photos", "--budget", ""), "Expected a time such as"),
        (("photos", "--backbones", ","), "Name a network"),
        (("photos", "--backbones", "resnet50", "--offline"), "None of the networks can be compared"),
    ],
)
def test_bad_input_gets_an_answer(
    topwork: Callable[..., object], photos: Path, arguments: tuple[str, ...], message: str
) -> None:
    answer = topwork("compare", *arguments)
    assert answer.status != 0  # type: ignore[attr-defined]
    assert message in answer.err  # type: ignore[attr-defined]
    assert "Traceback" not in answer.err  # type: ignore[attr-defined]


def test_one_class_is_refused(tmp_path: Path) -> None:
    dataset = tw.ImageDataset.from_directory(make_photos(tmp_path / "one", classes=("ash",)))
    with pytest.raises(DataError, match="one class"):
        compare_backbones(dataset, ["starter@32"], reporter=Reporter())


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
