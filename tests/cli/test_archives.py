"""Images in a zip or tar are read where they are, as those in a folder would be; a hostile one costs a sentence."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import topwork as tw
from helpers import COLOURS, make_photo, make_photos

Topwork = Callable[..., Any]
Members = Iterable[tuple[str, bytes]]
KINDS = list(COLOURS)


def png(i: int) -> bytes:
    file = io.BytesIO()
    make_photo(COLOURS[KINDS[i % 3]], i).save(file, "PNG")
    return file.getvalue()


def photos(n: int = 36, first: int = 0) -> Members:
    return [(f"{KINDS[i % 3]}/{i}.png", png(i)) for i in range(first, first + n)]


def write_zip(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def write_tar(path: Path, members: Members) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def write(path: Path, members: Members) -> Path:
    return write_zip(path, members) if path.suffix == ".zip" else write_tar(path, members)


def train(topwork: Topwork, *arguments: object) -> Any:
    return topwork("train", *arguments, "--size", "32", "--no-check", "--quiet", "--out", "run")


def sizes() -> dict[str, int]:
    found: dict[str, int] = json.loads(Path("run/run.json").read_text())["data"]["sides"]
    return found


def left_out() -> dict[str, str]:
    """Why images of a training could not be read."""
    found = json.loads(Path("run/run.json").read_text())["quarantined"]
    return {image["image"]: image["reason"] for image in found}


def shown(answer: Any) -> str:
    """What a person sees, its lines joined."""
    return " ".join(answer.err.split())


def pack(folder: Path, path: Path) -> Path:
    files = sorted((file for file in folder.rglob("*") if file.is_file()), reverse=True)  # no archive's order is sure
    return write(path, [(f"./{file.relative_to(folder)}", file.read_bytes()) for file in files])


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz", "set.tgz"])
def test_an_archive_is_read_as_the_folder_is(topwork: Topwork, tmp_path: Path, name: str) -> None:
    make_photos(tmp_path / "set" / "outer" / "train", n=12)
    make_photos(tmp_path / "set" / "outer" / "test", n=4, seed=500)
    (tmp_path / "set" / "__MACOSX").mkdir()
    (tmp_path / "set" / "__MACOSX" / "._1.png").write_bytes(b"junk")
    (tmp_path / "set" / "outer" / "notes.md").write_text("of no account")
    archive = pack(tmp_path / "set", tmp_path / name)
    of_folder, of_archive = topwork("check", "set", "--size", "32"), topwork("check", name, "--size", "32")
    assert of_folder.status == of_archive.status
    assert of_archive.out.replace(name, "set") == of_folder.out
    assert "1 image that other programs keep in '__MACOSX' was left out" in shown(of_archive)

    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    answer = train(topwork, archive)
    assert answer.status == 0, answer.err
    assert sizes()["test"] == 12
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in before} == {"run"}
    in_run = tw.load_classifier("run")
    assert in_run.class_names == tuple(KINDS)
    answers = topwork("predict", "run", name, "--format", "csv")
    assert answers.status == 0, answers.err
    plain = topwork("predict", "run", "set", "--format", "csv")
    assert sorted(answers.out.replace(name, "set").splitlines()) == sorted(plain.out.splitlines())


@pytest.mark.parametrize("name", ["set.zip", "set.tgz"])
def test_what_reads_the_images_again_finds_them_in_the_archive(topwork: Topwork, tmp_path: Path, name: str) -> None:
    write(tmp_path / name, photos())
    answer = topwork("train", name, "--size", "32", "--test", "0.3", "--json")
    assert json.loads(answer.out)["run"] == "runs/set-1"
    assert topwork("export", "runs/set-1", "--to", "openvino", "--quiet").status == 0
    (tmp_path / "one.png").write_bytes(png(3))
    explained = topwork("explain", "runs/set-1", "one.png")
    assert explained.status == 0, explained.err
    assert Path("explanation.html").read_text().count("data:image") >= 5  # the nearest training images too
    write(tmp_path / f"more-{name}", photos(12, first=100))
    assert topwork("evaluate", "runs/set-1", f"more-{name}").status == 0
    Path("wrong.csv").write_text("image,new_label\nash/0.png,birch\n")
    Path("gone.txt").write_text(f"{name}/ash/3.png\n")
    corrected = train(topwork, name, "--relabel", "wrong.csv", "--exclude", "gone.txt")
    assert corrected.status == 0, corrected.err
    assert sum(sizes().values()) == 35


def test_answers_into_a_file_go_on_for_the_same_archive(topwork: Topwork, tmp_path: Path) -> None:
    write(tmp_path / "set.zip", photos())
    assert train(topwork, "set.zip").status == 0
    assert topwork("predict", "run", "set.zip", "--out", "answers.csv").status == 0
    assert "Already complete" in topwork("predict", "run", "set.zip", "--out", "answers.csv").err
    write(tmp_path / "set.zip", photos(30))
    answer = topwork("predict", "run", "set.zip", "--out", "answers.csv")
    assert answer.status == 0, answer.err
    assert len(Path("answers.csv").read_text().splitlines()) == 31


def webdataset(n: int, kind: str, first: int = 0, folder: str = "") -> Members:
    for i in range(first, first + n):
        yield f"{folder}{i:05}.png", png(i)
        label = KINDS[i % 3]
        text = json.dumps({"id": i, "kind": label, "label": i % 3}) if kind == "json" else f"{label}\n"
        yield f"{folder}{i:05}.{kind}", text.encode()


@pytest.mark.parametrize(("kind", "suffix"), [("cls", "tar"), ("txt", "tar.gz"), ("json", "zip")])
def test_labels_in_files_beside_the_images(topwork: Topwork, tmp_path: Path, kind: str, suffix: str) -> None:
    write(tmp_path / f"birds.{suffix}", webdataset(30, kind))
    answer = train(topwork, f"birds.{suffix}", *(["--label-column", "kind"] if kind == "json" else []))
    assert answer.status == 0, answer.err
    assert f"labels are read from the .{kind} files beside the images" in answer.err
    assert "without an image's suffix" not in answer.err
    assert tw.load_classifier("run").class_names == tuple(KINDS)


def test_json_without_the_named_label_says_what_there_is(topwork: Topwork, tmp_path: Path) -> None:
    write_tar(tmp_path / "birds.tar", webdataset(9, "json"))
    answer = train(topwork, "birds.tar", "--label-column", "knd")
    assert answer.status == 1
    assert "Did you mean 'kind'?" in answer.err
    dataset = tw.ImageDataset.load("birds.tar")
    assert dataset.class_names == ("0", "1", "2")


def test_texts_in_class_folders_are_no_labels(topwork: Topwork, tmp_path: Path) -> None:
    boxes = [(name.replace(".png", ".txt"), b"0 0.5 0.5 0.2 0.2") for name, _ in photos()]
    write_zip(tmp_path / "set.zip", [*photos(), *boxes])
    assert train(topwork, "set.zip").status == 0
    assert tw.load_classifier("run").class_names == tuple(KINDS)


def test_images_without_a_label_beside_them_are_counted(topwork: Topwork, tmp_path: Path) -> None:
    members = [(name, content) for name, content in webdataset(33, "cls") if name not in ("00001.cls", "00002.cls")]
    write_tar(tmp_path / "birds.tar", members)
    answer = train(topwork, "birds.tar")
    assert answer.status == 1
    assert "2 of 33 images have no label" in answer.err
    assert train(topwork, "birds.tar", "--skip-unlabelled").status == 0


@pytest.mark.parametrize("source", ["birds", "birds/*.tar", "birds/{train-{0000..0001},test-0000}.tar"])
def test_shards_of_one_data_set(topwork: Topwork, tmp_path: Path, source: str) -> None:
    for k in range(2):
        write_tar(tmp_path / "birds" / f"train-{k:04}.tar", webdataset(20, "cls", 20 * k))
    if "{" in source:
        source = "birds/train-{0000..0001}.tar"
    else:
        write_tar(tmp_path / "birds" / "test-0000.tar", webdataset(12, "cls", 40))
    answer = train(topwork, source)
    assert answer.status == 0, answer.err
    assert sizes().get("test", 0) == (0 if "{" in source else 12)
    assert sum(sizes().values()) == (40 if "{" in source else 52)
    answers = topwork("predict", "run", source, "--format", "csv")
    assert len(answers.out.splitlines()) == 1 + sum(sizes().values())


def test_numbers_without_a_file_are_named(topwork: Topwork, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-00.tar", webdataset(9, "cls"))
    answer = train(topwork, "train-{00..01}.tar")
    assert answer.status == 1
    assert "There is no file 'train-01.tar'" in answer.err
    assert "more than 100,000 files" in train(topwork, "train-{0..999999999}.tar").err


def hostile_tar(path: Path, *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in photos():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for info in extra:
            file.addfile(info, io.BytesIO(png(0)) if info.size else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def test_members_that_lead_out_are_left_out_and_nothing_is_written(topwork: Topwork, tmp_path: Path) -> None:
    n = len(png(0))
    odd = [entry("../out.png", size=n), entry("/tmp/out.png", size=n), entry("C:\\out.png", size=n)]
    links = [
        entry("ash/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        entry("ash/hard.png", tarfile.LNKTYPE, "../../etc/passwd"),
        entry("ash/pipe.png", tarfile.FIFOTYPE),
        entry("ash/disk.png", tarfile.BLKTYPE),
    ]
    hostile_tar(tmp_path / "set.tar", *odd, *links)
    answer = train(topwork, "set.tar")
    assert answer.status == 0, answer.err
    assert "names that lead out of the archive: 3 members left out (such as '../out.png')" in shown(answer)
    assert "links, devices or the like: 4 members left out" in shown(answer)
    assert sum(sizes().values()) == 36
    assert not (tmp_path.parent / "out.png").exists()
    write_zip(tmp_path / "set.zip", [*photos(), ("../../out.png", png(1)), ("/out.png", png(2))])
    (tmp_path / "run").rename(tmp_path / "other")
    answer = train(topwork, "set.zip")
    assert "names that lead out of the archive: 2 members left out" in shown(answer)
    assert sum(sizes().values()) == 36


def test_of_two_members_of_a_name_the_last_counts(topwork: Topwork, tmp_path: Path) -> None:
    write_tar(tmp_path / "set.tar", [("ash/0.png", b"an older one"), *photos()])
    answer = train(topwork, "set.tar")
    assert answer.status == 0, answer.err
    assert "members with the name of a later one: 1 member left out" in shown(answer)
    assert sum(sizes().values()) == 36


def test_backslashes_and_unmarked_utf8_in_a_zip_are_read(topwork: Topwork, tmp_path: Path) -> None:
    names = dict(zip(KINDS, ("Äsche", "白樺", "cedar"), strict=True))
    marked = [(f"{names[name.split('/')[0]]}/{i}.png", content) for i, (name, content) in enumerate(photos())]
    path = write_zip(tmp_path / "set.zip", marked)
    content = bytearray(path.read_bytes())
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # UTF-8 that doesn't say so, as macOS writes it
        place = content.find(head)
        while place >= 0:
            content[place + flags + 1] &= ~0x08
            place = content.find(head, place + 1)
    path.write_bytes(bytes(content).replace(b"cedar/", b"cedar\\"))
    answer = train(topwork, "set.zip")
    assert answer.status == 0, answer.err
    assert set(tw.load_classifier("run").class_names) == set(names.values())


def encrypted(path: Path) -> None:
    content = bytearray(write_zip(path, photos()).read_bytes())
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(head)
        content[place + flags] |= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    content = write(path, photos()).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def overwritten(path: Path) -> None:
    content = bytearray(write(path, photos()).read_bytes())
    place = content.find(b"cedar/17.png")
    content[place - 20 : place + 600] = b"\xaa" * 620
    path.write_bytes(content)


def bomb(path: Path) -> None:
    write(path, [*photos(3), ("ash/zeros.bmp", bytes(200 << 20))])


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("set.zip", encrypted, "1 of 36 members need a password"),
        ("set.zip", cut, "can't be read as a zip: File is not a zip file"),
        ("set.tar", cut, "can't be read as a tar: unexpected end of data"),
        ("set.tar.gz", cut, "can't be read as a tar: Compressed file ended before"),
        ("set.tar", overwritten, "is no header of a file"),
        ("set.tar.gz", bomb, "refused as a decompression bomb"),
        ("set.zip", lambda path: path.write_bytes(b""), "can't be read as a zip"),
        ("set.tar", lambda path: path.write_bytes(b""), "can't be read as a tar: empty file"),
        ("set.tar", lambda path: path.write_bytes(png(0)), "can't be read as a tar"),
        ("set.tgz", lambda path: write_tar(path.with_suffix(".tar"), photos()).rename(path), "Not a gzipped file"),
        ("set.zip", lambda path: write_zip(path, []), "There are no images in 'set.zip'"),
        ("set.tar", lambda path: write_tar(path, []), "There are no images in 'set.tar'"),
        ("set.zip", lambda path: write_zip(path, [("1.png", png(1))]), "holds 1 image but no class folders"),
    ],
)
def test_an_archive_that_is_none_costs_a_sentence(
    topwork: Topwork, tmp_path: Path, name: str, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / name)
    answer = train(topwork, name)
    assert answer.status == 1
    assert said in shown(answer)
    assert "Traceback" not in answer.err


def test_a_bomb_in_a_zip_is_an_image_that_cannot_be_read(topwork: Topwork, tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", [*photos(), ("ash/zeros.bmp", bytes(200 << 20))])
    answer = train(topwork, "set.zip")
    assert answer.status == 0, answer.err
    assert "refused as a decompression bomb" in left_out()["ash/zeros.bmp"]


def test_a_damaged_member_of_a_zip_is_named_and_left_out(topwork: Topwork, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", photos())
    content = bytearray(path.read_bytes())
    place = content.find(b"cedar/17.png") + 60
    content[place : place + 200] = bytes(200)
    path.write_bytes(content)
    answer = train(topwork, "set.zip")
    assert answer.status == 0, answer.err
    assert "damaged in its archive" in left_out()["cedar/17.png"]


def test_columns_are_for_tables(topwork: Topwork, tmp_path: Path) -> None:
    write_zip(tmp_path / "set.zip", photos())
    answer = train(topwork, "set.zip", "--image-column", "x")
    assert answer.status == 1
    assert "is for a CSV or Parquet table" in answer.err
