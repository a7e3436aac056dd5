"""A file of answers appears whole or not at all; cut short, the same command goes on and gives the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import topwork as tw
import topwork.prediction.resuming as resuming
from helpers import make_photo
from topwork.classifier.classifier import ImageClassifier
from topwork.errors import OptionError
from topwork.prediction.images import find_images
from topwork.prediction.predict import predict_file
from topwork.progress import Reporter


class Listener(Reporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    warning = note


@pytest.fixture(scope="module")
def classifier(digits_classifier: Path) -> ImageClassifier:
    return tw.load_classifier(digits_classifier)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """1,300 different small images as a table, one of them unreadable."""
    random = np.random.default_rng(0)
    contents = []
    for _ in range(1300):
        pixels = random.integers(0, 256, 4 * 4 * 3, np.uint8).tobytes()
        contents.append(b"BM" + (54 + 48).to_bytes(4, "little") + bytes(4) + BITMAP + pixels)
    contents[700] = b"not an image"
    parquet.write_table(pa.table({"image": contents}), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


BITMAP = b"".join(
    value.to_bytes(size, "little")
    for value, size in (
        (54, 4),
        (40, 4),
        (4, 4),
        (4, 4),
        (1, 2),
        (24, 2),
        (0, 4),
        (48, 4),
        (0, 4),
        (0, 4),
        (0, 4),
        (0, 4),
    )
)
"""What stands between a BMP's reserved field and its 4 × 4 pixels."""


def cut_short(classifier: ImageClassifier, source: Any, out: Path, after: int, patch: pytest.MonkeyPatch) -> None:
    """Answer, and press Ctrl-C after so many slices."""
    whole = ImageClassifier.stream

    def stream(*args: Any, **options: Any) -> Iterator[Any]:
        for i, predictions in enumerate(whole(*args, **options)):
            if i == after:
                raise KeyboardInterrupt
            yield predictions

    with patch.context() as context:
        context.setattr(ImageClassifier, "stream", stream)
        with pytest.raises(KeyboardInterrupt):
            predict_file(classifier, source, out)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_resumed_file_is_the_same_to_the_byte(
    classifier: ImageClassifier, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source = find_images([str(table)])
    assert predict_file(classifier, source, tmp_path / f"once.{kind}") == 1
    monkeypatch.setattr(resuming, "IMAGES_A_CHUNK", 1)  # a chunk a slice
    out = tmp_path / f"twice.{kind}"
    cut_short(classifier, source, out, 1, monkeypatch)
    assert not out.exists()
    heard = Listener()
    assert predict_file(classifier, source, out, reporter=heard) == 1
    step = 16 * classifier.engine.batch_size
    assert heard.lines == [f"{step:,} of 1,300 images were answered before; going on from there."]
    assert out.read_bytes() == (tmp_path / f"once.{kind}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"once.{kind}", "table.parquet", out.name]


def test_other_images_are_not_answered_from_what_is_kept(
    classifier: ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        make_photo((200, 60, 40), i).save(tmp_path / f"{i}.png")
    out = tmp_path / "answers.csv"
    monkeypatch.setattr(resuming, "IMAGES_A_CHUNK", 1)
    kept = tmp_path / ".answers.csv.part"

    def keep_all() -> None:
        source = find_images([str(tmp_path)])
        facts = resuming.answer_facts(classifier, source)
        with resuming.open_kept(out, classifier, source, facts, Reporter()) as answers:
            answers.take(classifier.stream(source))

    keep_all()
    assert len(list(kept.glob("*.safetensors"))) == 1
    time.sleep(0.01)
    make_photo((40, 70, 200), 9).save(tmp_path / "1.png")  # the same name, another picture
    heard = Listener()
    predict_file(classifier, find_images([str(tmp_path)]), out, reporter=heard)
    assert any("(other images); beginning anew" in line for line in heard.lines)
    assert not kept.exists()


def test_one_file_is_made_by_one_process_at_a_time(classifier: ImageClassifier, table: Path, tmp_path: Path) -> None:
    source, out = find_images([str(table)]), tmp_path / "answers.csv"
    with (
        resuming.open_kept(out, classifier, source, {}, Reporter()),
        pytest.raises(OptionError, match="Another process is writing"),
    ):
        predict_file(classifier, source, out)


def test_a_finished_file_is_not_computed_again_nor_that_of_another_classifier_overwritten(
    topwork: Callable[..., Any], classifier: ImageClassifier, digits_classifier: Path, tmp_path: Path
) -> None:
    for i in range(3):
        make_photo((200, 60, 40), i).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    command = ["predict", digits_classifier, "0.png", "1.png", "bad.png", "--out", "answers.csv"]
    assert topwork(*command).status == 1
    before = (tmp_path / "answers.csv").stat()
    again = topwork(*command)
    assert again.status == 1
    assert "Already complete: 3 answers." in again.err
    assert "3 answers: answers.csv" in again.err
    assert "1 of 3 images can't be read" in again.err
    assert (tmp_path / "answers.csv").stat().st_ino == before.st_ino  # not written again
    heard = Listener()
    source = find_images(["0.png", "1.png", "bad.png"])
    assert predict_file(tw.load_classifier(digits_classifier), source, Path("answers.csv"), reporter=heard) == 1
    assert heard.lines == ["Already complete: 3 answers."]
    assert topwork(*command, "--runners-up", "0").status == 1  # other columns, the same classifier
    assert "class_2" not in (tmp_path / "answers.csv").read_text()
    assert topwork("predict", digits_classifier, "2.png", "--out", "answers.csv").status == 0  # other images
    other = replace(classifier, class_names=tuple("abcdefghij"))
    with pytest.raises(OptionError, match="isn't known as answers of this classifier"):
        predict_file(other, source, Path("answers.csv"))
    (tmp_path / "mine.csv").write_text("a,b\n")
    refused = topwork("predict", digits_classifier, "2.png", "--out", "mine.csv")
    assert refused.status == 1
    assert "or replace it: --replace" in refused.err
    assert (tmp_path / "mine.csv").read_text() == "a,b\n"
    assert topwork("predict", digits_classifier, "2.png", "--out", "mine.csv", "--replace").status == 0
    assert topwork("predict", digits_classifier, "2.png", "--replace").status == 2
    predict_file(other, source, Path("answers.csv"), replace=True)
    (tmp_path / "answers.csv").write_text("changed by hand\n")
    with pytest.raises(OptionError):
        predict_file(other, source, Path("answers.csv"))


def test_killed_at_any_moment_it_goes_on(digits_classifier: Path, table: Path, tmp_path: Path) -> None:
    # small chunks, and time between slices, so that the kill falls among them
    code = (
        "import time, topwork.prediction.resuming as r, topwork.__main__ as m\n"
        "from topwork.classifier.classifier import ImageClassifier as C\n"
        "r.IMAGES_A_CHUNK, whole = 1, C.predict_features\n"
        "C.predict_features = lambda *a: (time.sleep(0.5), whole(*a))[1]\n"
        "m.run()"
    )
    answers = ["predict", str(digits_classifier), str(table), "--out"]
    with subprocess.Popen([sys.executable, "-c", code, *answers, "killed.csv"], cwd=tmp_path) as child:
        while not list(tmp_path.glob(".killed.csv.part/*.safetensors")):
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    assert not (tmp_path / "killed.csv").exists()
    for name in ("killed.csv", "whole.csv"):
        command = [sys.executable, "-m", "topwork", *answers, name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1  # one image can't be read
        assert "1 of 1,300 images can't be read; it is named among the answers." in done.stderr
        assert ("answered before; going on from there" in done.stderr) == (name == "killed.csv")
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
