"""Folder trees and tables of any shape go through training and prediction: a clean end, and no image lost in silence.

`TOPWORK_FUZZ=20 pytest tests/cli/test_fuzz_layouts.py` tries twenty times as many.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

Topwork = Callable[..., Any]
PLAIN = ("--backbone", "starter", "--size", "32", "--no-check", "--quiet")
LAYOUTS = settings(
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # each example trains: to make one smaller would take minutes
    max_examples=6 * int(os.environ.get("TOPWORK_FUZZ", "1")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SPLITS = ("train", "val", "test", "Train", "training_set", "test_set", "seg_test", "valid", "unlabelled")
JUNK = ("@eaDir", "__MACOSX", ".cache", ".git", "__pycache__", "thumbs", "masks")
ODD = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name.strip(".") and not name.startswith(".")
)
FOLDERS = st.one_of(st.sampled_from(SPLITS + JUNK), st.sampled_from(["ash", "birch", "1", "01", "Ash"]), ODD)
KINDS = ("picture", "picture", "picture", "broken", "empty", "text", "hidden", "link", "dead link")


@cache
def encoded(i: int) -> bytes:
    """A picture that no other is like."""
    pixels = np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    pixels[:, :, i % 3] //= 4
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Tree:
    """Makes files below a folder, and counts the pictures that can be read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n, self.pictures = folder, 0, set[Path]()

    def add(self, where: tuple[str, ...], kind: str, name: str = "") -> None:
        place = self.folder.joinpath(*where)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return
        self.n += 1
        path = place / f"{name}{self.n}.{'txt' if kind == 'text' else 'png'}"
        if kind == "hidden":
            path = place / f"._{self.n}.png"
        if kind == "dead link":
            path.symlink_to(self.folder / "nowhere")
        elif kind == "link" and self.pictures:
            path.symlink_to(max(self.pictures))
        else:
            path.write_bytes({"broken": encoded(0)[:70], "empty": b"", "text": b"x"}.get(kind, encoded(self.n)))
        if kind == "picture":
            self.pictures.add(path)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[tuple[str, ...], str, str]]:
    """A data set as people have them, and whatever else lies there: folders, kind and first letters of each file."""
    classes = draw(st.lists(FOLDERS, min_size=2, max_size=3, unique=True))
    above = draw(st.sampled_from([((),), (("train",), ("test",)), (("training_set",), ("val",)), (("set",),)]))
    below = draw(st.sampled_from([(), (), ("images",), ("2023", "may")]))
    files = [((*top, name, *below), "picture", "") for top in above for name in classes for _ in range(6)]
    more = st.tuples(st.lists(FOLDERS, max_size=3).map(tuple), st.sampled_from(KINDS), st.one_of(st.just(""), ODD))
    return files + draw(st.lists(more, max_size=12))


def said(answer: Any) -> int:
    """How many images the words speak of: the sum of the numbers outside quotes."""
    words = re.sub(r"'[^']*'|\"[^\"]*\"", "", answer.err + answer.out.partition("could not be read")[0][-20:])
    return sum(int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", words))


def is_clean(answer: Any) -> bool:
    if "Traceback" in answer.err + answer.out:
        return False
    return answer.status == 0 or (answer.status == 1 and ("Error: " in answer.err or '"error": ' in answer.out))


@LAYOUTS
@given(files=trees())
def test_trees_of_folders(topwork: Topwork, tmp_path: Path, files: list[tuple[tuple[str, ...], str, str]]) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    tree = Tree(root / "data")
    for where, kind, name in files:
        tree.add(where, kind, name)
    answer = topwork("train", tree.folder, *PLAIN, "--out", root / "run")
    assert is_clean(answer), answer
    if answer.status:
        return
    rows = {row["image"] for row in parquet.read_table(root / "run" / "images.parquet").to_pylist()}
    lost = {path.relative_to(tree.folder).as_posix() for path in tree.pictures} - rows
    assert said(answer) >= len(lost), (sorted(lost), answer)
    predicted = topwork("predict", root / "run", tree.folder, "--format", "jsonl")
    assert is_clean(predicted), predicted
    answered = [json.loads(line)["image"] for line in predicted.out.splitlines()]
    left = {str(path) for path in tree.pictures} - set(answered)
    assert said(predicted) >= len(left), (sorted(left), predicted)


LABELS = st.one_of(
    st.sampled_from(["ash", "ash ", "Ash", "1", "01", "1.0", "-1", "nan", "", "NA", "a|b", "['x']", "unknown", "--1"]),
    ODD,
)


@LAYOUTS
@given(
    kinds=st.lists(LABELS, min_size=2, max_size=5, unique=True),
    head=st.sampled_from(["label", "class", "species", " label", "y", "label,split", "label,group"]),
    others=st.lists(st.sampled_from(["train", "test", "val", "", "p1", "0"]), min_size=1, max_size=4),
    quirk=st.sampled_from(["", "backslashes", "no suffix", "./", "missing", "twice", "semicolons", "no head"]),
)
def test_columns_of_labels(
    topwork: Topwork, tmp_path: Path, kinds: list[str], head: str, others: list[str], quirk: str
) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    tree = Tree(root / "data")
    for _ in range(30):
        tree.add(("a",), "picture")
    rows = []
    for i, path in enumerate(sorted(tree.pictures)):
        name = f"a/{path.name}"
        if quirk == "backslashes":
            name = name.replace("/", "\\")
        if quirk in ("no suffix", "missing"):
            name = name.removesuffix(".png") if quirk == "no suffix" or i else "a/gone.png"
        if quirk == "./":
            name = f"./{name}"
        rows.append([name, kinds[i % len(kinds)], others[i % len(others)]][: 2 + ("," in head)])
    if quirk == "twice":
        rows += rows[:3]
    with (tree.folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";" if quirk == "semicolons" else ",")
        writer.writerows([*([] if quirk == "no head" else [["path", *head.split(",")]]), *rows])
    answer = topwork("train", tree.folder / "t.csv", *PLAIN, "--out", root / "run")
    assert is_clean(answer), answer
    if answer.status:
        return
    found = json.loads((root / "run" / "run.json").read_text())["data"]["images"]
    assert found + said(answer) >= len(rows), answer
    predicted = topwork("predict", root / "run", tree.folder / "t.csv", "--format", "jsonl")
    assert is_clean(predicted), predicted
    assert predicted.out.count("\n") == len(rows)
