"""What goes wrong in a child process with Keras is said by its parent, even where no byte can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import make_photos

LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
runpy.run_module("topwork", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("limit", [0, 138])
def test_a_child_that_can_write_nothing_says_so(tmp_path: Path, limit: int) -> None:
    photos = make_photos(tmp_path / "photos")
    (tmp_path / "limited.py").write_text(LIMITED.format(limit=limit))
    command = [sys.executable, str(tmp_path / "limited.py"), "predict", "run", str(photos)]
    environment = {**os.environ, "TOPWORK_CACHE": str(tmp_path / "cache")}
    trained = [sys.executable, "-m", "topwork", "train", str(photos), "--no-check", "--size", "32", "--out", "run"]
    subprocess.run(trained, cwd=tmp_path, capture_output=True, check=True)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
