"""What the words of a command mean: files, folders, patterns, tables, standard input, together and in order."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import make_photo
from topwork.data import raw
from topwork.data.decoding import SUFFIXES, begins_as_image, read_square
from topwork.data.sources import ImageSource
from topwork.errors import DataError
from topwork.prediction.images import find_images, paths_in
from topwork.recipe import Recipe


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `new/1.png`, `new/2.png`, `new/deep/3.jpg` and `4.png`."""
    (tmp_path / "new" / "deep").mkdir(parents=True)
    for i, path in enumerate(("new/1.png", "new/2.png", "new/deep/3.jpg", "4.png")):
        make_photo((200, 60, 40), i).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(source: ImageSource) -> list[str]:
    return [source.name(row) for row in range(len(source))]


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    make_photo((40, 70, 200), seed).save(file, "PNG")
    return file.getvalue()


@pytest.mark.usefixtures("here")
def test_kinds_together_keep_the_order_they_were_named_in() -> None:
    Path("list.csv").write_text("path\nnew/2.png\n4.png\n")
    parquet.write_table(pa.table({"image": [encoded(1), encoded(2)], "id": ["a", "b"]}), "table.parquet")
    words = ["4.png", "table.parquet", "new", "list.csv", "none.png", "-"]
    source = find_images(words, stdin=io.BytesIO(b"new/1.png\n"))
    expected = ["4.png", "a", "b", "new/1.png", "new/2.png", "new/deep/3.jpg", "new/2.png", "4.png", "none.png"]
    assert names(source) == [*expected, "new/1.png"]
    rows = np.array([0, 2, 5, 7, 9])
    payloads = list(source.payloads(rows))
    assert [read_square(payload, Recipe(8), "").shape for payload in payloads] == [(8, 8, 3)] * 5
    assert payloads[1] == encoded(2)


@pytest.mark.usefixtures("here")
def test_a_pattern_stands_for_what_it_matches_unless_a_file_is_called_so() -> None:
    assert names(find_images(["new/*.png"])) == ["new/1.png", "new/2.png"]
    assert names(find_images(["**/*.jpg"])) == ["new/deep/3.jpg"]
    make_photo((1, 2, 3), 9).save("new/[1].png")
    assert names(find_images(["new/[1].png"])) == ["new/[1].png"]


@pytest.mark.usefixtures("here")
def test_what_is_not_there_is_said() -> None:
    Path("empty").mkdir()
    Path("list.csv").write_text("where\nnew/2.png\n")
    with pytest.raises(DataError, match="no images in 'empty'"):
        find_images(["empty"])
    with pytest.raises(DataError, match=r"Nothing matches 'x\*.jpg'"):
        find_images(["x*.jpg"])
    with pytest.raises(DataError, match="Standard input is empty"):
        find_images(["-"], stdin=io.BytesIO(b"\n\n"))
    with pytest.raises(DataError, match="once only"):
        find_images(["-", "-"], stdin=io.BytesIO(b"4.png"))
    with pytest.raises(DataError, match="'where': name the right one with `image_column=NAME`"):
        find_images(["list.csv"])
    with pytest.raises(DataError, match="There is no file 'none.parquet'"):
        find_images(["none.parquet"])
    assert names(find_images(["list.csv"], image_column="where")) == ["new/2.png"]


def test_one_image_in_standard_input() -> None:
    source = find_images(["-"], stdin=io.BytesIO(encoded(3)))
    assert names(source) == ["standard input"]
    assert list(source.payloads(np.array([0]))) == [encoded(3)]


def test_every_format_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    for suffix in SUFFIXES - raw.SUFFIXES - {".heic", ".heif", ".hif", ".dcm", ".dicom"}:  # which Pillow doesn't write
        path = tmp_path / f"1{suffix}"
        make_photo((1, 2, 3), 0).save(path)
        assert begins_as_image(path.read_bytes()[:16])
    for head in (
        b"\0\0\0\x18ftypcrx ",
        b"FUJIFILMCCD-RAW ",
        b"IIRO\x08\0\0\0",
        b"IIU\0\x18\0\0\0",
        b"II*\0\x10\0\0\0CR\2\0",
    ):
        assert begins_as_image(head)
    for path_like in (b"BM 1995/photo 1.png\n", b"RIFF.png", b"II.tif\nIII.tif", b"GIF.gif", b"\xff\xfe.png", b""):
        assert not begins_as_image(path_like[:16])


paths = st.binary(min_size=1, max_size=12).filter(lambda path: b"\0" not in path and path.strip())


@given(st.lists(paths, min_size=1), st.booleans())
def test_paths_separated_by_nul_may_hold_anything_else(these: list[bytes], is_ended: bool) -> None:
    content = b"\0".join(these) + (b"\0" if is_ended or len(these) == 1 else b"")
    assert [os.fsencode(path) for path in paths_in(content)] == these


@given(st.lists(paths.filter(lambda path: b"\n" not in path and b"\r" not in path)), st.sampled_from([b"\n", b"\r\n"]))
def test_paths_one_a_line(these: list[bytes], ending: bytes) -> None:
    assert [os.fsencode(path) for path in paths_in(ending.join([*these, b""]))] == these
