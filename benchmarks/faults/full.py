"""Writing fails at random points, as on a full disk: a sentence, and the next run goes on.

    python benchmarks/faults/full.py [--n 60]

A limit on the size of files (RLIMIT_FSIZE) stands for the full disk: each write beyond it fails. Expected: each command
ends well or with a sentence, and without the limit gives the result of a run that nothing disturbed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from commands import TRAIN, Bench, contents, draw_photos, is_sentence, run_part
from kills import RESULTS


def main(folder: Path, n: int, seed: int = 0) -> dict[str, Any]:
    """Train, and predict into a file, with limits drawn evenly on a logarithmic scale from 100 bytes to 10 MB."""
    random = np.random.default_rng(seed)
    bench = Bench(folder)
    draw_photos(folder / "photos")
    commands = {
        "again": ("train", "photos", *TRAIN, "--out", "again"),
        "again.csv": ("predict", "reference", "photos", "--out", "again.csv", "--quiet"),
    }
    bench.run("train", "photos", *TRAIN, "--out", "reference")
    bench.run("predict", "reference", "photos", "--out", "reference.csv", "--quiet")
    expected = {
        "again": contents(folder / "reference", RESULTS),
        "again.csv": {"": (folder / "reference.csv").read_bytes()},
    }
    counts = {"points": 0, "a sentence": 0, "done all the same": 0, "no sentence": 0, "other results": 0}
    failures: list[str] = []
    for point in range(n):
        made, command = list(commands.items())[point % 2]
        if point % 4 < 2:
            shutil.rmtree(bench.cache, ignore_errors=True)
        shutil.rmtree(folder / "again", ignore_errors=True)
        (folder / "again.csv").unlink(missing_ok=True)
        limit = int(10 ** random.uniform(2, 7))
        done = bench.run(*command, largest_file=limit)
        counts["points"] += 1
        outcome = "done all the same" if done.returncode == 0 else "a sentence" if is_sentence(done) else "no sentence"
        counts[outcome] += 1
        if outcome == "no sentence":
            failures.append(f"{made}, {limit:,} bytes: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")
        if not (folder / made).exists():
            bench.run(*command)
        path = folder / made
        found = contents(path, RESULTS) if path.is_dir() else {"": path.read_bytes()} if path.exists() else {}
        counts["other results"] += found != expected[made]
    return {**counts, "failures": failures[:5], "left behind": bench.leftovers()}


if __name__ == "__main__":
    run_part(main, __doc__, 60)
