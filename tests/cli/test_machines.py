"""Machines as they are: no home, a cache that can't be written, no standard input, output or error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from helpers import make_photos
from topwork import files
from topwork.files import cache_dir


@pytest.fixture
def fresh() -> Iterator[None]:
    """What was found out about cache folders is forgotten, before and after."""
    for known in (files._can_be_written, files._temporary_cache):
        known.cache_clear()
    yield
    for known in (files._can_be_written, files._temporary_cache):
        known.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_without_a_home_a_temporary_folder_serves(monkeypatch: pytest.MonkeyPatch, heard: list[str]) -> None:
    def no_home(name: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("TOPWORK_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_dir", no_home)
    folder = cache_dir()
    assert folder.is_dir()
    assert cache_dir() == folder
    assert len(heard) == 1
    assert heard[0].startswith("There is no home folder")
    assert "TOPWORK_CACHE" in heard[0]


@pytest.mark.usefixtures("fresh")
def test_what_a_cache_holds_that_cannot_be_written_is_used(
    monkeypatch: pytest.MonkeyPatch, heard: list[str], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    (kept / "graphs" / "one").mkdir(parents=True)
    (kept / "graphs" / "one" / "graph.xml").write_text("whole")
    monkeypatch.setenv("TOPWORK_CACHE", str(kept))
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(kept)))
    folder = cache_dir()
    assert folder != kept
    assert (folder / "graphs" / "one" / "graph.xml").read_text() == "whole"
    (folder / "graphs" / "one" / "more").write_text("new")
    assert not (kept / "graphs" / "one" / "more").exists()
    assert len(heard) == 1
    assert "can't be written" in heard[0]


def test_a_user_without_home_and_name_is_answered(digits_classifier: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", n=2)
    program = (
        "import os, pwd, sys\n"
        "def nobody(*_): raise KeyError('no entry in passwd')\n"
        "pwd.getpwuid = pwd.getpwnam = nobody\n"
        "from topwork.cli.main import run\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", str(digits_classifier), str(photos / "ash" / "0.png")],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "There is no home folder" in done.stderr
    assert "ash/0.png" in done.stdout


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)])
def test_closed_standard_files_are_no_matter(digits_classifier: Path, tmp_path: Path, closed: tuple[int, ...]) -> None:
    photos = make_photos(tmp_path / "photos", n=60)

    program = [sys.executable, "-m", "topwork", "predict", str(digits_classifier), str(photos), "--out", "answers.csv"]
    closing = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", *program], cwd=tmp_path)
    assert done.returncode == 0
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 181
