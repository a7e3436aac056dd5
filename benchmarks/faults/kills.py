"""Killed at random moments: the same command, run again, gives the same result, and nothing stays behind.

    python benchmarks/faults/kills.py [--n 200]

Expected: every result equal byte for byte to that of a run that nobody killed; no leftovers, no processes left.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from commands import TRAIN, Bench, children_left, contents, draw_photos, finish, kill, run_part

RESULTS = ("top.safetensors", "backbone.safetensors", "novelty.safetensors", "predictions.parquet", "history.csv")
"""Files of a run that hold no times."""


def main(folder: Path, n: int, seed: int = 0) -> dict[str, Any]:
    """Kill each of five commands at `n / 5` random moments."""
    random = np.random.default_rng(seed)
    bench = Bench(folder)
    draw_photos(folder / "photos")
    train = ("train", "photos", *TRAIN, "--out")
    bench.run(*train, "reference")
    commands: dict[str, tuple[tuple[object, ...], str]] = {
        "train": ((*train, "killed"), "killed"),
        "train, warm cache": ((*train, "killed"), "killed"),
        "predict --out": (("predict", "reference", "photos", "--out", "killed.csv", "--quiet"), "killed.csv"),
        "export": (("export", "reference", "--to", "openvino", "--out", "killed"), "killed"),
        "serve": (("serve", "reference", "--port", "0"), ""),
    }
    counts = {"kills": 0, "other results": 0, "failed": 0, "processes left": 0}
    leftovers: set[str] = set()
    others: list[str] = []
    for name, (command, made) in commands.items():
        is_cold = name != "train, warm cache"
        expected, seconds = _undisturbed(bench, command, made, is_cold)
        for _ in range(max(1, n // len(commands))):
            _begin_again(bench, made, is_cold)
            process = bench.start(*command)
            time.sleep(random.uniform(0.0, 1.05 * seconds))
            kill(process)
            counts["kills"] += 1
            counts["processes left"] += children_left(bench)
            if made and not _exists(bench, made):
                done = bench.run(*command)
                counts["failed"] += done.returncode != 0
            elif not made:
                _serve_once(bench, command)
            found = _result(bench, made)
            if found != expected:
                counts["other results"] += 1
                differs = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
                others.append(f"{name}: {', '.join(differs)}")
            bench.run("predict", "reference", "photos/ash/0.png")  # one more run, of another kind
            leftovers.update(bench.leftovers())
    return {**counts, "others": others[:5], "left behind": sorted(leftovers)[:5]}


def _undisturbed(bench: Bench, command: tuple[object, ...], made: str, is_cold: bool) -> tuple[dict[str, bytes], float]:
    """What the command makes, and how long it takes."""
    _begin_again(bench, made, is_cold)
    began = time.perf_counter()
    if made:
        bench.run(*command)
    else:
        _serve_once(bench, command)
    return _result(bench, made), time.perf_counter() - began


def _begin_again(bench: Bench, made: str, is_cold: bool) -> None:
    if is_cold:
        shutil.rmtree(bench.cache, ignore_errors=True)
    if made:
        path = bench.folder / made
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)


def _exists(bench: Bench, made: str) -> bool:
    return (bench.folder / made).exists()


def _result(bench: Bench, made: str) -> dict[str, bytes]:
    path = bench.folder / made
    if not made:
        return {}
    return {made: path.read_bytes()} if path.is_file() else contents(path, (*RESULTS, "model.xml", "model.bin"))


def _serve_once(bench: Bench, command: tuple[object, ...]) -> None:
    """Start the service, wait until it is ready, and stop it."""
    process = bench.start(*command)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    if finish(process).returncode:
        raise subprocess.SubprocessError("The service did not end well.")


if __name__ == "__main__":
    run_part(main, __doc__, 200)
