"""Several processes at once: each keeps its own result, and none dies.

    python benchmarks/faults/parallel.py [--rounds 10]

Expected: as many run folders as trainings, each complete and its own seed's; every prediction answered alike.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from commands import TRAIN, Bench, draw_photos, finish

AT_ONCE = 8


def trains(folder: Path, rounds: int, at_once: int = AT_ONCE) -> dict[str, Any]:
    """`at_once` trainings on the same images with default names, on a cold cache and then on a warm one."""
    bench = Bench(folder)
    draw_photos(folder / "photos")
    seeds = range(at_once)
    options = ("--top", "16", "--epochs", "3", "--test", "0.2", *TRAIN)
    expected = {seed: _top(bench, bench.run("train", "photos", *options, "--seed", seed).stdout) for seed in seeds}
    n_lost = n_wrong = n_crashed = 0
    for turn in range(rounds):
        shutil.rmtree(folder / "runs")
        if turn % 2 == 0:
            shutil.rmtree(bench.cache)
        started = {seed: bench.start("train", "photos", *options, "--seed", seed) for seed in seeds}
        for seed, process in started.items():
            done = finish(process)
            if done.returncode:
                n_crashed += 1
            else:
                n_wrong += _top(bench, done.stdout) != expected[seed]
        n_lost += at_once - len(list((folder / "runs").glob("*/report.html")))
    return {
        "trainings": rounds * at_once,
        "crashed": n_crashed,
        "lost": n_lost,
        "another seed's": n_wrong,
        "left behind": bench.leftovers(),
    }


def predicts(folder: Path, rounds: int, at_once: int = AT_ONCE) -> dict[str, Any]:
    """`at_once` predictions at once, on a cold cache each time."""
    bench = Bench(folder)
    draw_photos(folder / "photos")
    bench.run("train", "photos", *TRAIN, "--out", "run")
    command = ("predict", "run", "photos/ash", "--format", "csv")
    expected = bench.run(*command).stdout
    n_died = n_other = 0
    for _ in range(rounds):
        shutil.rmtree(bench.cache)
        for done in [finish(process) for process in [bench.start(*command) for _ in range(at_once)]]:
            n_died += done.returncode != 0
            n_other += done.returncode == 0 and done.stdout != expected
    return {"predictions": rounds * at_once, "died": n_died, "other answers": n_other, "left behind": bench.leftovers()}


def _top(bench: Bench, said: str) -> bytes:
    """The top in the run folder that a training named."""
    folder = next(line.removeprefix("Run folder: ") for line in said.splitlines() if line.startswith("Run folder: "))
    return (bench.folder / folder / "classifier" / "top.safetensors").read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(trains(Path(scratch) / "trains", arguments.rounds), indent=2))
        print(json.dumps(predicts(Path(scratch) / "predicts", 2 * arguments.rounds), indent=2))
