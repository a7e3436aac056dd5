"""Names are claimed by one process each, and nothing half made stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from topwork.errors import SpecialFileError, StorageError
from topwork.files import atomic_file, atomic_folder, new_folder, open_regular, printable, read_regular, staging_folder

CLAIM = """
import sys
from itertools import count
from pathlib import Path
from topwork.files import new_folder
for i in range(10):
    with new_folder(Path(sys.argv[1]) / f"run-{n}" for n in count(1)) as new:
        (new.path / "who").write_text(sys.argv[2])
"""
HOLD = """
import sys, time
from pathlib import Path
from topwork.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def in_child(program: str, *arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=stdout, text=True)


def test_names_claimed_by_several_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    children = [in_child(CLAIM, str(tmp_path), str(i)) for i in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4
    written = [(tmp_path / f"run-{n}" / "who").read_text() for n in range(1, 41)]
    assert sorted(written) == sorted("0123" * 10)
    assert len(list(tmp_path.iterdir())) == 40


def test_a_folder_replaced_by_several_at_once_is_one_of_theirs(tmp_path: Path) -> None:
    program = CLAIM.replace('new_folder(Path(sys.argv[1]) / f"run-{n}" for n in count(1)) as new', "folder() as path")
    program = program.replace("new.path", "path").replace(
        "for i",
        'from topwork.files import atomic_folder\nfolder = lambda: atomic_folder(Path(sys.argv[1]) / "x", replace=True)'
        "\nfor i",
    )
    children = [in_child(program, str(tmp_path), str(i)) for i in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4
    assert (tmp_path / "x" / "who").read_text() in "0123"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path: Path) -> None:
    child = in_child(HOLD, str(tmp_path / "file"), stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "writing\n"
    with atomic_file(tmp_path / "other") as file:
        file.write(b"other")
    assert len(list(tmp_path.glob(".topwork-*"))) == 1  # its maker is alive
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    with atomic_file(tmp_path / "file") as file:
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_a_failed_block_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept").write_text("kept")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "old", replace=True) as path:
        (path / "half").write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), new_folder(tmp_path / str(n) for n in count()):
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "kept"]


def test_files_get_the_rights_that_the_user_set(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "folder", replace=False) as path, (path / "file").open("wb"):
            pass
        with atomic_file(tmp_path / "file"):
            pass
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("folder", "folder/file", "file")]
    assert modes == [0o750, 0o640, 0o640]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are made by mkfifo")
def test_only_regular_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for path, why in ((tmp_path / "pipe", "named pipe"), (tmp_path / "endless", "device")):
        with pytest.raises(SpecialFileError, match=why):
            open_regular(path)
    with pytest.raises(SpecialFileError, match="5 bytes; 4 are allowed"):
        read_regular(tmp_path / "file", at_most=4)
    with pytest.raises(SpecialFileError, match="grew"):
        read_regular("/proc/self/status", at_most=1 << 20)
    assert read_regular(tmp_path / "file", at_most=5) == b"12345"


def test_any_text_can_be_shown() -> None:
    assert printable("Eiche \udcff \ud800") == "Eiche \\udcff \\ud800"
    assert printable("Eiche \udcff") == "Eiche \\xff"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="Can't write .*file/inside"), atomic_file(tmp_path / "file" / "inside"):
        pass
    with staging_folder(tmp_path) as folder:
        assert folder.is_dir()
    assert not folder.exists()


MAKE_MANY = """
import sys
from pathlib import Path
from topwork.files import atomic_file
for _ in range(60):
    with atomic_file(Path(sys.argv[1]) / sys.argv[2]) as file:
        file.write(b"whole")
"""


def test_folders_for_work_in_progress_are_not_swept_while_they_are_being_locked(tmp_path: Path) -> None:
    children = [in_child(MAKE_MANY, str(tmp_path), str(i)) for i in range(6)]
    assert [child.wait(60) for child in children] == [0] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(i) for i in range(6)]
