"""Images are answered as they arrive: each once, none before it is whole, whatever else happens in the folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import make_photo
from topwork.errors import DataError, OptionError
from topwork.prediction.watching import Arrivals, open_log, require_folders

states = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.tuples(st.integers(0, 2), st.just(0)))


@given(st.lists(states, max_size=12))
def test_an_image_is_told_once_for_each_state_and_only_when_it_rests(looks: list[dict[str, tuple[int, int]]]) -> None:
    arrivals, told = Arrivals(), {}
    for before, now in zip([{}, *looks], looks, strict=False):
        arrived = arrivals.look(now)
        for path in now:
            rests = before.get(path) == now[path]
            assert (path in arrived) == (rests and told.get(path) != now[path])
        told |= {path: now[path] for path in arrived}


def test_what_a_log_has_answered_is_answered_again_only_when_it_changes() -> None:
    arrivals = Arrivals(frozenset({"a"}))
    assert [arrivals.look({"a": (1, 0), "b": (1, 0)}) for _ in range(3)] == [[], ["b"], []]
    assert [arrivals.look({"a": (2, 0), "b": (1, 0)}) for _ in range(2)] == [[], ["a"]]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_log_drops_a_line_that_was_cut_short(tmp_path: Path, name: str) -> None:
    rows = [
        {"image": 'new\nline, "1".png', "class": "ash", "probability": 0.9, "unknown": None, "runners_up": []},
        {"image": "2.png", "error": "the file is empty"},
    ]
    with open_log(tmp_path / name, ("ash",)) as log:
        for row in rows:
            log.say(log.form.line(row))
    whole = (tmp_path / name).read_bytes()
    with (tmp_path / name).open("ab") as file:
        file.write(whole.splitlines(keepends=True)[-1][:9])
    with open_log(tmp_path / name, ("ash",)) as log:
        assert log.answered == {row["image"] for row in rows}
    assert (tmp_path / name).read_bytes() == whole


def test_what_cannot_be_a_log_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("image,size\na.png,3\n")
    (tmp_path / "other.jsonl").write_text("[1, 2]\n")
    for name, reason in (
        ("a.parquet", "csv or .jsonl"),
        ("other.csv", "other columns"),
        ("other.jsonl", "isn't a log"),
    ):
        with pytest.raises(OptionError, match=reason), open_log(tmp_path / name, ("ash",)):
            pass
    with pytest.raises(DataError, match="isn't a folder"):
        require_folders([str(tmp_path / "other.csv")])


class Watcher:
    """`topwork predict --watch --out log.jsonl` in a process of its own."""

    def __init__(self, classifier: Path, folder: Path) -> None:
        self.log = folder / "log.jsonl"
        # a process started in the background ignores Ctrl-C: give it back its ears; and look more often
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "import topwork.prediction.watching as w, topwork.__main__ as m; w.SECONDS_BETWEEN_LOOKS = 0.2; m.run()"
        )
        command = [sys.executable, "-c", code, "predict", str(classifier), "inbox", "--watch", "--out", "log.jsonl"]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)

    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def wait_for(self, is_so: Callable[[list[dict[str, object]]], bool]) -> None:
        deadline = time.monotonic() + 30
        while not is_so(self.rows()):
            assert self.process.poll() is None
            assert time.monotonic() < deadline, self.rows()
            time.sleep(0.02)

    def stop(self) -> str:
        """Ctrl-C; what it said."""
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=30)[1]
        assert self.process.returncode == 0, said
        return said


def test_images_are_answered_as_they_arrive(digits_classifier: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "deep").mkdir(parents=True)
    make_photo((200, 60, 40), 0).save(inbox / "there.png")
    watcher = Watcher(digits_classifier, tmp_path)
    watcher.wait_for(lambda rows: len(rows) == 1)

    (inbox / "bad.png").write_bytes(b"")
    make_photo((200, 60, 40), 1).save(tmp_path / "slow.png")
    content = (tmp_path / "slow.png").read_bytes()
    with (inbox / "deep" / "slow.png").open("wb", buffering=0) as slow:  # a copy that takes a second
        for i in range(10):
            slow.write(content[i * len(content) // 10 : (i + 1) * len(content) // 10])
            assert "inbox/deep/slow.png" not in [row["image"] for row in watcher.rows()]
            time.sleep(0.1)
    watcher.wait_for(lambda rows: len(rows) == 3)
    assert {row["image"]: "error" in row for row in watcher.rows()} == {
        "inbox/there.png": False,
        "inbox/bad.png": True,
        "inbox/deep/slow.png": False,
    }

    shutil.rmtree(inbox)  # a share that goes and comes back
    time.sleep(0.5)
    inbox.mkdir()
    make_photo((40, 70, 200), 2).save(inbox / "new.png")
    watcher.wait_for(lambda rows: len(rows) == 4)
    assert "Ended: 4 images answered, 1 of them can't be read." in watcher.stop()

    again = Watcher(digits_classifier, tmp_path)
    make_photo((40, 70, 200), 3).save(inbox / "newer.png")
    again.wait_for(lambda rows: len(rows) == 5)
    assert [row["image"] for row in again.rows()][3:] == ["inbox/new.png", "inbox/newer.png"]
    assert "Ended: 1 image answered." in again.stop()
    assert os.listdir(inbox)
