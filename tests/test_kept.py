"""Kept folders and files are used as they were written, or made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from topwork.kept import kept_folder, read_kept, set_aside, write_kept


def make(folder: Path) -> None:
    (folder / "graph").write_bytes(b"whole")


def test_a_damaged_folder_is_named_set_aside_and_made_anew(tmp_path: Path, heard: list[str]) -> None:
    folder = kept_folder(tmp_path / "kept", make)
    (folder / "graph").write_bytes(b"whale")
    assert (kept_folder(folder, make) / "graph").read_bytes() == b"whole"
    assert (tmp_path / "kept.damaged" / "graph").read_bytes() == b"whale"
    assert len(heard) == 1
    assert kept_folder(folder, lambda _: pytest.fail("it was whole")) == folder


def test_a_folder_from_before_checksums_is_made_anew_and_not_called_damaged(tmp_path: Path, heard: list[str]) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "graph").write_bytes(b"old")
    assert (kept_folder(tmp_path / "kept", make) / "graph").read_bytes() == b"whole"
    assert heard == []
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_of_several_that_set_a_file_aside_one_says_so(tmp_path: Path, heard: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"damaged")
    for _ in range(3):
        set_aside(tmp_path / "file")
    assert len(heard) == 1


@pytest.mark.parametrize("place", [0, 40, 64, 99])
def test_a_damaged_file_is_none(tmp_path: Path, heard: list[str], place: int) -> None:
    write_kept(tmp_path / "file", bytes(range(40)))
    found = read_kept(tmp_path / "file")
    assert found is not None
    assert found.tobytes() == bytes(range(40))
    content = bytearray((tmp_path / "file").read_bytes())
    content[place] ^= 1
    (tmp_path / "file").write_bytes(content)
    assert read_kept(tmp_path / "file") is None
    assert len(heard) == 1
