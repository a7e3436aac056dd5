"""What people reported of other programs: the same tables, pictures and machines, driven from the command line."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import make_photo, make_photos

Topwork = Callable[..., Any]
PLAIN = ("--backbone", "starter", "--size", "32", "--no-check", "--quiet", "--out", "run")


def class_names(run: str = "run") -> list[str]:
    found: list[str] = json.loads(Path(run, "classifier", "manifest.json").read_text("utf-8"))["class_names"]
    return found


def table(photos: Path, names: dict[str, str], head: str = "path,label") -> str:
    rows = [f'{path.relative_to(photos.parent)},"{names[path.parent.name]}"' for path in sorted(photos.rglob("*.*g"))]
    return "\n".join([head, *rows])


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8-sig", ""), ("utf-16", "Save it as “CSV UTF-8”"), ("latin-1", "Save it as “CSV UTF-8”")],
)
def test_tables_in_other_encodings_are_read_or_refused_with_the_way_out(
    topwork: Topwork, photos: Path, encoding: str, said: str
) -> None:
    last = "x" if encoding == "latin-1" else "雪松"
    text = table(photos, {"ash": "Esche, grün", "birch": "Öl baum", "cedar": last})
    Path("t.csv").write_bytes(text.encode(encoding))
    answer = topwork("train", "t.csv", *PLAIN)
    assert said in answer.err
    assert "\0" not in answer.err
    if said:
        assert answer.status == 1
    else:
        assert class_names() == ["Esche, grün", "Öl baum", "雪松"]


def test_blanks_around_names_of_columns_are_no_matter(topwork: Topwork, photos: Path) -> None:
    Path("t.csv").write_text(table(photos, {name: name for name in ("ash", "birch", "cedar")}, "path , label"))
    assert topwork("train", "t.csv", *PLAIN).status == 0


def test_class_folders_of_numbers_stand_in_the_order_of_numbers(topwork: Topwork, photos: Path) -> None:
    for old, new in (("ash", "10"), ("birch", "2"), ("cedar", "1")):
        (photos / old).rename(photos / new)
    (photos / "10" / "dead.png").symlink_to("/nowhere/x.png")
    answer = topwork("train", photos, *PLAIN)
    assert class_names() == ["1", "2", "10"]
    assert "10/dead.png: No such file or directory" in answer.out


def test_zeros_in_names_of_files_are_kept(topwork: Topwork, photos: Path) -> None:
    for folder in photos.iterdir():
        for path in list(folder.iterdir()):
            path.rename(path.with_stem(f"{int(path.stem):04d}"))
    rows = [f"{folder.name}/{i:04d},{folder.name}" for folder in photos.iterdir() for i in range(12)]
    (photos / "t.csv").write_text("\n".join(["id,label", *rows]))
    answer = topwork("train", photos / "t.csv", "--image-column", "id", *PLAIN)
    assert answer.status == 0, answer.err
    assert json.loads(Path("run", "run.json").read_text())["data"]["images"] == 36


def bands(pixels: np.ndarray, kind: int) -> bytes:
    """An uncompressed TIFF: `(H, W, C)`; kind 1 for whole numbers, 3 for fractions."""
    height, width, n = pixels.shape
    data, after = pixels.tobytes(), 10 + 10 * 12 + 4
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, n, after), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, after + 2 * n), (277, 3, 1, n), (278, 3, 1, height), (279, 4, 1, len(data)), (339, 3, 1, kind)]
    head = b"II*\0" + struct.pack("<IH", 8, 10) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return head + struct.pack(f"<{n}H", *[pixels.itemsize * 8] * n) + data


def test_tiffs_that_are_not_read_are_called_so(topwork: Topwork, digits_classifier: Path) -> None:
    pixels = np.asarray(make_photo((200, 60, 60), 0))
    Path("five.tif").write_bytes(bands(np.concatenate([pixels, pixels[..., :2]], -1), 1))
    Path("fractions.tif").write_bytes(bands((pixels / 255).astype("<f4"), 3))
    answer = topwork("predict", digits_classifier, "five.tif", "fractions.tif")
    assert answer.status == 1
    assert answer.out.count("can't be read: it begins as a TIFF does") == 2
    assert answer.out.count("Save it anew, with 8 bits") == 2


def test_pictures_of_one_pixel_and_very_long_ones_are_answered(topwork: Topwork, digits_classifier: Path) -> None:
    Image.new("RGB", (1, 1)).save("one.png")
    Image.new("RGB", (5000, 3)).save("long.png")
    answer = topwork("predict", digits_classifier, "one.png", "long.png")
    assert answer.status == 0
    assert answer.out.count(" %") >= 2


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (["-OO"], {"PATH": os.environ["PATH"]}),
        ([], {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}),
        ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_bare_surroundings_are_no_matter(
    digits_classifier: Path, tmp_path: Path, flags: list[str], environment: dict[str, str]
) -> None:
    make_photo((9, 9, 9), 0).save(tmp_path / "Grüße 雪.png")
    command = [sys.executable, *flags, "-m", "topwork", "predict", digits_classifier, "Grüße 雪.png"]
    environment = {**environment, "TOPWORK_CACHE": os.environ["TOPWORK_CACHE"]}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b" %" in done.stdout


@pytest.mark.parametrize("damage", ["random", "cut"])
def test_a_damaged_compiled_network_is_made_again(
    topwork: Topwork, digits_classifier: Path, own_cache: Path, damage: str
) -> None:
    make_photo((9, 9, 9), 0).save("a.png")
    before = topwork("predict", digits_classifier, "a.png")
    compiled = list(own_cache.rglob("*.blob"))
    assert compiled
    for path in compiled:
        content = path.read_bytes()
        random = np.random.default_rng(0).integers(0, 256, len(content), dtype=np.uint8).tobytes()
        path.write_bytes(random if damage == "random" else content[: len(content) // 2])
    after = topwork("predict", digits_classifier, "a.png")
    assert (after.status, after.out) == (before.status, before.out)
    assert "is made anew" in after.err


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="processors can't be chosen here"
)
def test_one_processor_answers_as_two_do(tmp_path: Path) -> None:
    """Features are the same to the bit; sums of the top run in another order."""
    make_photos(tmp_path / "photos", n=12)
    code = (
        "import os, sys; os.sched_setaffinity(0, eval(sys.argv[1])); import topwork as tw;"
        "c = tw.fit_classifier(tw.ImageDataset.from_directory('photos'), tw.load_backbone('starter', size=32),"
        " verbose=False); print(c.predict_proba(['photos/ash/0.png', 'photos/birch/1.jpg']).tolist())"
    )
    found = []
    for processors in (sorted(os.sched_getaffinity(0))[:1], sorted(os.sched_getaffinity(0))[:2]):
        environment = {**os.environ, "TOPWORK_CACHE": str(tmp_path / f"cache {len(processors)}")}
        command = [sys.executable, "-c", code, str(processors)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
        found.append(json.loads(done.stdout))
    assert np.abs(np.subtract(*found)).max() < 1e-4
