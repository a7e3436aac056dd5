"""Files that harm: named pipes, loops, bombs, control characters. Each is named, none is obeyed."""

from __future__ import annotations

import csv
import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import topwork as tw
from helpers import make_photo, make_photos
from topwork.data.decoding import digest_of, quiet_pillow, read_image
from topwork.data.sources import ParquetImages
from topwork.errors import BadImageError, DataError, TopworkError

Topwork = Callable[..., Any]
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are made by mkfifo")


@needs_pipes
def test_pipes_and_devices_among_the_images_are_named(topwork: Topwork, photos: Path, digits_classifier: Path) -> None:
    os.mkfifo(photos / "ash" / "pipe.png")
    (photos / "birch" / "endless.jpg").symlink_to("/dev/zero")
    answer = topwork("train", photos, "--size", "32", "--no-check", "--out", "run")
    assert answer.status == 0, answer.err
    assert "ash/pipe.png: it is a named pipe, not a regular file" in answer.out
    assert "birch/endless.jpg: it is a device, not a regular file" in answer.out
    answer = topwork("predict", digits_classifier, photos / "ash" / "pipe.png", photos / "ash" / "0.png")
    assert answer.status == 1
    assert "it is a named pipe" in answer.out
    os.mkfifo("table.csv")
    os.mkfifo("table.parquet")
    for name in ("table.csv", "table.parquet"):
        answer = topwork("train", name)
        assert answer.status == 1
        assert "named pipe" in answer.err


