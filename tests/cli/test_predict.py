"""`topwork predict` as a person uses it: into a pipe, into a file, from standard input, cut short."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from helpers import make_photo, make_photos

Topwork = Callable[..., object]


def test_a_file_names_what_cannot_be_read(topwork: Topwork, digits_classifier: Path, photos: Path) -> None:
    (photos / "ash" / "00 broken.png").write_bytes(b"")
    answer = topwork("predict", digits_classifier, photos, "--out", "answers.parquet", "--unknown")
    assert answer.status == 1  # type: ignore[attr-defined]
    assert answer.out == ""  # type: ignore[attr-defined]
    assert "37 answers: answers.parquet" in answer.err  # type: ignore[attr-defined]
    assert "1 of 37 images can't be read; it is named among the answers." in answer.err  # type: ignore[attr-defined]
    rows = parquet.read_table("answers.parquet").to_pylist()
    assert {Path(row["image"]).name: row["error"] for row in rows if row["error"]} == {
        "00 broken.png": "the file is empty"
    }
    assert "unknown" in {row["predicted"] for row in rows}  # photographs to one that knows digits


def test_many_images_show_progress_and_few_do_not(topwork: Topwork, digits_classifier: Path, tmp_path: Path) -> None:
    many = make_photos(tmp_path / "many", n=34)
    (many / "ash" / "0.png").write_bytes(b"x")
    answer = topwork("predict", digits_classifier, many, "--format", "jsonl")
    assert len(answer.out.splitlines()) == 102  # type: ignore[attr-defined]
    assert "1 of 102 images can't be read" in answer.err  # type: ignore[attr-defined]
    assert topwork("predict", digits_classifier, many / "birch").err == ""  # type: ignore[attr-defined]


def test_rows_have_the_columns_that_were_asked_for(topwork: Topwork, digits_classifier: Path, photos: Path) -> None:
    image = photos / "ash" / "0.png"
    answer = topwork("predict", digits_classifier, image, "--format", "csv", "--runners-up", "50")
    (row,) = csv.DictReader(io.StringIO(answer.out))  # type: ignore[attr-defined]
    assert [name for name in row if name.startswith("class")] == ["class", *(f"class_{i}" for i in range(2, 11))]
    alone = topwork("predict", digits_classifier, image, "--runners-up", "0").out  # type: ignore[attr-defined]
    assert alone.rstrip("\n").endswith(" %")
    assert json.loads(topwork("predict", digits_classifier, image, "--format", "jsonl").out)["unknown"] in (True, False)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--out", "answers.xlsx"), "Expected a file that ends in .csv, .jsonl or .parquet; got 'answers.xlsx'"),
        (("--out", "answers.csv", "--format", "csv"), "The suffix of --out says how the file is written"),
        (("--watch", "--out", "answers.parquet"), "to which --watch adds lines"),
        (("--format", "json"), "'json' is not one of 'text', 'csv', 'jsonl'"),
        (("--out", "none/../photos/ash/0.png/answers.csv"), "Can't write"),
    ],
)
def test_what_cannot_be_is_said(
    topwork: Topwork, digits_classifier: Path, photos: Path, options: tuple[str, ...], reason: str
) -> None:
    answer = topwork("predict", digits_classifier, photos, *options)
    assert answer.status != 0  # type: ignore[attr-defined]
    assert reason in answer.err  # type: ignore[attr-defined]
    assert "Traceback" not in answer.err  # type: ignore[attr-defined]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "topwork", *map(str, arguments)], capture_output=True, **options)  # type: ignore[call-overload, no-any-return]


def test_standard_input_holds_paths_or_one_image(digits_classifier: Path, photos: Path, tmp_path: Path) -> None:
    make_photo((200, 60, 40), 1).save(photos / "a name\nof two lines.png")
    found = subprocess.run(["find", "photos", "-name", "*line*", "-print0"], cwd=tmp_path, stdout=subprocess.PIPE)
    listed = run("predict", digits_classifier, "-", "--format", "jsonl", cwd=tmp_path, input=found.stdout)
    assert json.loads(listed.stdout)["image"] == "photos/a name\nof two lines.png"
    content = (photos / "ash" / "0.png").read_bytes()
    one = run("predict", digits_classifier, "-", "--format", "jsonl", input=content)
    assert json.loads(one.stdout)["image"] == "standard input"
    assert one.returncode == 0


def test_one_image_loads_nothing_that_it_has_no_use_for(digits_classifier: Path, photos: Path) -> None:
    code = "import sys, topwork.cli.main as m; m.main(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    command = [sys.executable, "-c", code, "predict", str(digits_classifier), str(photos / "ash" / "0.png")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"pyarrow", "rich", "jax", "keras", "sklearn", "scipy", "threadpoolctl", "jinja2"} & set(loaded)


def test_rows_go_to_a_pipe_though_the_bar_is_on_a_terminal(digits_classifier: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "many", n=34)
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "topwork", "predict", str(digits_classifier), "many"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal) as child:
        assert child.stdout is not None
        rows = child.stdout.read().decode().splitlines()
    os.close(terminal)
    assert len(rows) == 102
    assert all(row.startswith("many/") for row in rows)
    assert b"many/" not in os.read(controller, 100_000)
    os.close(controller)


def test_ctrl_c_says_what_is_kept(digits_classifier: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "many", n=34)
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from topwork.classifier.classifier import ImageClassifier as C\n"
        "C.predict_features = lambda *a: (print('now', flush=True), time.sleep(3))\n"
        "import topwork.__main__ as m; m.run()"
    )
    for options, said in (((), False), (("--out", "answers.csv"), True)):
        command = [sys.executable, "-c", code, "predict", str(digits_classifier), "many", *options]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "now\n"
            child.send_signal(signal.SIGINT)
            err = child.communicate(timeout=30)[1]
        assert child.returncode == 130
        assert "Interrupted." in err
        assert ("are kept: run the same command again" in err) == said
        assert "Traceback" not in err


def test_text_marks_images_unlike_the_training_images(
    topwork: Topwork, digits_classifier: Path, tmp_path: Path
) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "photo.png")
    row = json.loads(topwork("predict", digits_classifier, "photo.png", "--format", "jsonl").out)
    assert row["unknown"] is True
    marked = topwork("predict", digits_classifier, "photo.png").out
    assert marked.rstrip().endswith("(unlike the training images)")
    assert "unlike" not in topwork("predict", digits_classifier, "photo.png", "--unknown").out


def test_a_class_called_unknown_is_not_mixed_up_with_unknown_images(topwork: Topwork, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=20)
    (photos / "ash").rename(photos / "unknown")
    assert topwork("train", photos, "--out", "run", "--no-check").status == 0
    assert topwork("predict", "run", photos / "birch").status == 0
    refused = topwork("predict", "run", photos / "birch", "--unknown")
    assert refused.status == 2
    assert "has a class called 'unknown'" in refused.err
