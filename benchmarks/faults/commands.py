"""The command line as a user runs it, in folders of its own, and pictures to run it on."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SECONDS = 300.0
"""A command that takes longer counts as hanging."""
TRAIN = ("--size", "32", "--no-check", "--quiet")
_LIMITED = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("topwork", run_name="__main__", alter_sys=True)
"""
COLOURS = {"ash": (200, 60, 60), "birch": (60, 200, 60), "cedar": (60, 60, 200)}


@dataclass(frozen=True)
class Bench:
    """A folder to work in, with a cache and a place for temporary files of its own."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def environment(self) -> dict[str, str]:
        """Of every command."""
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {**os.environ, "TOPWORK_CACHE": str(self.cache), "TMPDIR": str(temporary)}

    def start(self, *arguments: object, largest_file: int | None = None) -> subprocess.Popen[str]:
        """Begin `topwork ARGUMENTS`; it can write no file of more than `largest_file` bytes."""
        program = ["-m", "topwork"] if largest_file is None else ["-c", _LIMITED, str(largest_file)]
        return subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run `topwork ARGUMENTS` to its end."""
        return finish(self.start(*arguments, largest_file=largest_file))

    def leftovers(self) -> list[str]:
        """What work in progress left behind, in every folder."""
        found = [path for pattern in (".topwork-*", ".*.lock", ".*.part") for path in self.folder.rglob(pattern)]
        return sorted(str(path.relative_to(self.folder)) for path in found)


def run_part(main: Callable[[Path, int], dict[str, Any]], description: str, n: int, *, on_a_run: bool = False) -> None:
    """The command line of one part: tried `--n` times, in a folder of its own or on a run; its counts are printed."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    if on_a_run:
        parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=n)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(main(given.run if on_a_run else Path(scratch), given.n), indent=2))


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a command; one that hangs is killed, with status -9."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def is_sentence(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a command that failed said why, without a traceback."""
    return done.returncode == 1 and "Error: " in done.stderr and "Traceback" not in done.stderr


def draw_photos(folder: Path, n: int = 12) -> Path:
    """`folder/CLASS/i.png`: `n` small pictures of each of three classes."""
    for k, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            random = np.random.default_rng(1000 * k + i)
            y, x = np.mgrid[:40, :48]
            centre = random.uniform(0.3, 0.7, 2) * (40, 48)
            blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 190)[..., None]
            pixels = random.normal(110, 25, (40, 48, 3)) * (1 - blob) + np.array(colour) * blob
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def contents(folder: Path, names: Sequence[str] = ()) -> dict[str, bytes]:
    """The bytes of the files below a folder, or of those called so."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if not names or path.name in names}


def copy(source: Path, target: Path) -> Path:
    """A copy of a folder with the times of its files; what was at `target` is gone."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target)) if source.exists() else target


def kill(process: subprocess.Popen[str]) -> None:
    """Kill this process alone, not those that it started."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def children_left(bench: Bench, seconds: float = 10.0) -> int:
    """How many processes that work in the bench's cache are still there after so many seconds (Linux)."""
    until = time.monotonic() + seconds
    while (n := _n_processes(str(bench.cache))) and time.monotonic() < until:
        time.sleep(0.1)
    return n


def _n_processes(cache: str) -> int:
    wanted = f"TOPWORK_CACHE={cache}".encode()
    n = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            n += wanted in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid()
        except OSError:  # it ended, or is another user's
            continue
    return n
