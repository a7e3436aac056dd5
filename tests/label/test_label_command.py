"""`topwork label` as a process: killed, told to stop, started twice, and what it refuses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from helpers import make_photos
from topwork.data.dataset import ImageDataset
from topwork.data.journal import Labelling, read_journal

KILLS = 3
"""`benchmarks/label.py` does a hundred."""


@contextlib.contextmanager
def labelling(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The command on a folder, and a client with its token; killed at the end if it runs still."""
    command = [sys.executable, "-m", "topwork", "label", folder.name, "--no-browser", "--backbone", "starter", *options]
    process = subprocess.Popen(
        command, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r"(http://[\d.:]+)/\?token=([\w-]+)", said)
    if found is None:
        raise AssertionError(said + str(process.communicate()))
    with httpx.Client(base_url=found[1], headers={"X-Topwork-Token": found[2]}, timeout=60) as client:
        try:
            yield process, client
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", n=4)


def label_until_killed(process: subprocess.Popen[str], client: httpx.Client, seed: int) -> tuple[dict[str, str], str]:
    """The labels that were acknowledged, by file, and the one that was on its way when the command was killed."""
    acknowledged: dict[str, str] = {}
    names = [item["name"] for item in client.get("/api/gallery").json()["items"]]
    killer = threading.Timer(0.02 + 0.07 * seed, process.kill)
    for number in range(100_000):
        place, label = number % len(names), f"class {seed} {number}"
        try:
            answer = client.post("/api/label", json={"items": [{"id": place, "label": label}]})
        except httpx.HTTPError:
            killer.join()
            return acknowledged, label
        assert answer.status_code == 200
        acknowledged[names[place]] = label
        if number == 0:
            killer.start()
    raise AssertionError("it was not killed")


def test_no_acknowledged_label_is_lost_however_it_is_killed(unlabelled: Path) -> None:
    wanted: dict[str, str] = {}
    for kill in range(KILLS):
        with labelling(unlabelled) as (process, client):
            acknowledged, on_its_way = label_until_killed(process, client, kill)
        wanted |= acknowledged
        rows = Labelling(read_journal(unlabelled.parent / "photos.labels.csv")).images.values()
        kept = {row.file: row.label for row in rows}
        for name, label in wanted.items():
            assert kept[name] in (label, on_its_way)
        wanted = kept


def test_a_second_page_is_refused_and_an_interrupt_ends_the_first(
    unlabelled: Path, topwork: Callable[..., object]
) -> None:
    with labelling(unlabelled) as (process, client):
        second = topwork("label", unlabelled, "--no-browser", "--backbone", "starter")
        assert second.status == 1  # type: ignore[attr-defined]
        assert "is open in another" in second.err  # type: ignore[attr-defined]
        client.post("/api/label", json={"items": [{"id": 0, "label": "ash"}, {"id": 1, "label": "ash"}]})
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "2 labels are in photos.labels.csv" in out
        assert "Traceback" not in err


def test_what_the_page_needs_to_be_up_loads_nothing_heavy() -> None:
    code = "import topwork.cli.label, topwork.label.running, topwork.backbones.backbone, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"sklearn", "scipy", "jax", "keras", "openvino", "fastapi"}


def test_class_folders_are_first_labels_in_review(unlabelled: Path) -> None:
    with labelling(unlabelled, "--review") as (_, client):
        state = client.get("/api/state").json()
        assert [(entry["name"], entry["person"]) for entry in state["classes"]] == [
            ("ash", 4),
            ("birch", 4),
            ("cedar", 4),
        ]
        assert not state["can_undo"]
        client.post("/api/exclude", json={"ids": [0]})
        assert [item["excluded"] for item in client.post("/api/undo", json={}).json()["undone"]] == [False]
        assert client.post("/api/undo", json={}).json()["undone"] == []
    assert len(ImageDataset.from_journal(unlabelled, unlabelled.parent / "photos.labels.csv")) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "choose a --token"),
        (["--token", "short"], "8 or more printable"),
        (["--backbone", "resnet5"], "Did you mean"),
        (["--host", "203.0.113.1"], "Can't listen"),
    ],
)
def test_what_can_not_be_is_refused(
    unlabelled: Path, topwork: Callable[..., object], options: list[str], message: str
) -> None:
    done = topwork("label", unlabelled, "--no-browser", *options)
    assert done.status in (1, 2)  # type: ignore[attr-defined]
    assert message in done.err  # type: ignore[attr-defined]


def test_a_folder_without_images_is_refused(tmp_path: Path, topwork: Callable[..., object]) -> None:
    assert "There is no image" in topwork("label", tmp_path).err  # type: ignore[attr-defined]
