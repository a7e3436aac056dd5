"""`topwork compare` prints what it found, says what it left out, and answers bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import make_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", n=60)


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