def test_an_image_that_no_image_is_as_large_as(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(BadImageError, match="1,073,741,825 bytes; 1,073,741,824 are allowed"):
        read_image(tmp_path / "huge.png", "huge.png")


def test_links_to_folders_above_are_passed_over(topwork: Topwork, photos: Path) -> None:
    (photos / "loop").symlink_to("..", target_is_directory=True)
    (photos / "self").symlink_to(".", target_is_directory=True)
    (photos / "more").symlink_to(photos / "ash", target_is_directory=True)
    dataset = tw.ImageDataset.from_directory(photos)
    assert dataset.class_names == ("ash", "birch", "cedar", "more")
    assert any("'loop', 'self' to a folder above the images" in note for note in dataset.notes)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What a viewer shows on a white page."""
    return colour * alpha[..., None] + 255.0 * (1 - alpha[..., None])


@pytest.mark.parametrize("kind", ["RGB", "L", "P", "RGBA", "LA", "I;16", "16-bit RGB"])
def test_transparency_is_laid_on_white_in_every_mode(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(3)
    grey = random.integers(0, 200, (20, 30), dtype=np.uint8)
    rgb = np.stack([grey, grey[::-1], 255 - grey], axis=-1)
    path, one = tmp_path / "x.png", (4, 7)
    is_clear = np.zeros(grey.shape, bool)
    if kind == "RGB":
        is_clear = (rgb == rgb[one]).all(axis=-1)
        Image.fromarray(rgb).save(path, transparency=tuple(map(int, rgb[one])))
        expected = on_white(rgb, ~is_clear)
    elif kind == "L":
        is_clear = grey == grey[one]
        Image.fromarray(grey).save(path, transparency=int(grey[one]))
        expected = on_white(grey[..., None].repeat(3, -1), ~is_clear)
    elif kind == "P":
        picture = Image.fromarray(rgb).quantize(16)
        index = np.asarray(picture)
        is_clear = index == index[one]
        colours = np.asarray(picture.convert("RGB"))
        picture.save(path, transparency=int(index[one]))
        expected = on_white(colours, ~is_clear)
    elif kind == "RGBA":
        alpha = random.integers(0, 256, grey.shape, dtype=np.uint8)
        Image.fromarray(np.dstack([rgb, alpha])).save(path)
        expected = on_white(rgb, alpha / 255)
    elif kind == "LA":
        alpha = random.integers(0, 256, grey.shape, dtype=np.uint8)
        Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(path)
        expected = on_white(grey[..., None].repeat(3, -1), alpha / 255)
    elif kind == "I;16":
        deep = grey.astype(np.uint16) * 257
        is_clear = deep == deep[one]
        Image.fromarray(deep).save(path)
        put_transparent(path, deep[one].astype(">u2").tobytes())
        expected = on_white(grey[..., None].repeat(3, -1), ~is_clear)
    else:
        is_clear = (rgb == rgb[one]).all(axis=-1)
        write_deep(path, rgb.astype(np.uint16) * 257)
        put_transparent(path, (rgb[one].astype(np.uint16) * 257).astype(">u2").tobytes())
        expected = on_white(rgb, ~is_clear)
    found = np.asarray(read_image(path, "x"), dtype=np.float64)
    assert np.abs(found - expected).max() <= 1.0
    plain = io.BytesIO()
    Image.fromarray(rgb).save(plain, "PNG")
    import hashlib

    assert digest_of(plain.getvalue()) == hashlib.blake2b(plain.getvalue(), digest_size=16).digest()
    is_newly_read = kind in ("RGB", "I;16", "16-bit RGB")  # what features were kept of before must not be served
    assert (digest_of(path) != hashlib.blake2b(path.read_bytes(), digest_size=16).digest()) == is_newly_read


def chunk(name: bytes, content: bytes) -> bytes:
    import zlib

    return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)


def put_transparent(path: Path, content: bytes) -> None:
    whole = path.read_bytes()
    place = whole.index(b"IDAT") - 4
    path.write_bytes(whole[:place] + chunk(b"tRNS", content) + whole[place:])


def write_deep(path: Path, pixels: np.ndarray) -> None:
    """A PNG in 16-bit RGB, which Pillow reads and does not write."""
    import zlib

    height, width, _ = pixels.shape
    head = width.to_bytes(4) + height.to_bytes(4) + bytes([16, 2, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_a_table_that_would_fill_memory_is_refused(topwork: Topwork, digits_classifier: Path) -> None:
    images = pa.array([bytes(200_000_000)] * 4, pa.binary())
    parquet.write_table(pa.table({"image": images, "label": list("abab")}), "bomb.parquet", compression="zstd")
    assert Path("bomb.parquet").stat().st_size < 1_000_000
    for command in (("predict", digits_classifier, "bomb.parquet"), ("train", "bomb.parquet")):
        answer = topwork(*command)
        assert answer.status == 1
        assert "Refused as a decompression bomb" in answer.err


def test_more_rows_than_memory_has_room_for(topwork: Topwork, monkeypatch: pytest.MonkeyPatch) -> None:
    from topwork import memory

    parquet.write_table(pa.table({"path": ["a.png"] * 10_000, "label": ["x"] * 10_000}), "rows.parquet")
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    answer = topwork("check", "rows.parquet")
    assert answer.status == 1
    assert "has 10,000 rows" in answer.err
    assert "Divide the table" in answer.err


def test_large_images_in_a_table_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = [random.bytes(20_000_000) for _ in range(12)]
    parquet.write_table(pa.table({"image": images}), tmp_path / "large.parquet", compression="none")
    program = """
import resource, sys
from pathlib import Path
import numpy as np
from topwork.data.sources import ParquetImages
source = ParquetImages(Path(sys.argv[1]), "image", 12)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert sum(len(image) for image in source.payloads(np.arange(12))) == 240_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "large.parquet")]
    kilobytes = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert kilobytes < 200_000


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    content = bytearray(whole)
    for place in random.integers(len(content), size=random.integers(1, 20)):
        content[place] = random.integers(256)
    return bytes(content[: random.integers(len(content) // 2, len(content) + 1)])


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_damaged_tables_give_images_or_one_sentence(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    files = []
    for i in range(12):
        file = io.BytesIO()
        make_photo((90, 9 * i, 40), i).save(file, "PNG")
        files.append(file.getvalue())
        (tmp_path / f"{i}.png").write_bytes(file.getvalue())
    if name == "t.parquet":
        schema = {"huggingface": '{"info": {"features": {"label": {"names": ["a", "b"]}}}}'}
        table = pa.table({"image": files, "label": [0, 1] * 6}).replace_schema_metadata(schema)
        parquet.write_table(table, tmp_path / name)
    else:
        (tmp_path / name).write_text("path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(12)))
    whole = (tmp_path / name).read_bytes()
    n_refused = 0
    for _ in range(150):
        (tmp_path / name).write_bytes(damaged(whole, random))
        try:
            dataset = tw.ImageDataset.load(tmp_path / name)
            for payload in dataset.source.payloads(dataset.rows):
                read_image(payload, "x")
        except TopworkError:
            n_refused += 1
        except FileNotFoundError:
            pass
    assert n_refused > 10


def test_metadata_of_a_table_that_is_nonsense_is_no_class_names(tmp_path: Path) -> None:
    for name in "ab":
        make_photo((9, 9, 9), 0).save(tmp_path / f"{name}.png")
    for text in ("[" * 100_000, '{"info": {"features": {"label": {"names": 5}}}}'):
        metadata = {"huggingface": text}
        table = pa.table({"path": ["a.png", "b.png"], "label": ["x", "y"]}).replace_schema_metadata(metadata)
        parquet.write_table(table, tmp_path / "t.parquet")
        assert tw.ImageDataset.from_table(tmp_path / "t.parquet").class_names == ("x", "y")
    table = pa.table({"path": ["a.png", "b.png"], "label": [0, 1]}).replace_schema_metadata({b"classes": b"\xff\nb"})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert tw.ImageDataset.from_table(tmp_path / "t.parquet").class_names == ("\\xff", "b")


def test_a_table_damaged_in_its_middle_ends_with_its_name(tmp_path: Path) -> None:
    images = [np.random.default_rng(i).bytes(5000) for i in range(50)]
    parquet.write_table(pa.table({"image": images}), tmp_path / "t.parquet", compression="snappy", row_group_size=10)
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[100_000:100_400] = bytes(400)
    (tmp_path / "t.parquet").write_bytes(content)
    source = ParquetImages(tmp_path / "t.parquet", "image", 50)
    with pytest.raises(DataError, match=r"t\.parquet' is damaged"):
        for _ in range(3):
            list(source.payloads(np.arange(50)))
            content[90_000:150_000:7] = bytes(len(content[90_000:150_000:7]))
            (tmp_path / "t.parquet").write_bytes(content)


def test_names_do_not_control_the_terminal_and_machines_get_them_as_they_are(
    topwork: Topwork, digits_classifier: Path
) -> None:
    name = "a\x1b]0;owned\x07\nb.png"
    make_photo((90, 90, 40), 1).save(name)
    text = topwork("predict", digits_classifier, name).out
    assert text.startswith("a\\x1b]0;owned\\x07\\nb.png")
    assert text.count("\n") == 1
    rows = list(csv.reader(io.StringIO(topwork("predict", digits_classifier, name, "--format", "csv").out)))
    assert rows[1][0] == name
    answer = topwork("train", "\x1b[2J")
    assert "\x1b" not in answer.err


def test_findings_hold_no_formulas(topwork: Topwork, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", classes=("ash", "birch"))
    (tmp_path / "photos" / "ash").rename(tmp_path / "photos" / "=cmd|calc")
    for name in ("0.png", "1.jpg"):
        source = tmp_path / "photos" / "birch" / name
        (tmp_path / "photos" / "=cmd|calc" / f"@{name}").write_bytes(source.read_bytes())
    topwork("check", "photos", "--size", "32", "--out", "findings.csv")
    rows = list(csv.reader(io.StringIO(Path("findings.csv").read_text())))
    cells = [cell for row in rows for cell in row]
    assert any(cell.startswith("'=cmd|calc") for cell in cells)
    assert not any(cell.startswith(("=", "@", "+", "-")) for cell in cells)


def test_predict_of_a_folder_counts_what_it_passes_over(
    topwork: Topwork, photos: Path, digits_classifier: Path
) -> None:
    (photos / "notes.txt").write_text("x")
    (photos / "ash" / "raw.xmp").write_bytes(b"x")
    answer = topwork("predict", digits_classifier, photos)
    assert "2 files without an image's suffix were left out (1 .txt, 1 .xmp)" in answer.err
    assert topwork("predict", digits_classifier, photos, "--quiet").err == ""


def test_the_tiff_library_is_silent(tmp_path: Path) -> None:
    program = """
import io, sys
import numpy as np
from PIL import Image
from topwork.data.decoding import quiet_pillow, read_image
from topwork.errors import BadImageError
random = np.random.default_rng(0)
file = io.BytesIO()
Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, "TIFF", compression="tiff_lzw")
content = bytearray(file.getvalue())
n_bad = 0
with quiet_pillow():
    for _ in range(20):
        for place in random.integers(8, len(content) - 200, 20):
            content[place] ^= 255
        try:
            read_image(bytes(content), "x")
        except BadImageError:
            n_bad += 1
print(n_bad)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0
    assert done.stderr == ""


def test_the_memory_of_a_picture_is_bounded_by_its_head() -> None:
    """A PNG that claims 30,000 × 30,000 pixels is refused before anything is decoded."""
    content = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", (30_000).to_bytes(4) + (30_000).to_bytes(4) + bytes([8, 2, 0, 0, 0])
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with quiet_pillow(), pytest.raises(BadImageError, match="decompression bomb"):
        read_image(content + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
