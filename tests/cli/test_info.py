"""`topwork info`: what a classifier is, and whether it is whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import topwork as tw

Topwork = Callable[..., object]


@pytest.fixture
def classifier(digits_classifier: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(digits_classifier, tmp_path / "oak"))


def test_a_run_and_its_classifier_alone_say_the_same(topwork: Topwork, photos: Path, tmp_path: Path) -> None:
    topwork("train", photos, "--size", "32", "--no-check", "--quiet", "--out", "run")
    metrics = json.loads(Path("run/metrics.json").read_text())
    shutil.copytree("run/classifier", "given")
    found = json.loads(topwork("info", "given", "--json").out)  # type: ignore[attr-defined]
    assert found["test"] == metrics["test"]["accuracy"]
    assert found["class_names"] == ["ash", "birch", "cedar"]
    assert (found["data"], found["intact"], found["tells_unknown"]) == (str(photos), True, True)
    assert found["backbone"] == {"name": "starter", "size": 32, "pooling": "avg", "precision": "f32"}
    lines = topwork("info", "run").out.splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "Classes   3: ash, birch, cedar"
    assert lines[-1] == "Use       topwork predict run/classifier IMAGE"
    assert [line for line in lines if line not in topwork("info", "given").out] == [lines[-5], lines[-1]]  # type: ignore[attr-defined]


def test_a_damaged_and_a_missing_file_are_named(topwork: Topwork, classifier: Path) -> None:
    assert topwork("info", classifier).status == 0  # type: ignore[attr-defined]
    with (classifier / "top.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    (classifier / "novelty.safetensors").unlink()
    answer = topwork("info", classifier)
    assert answer.status == 1  # type: ignore[attr-defined]
    for said in ("backbone.safetensors: intact", "top.safetensors: damaged", "novelty.safetensors: missing"):
        assert said in answer.out  # type: ignore[attr-defined]
    assert "copy the folder again" in answer.out  # type: ignore[attr-defined]


def change(classifier: Path, **facts: object) -> None:
    path = classifier / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_manifest_that_names_no_checksum_is_not_trusted(topwork: Topwork, classifier: Path) -> None:
    change(classifier, sha256={})
    assert topwork("info", classifier).status == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("facts", [{"backbone": {}}, {"backbone": 3}, {"class_names": None}, {"training": [1]}])
def test_a_damaged_manifest_is_an_error(topwork: Topwork, classifier: Path, facts: dict[str, object]) -> None:
    change(classifier, **facts)
    answer = topwork("info", classifier)
    assert answer.status == 1  # type: ignore[attr-defined]
    assert "manifest.json' is damaged" in answer.err  # type: ignore[attr-defined]


def test_no_classifier_a_newer_one_and_a_backbone_that_is_not_known(topwork: Topwork, classifier: Path) -> None:
    assert "There is no 'nothing'" in topwork("info", "nothing").err  # type: ignore[attr-defined]
    change(
        classifier,
        backbone={"name": "x", "size": 1, "pooling": "avg", "precision": "f32", "preprocessing": [*[0] * 6, False]},
    )
    assert "licence unknown" in topwork("info", classifier).out  # type: ignore[attr-defined]
    change(classifier, format_version=99)
    assert "newer Topwork" in topwork("info", classifier).err  # type: ignore[attr-defined]


def test_many_classes_and_no_test(topwork: Topwork, classifier: Path) -> None:
    change(classifier, class_names=[f"k{i}" for i in range(1000)])
    out = topwork("info", classifier).out  # type: ignore[attr-defined]
    assert "1,000: k0, k1" in out
    assert "k11 and 988 more" in out
    assert "not recorded" in out


def test_nothing_is_compiled(classifier: Path) -> None:
    code = "import sys, topwork.cli.main as m; m.main(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    command = [sys.executable, "-c", code, "info", str(classifier)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"openvino", "pyarrow", "jax", "keras", "sklearn", "scipy"} & set(loaded)
    assert tw.load_classifier(classifier).class_names == tuple("0123456789")
