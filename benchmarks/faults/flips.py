"""One byte changed in a kept file: the answers are the same to the bit, or a sentence says what is wrong.

    python benchmarks/faults/flips.py [--n 300]

Expected: no other number, no traceback.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from commands import TRAIN, Bench, copy, draw_photos, is_sentence, run_part

KINDS = {
    "features": "cache/features/*/*.features",
    "facts of features": "cache/features/*/facts.json",
    "graph": "cache/graphs/*/graph.xml",
    "weights in the graph": "cache/graphs/*/graph.bin",
    "checksums of the graph": "cache/graphs/*/checksums.json",
    "compiled graph": "cache/graphs/*/*.blob",
    "manifest": "run/classifier/manifest.json",
    "top": "run/classifier/top.safetensors",
    "novelty": "run/classifier/novelty.safetensors",
    "backbone": "run/classifier/backbone.safetensors",
}


def main(folder: Path, n: int, seed: int = 0) -> dict[str, Any]:
    """Change one byte of each kind of kept file `n / len(KINDS)` times, its time of change kept; train and predict."""
    random = np.random.default_rng(seed)
    bench = Bench(folder)
    draw_photos(folder / "photos", n=180)  # enough for a detector of unknown images
    train = ("train", "photos", *TRAIN, "--out", "again")
    bench.run("train", "photos", *TRAIN, "--out", "run")
    bench.run("predict", "run", "photos/ash", "--format", "csv")
    kept = {name: copy(folder / name, folder / f"whole {name}") for name in ("cache", "run")}
    expected_top = (folder / "run/classifier/top.safetensors").read_bytes()
    predict = ("predict", "run", "photos/ash", "--format", "csv")
    expected_answers = bench.run(*predict).stdout
    counts = {"flips": 0, "same": 0, "a sentence": 0, "other number": 0, "no sentence": 0}
    failures: list[str] = []
    for kind, pattern in KINDS.items():
        for _ in range(max(1, n // len(KINDS))):
            for name, whole in kept.items():
                copy(whole, folder / name)
            copy(folder / "nothing", folder / "again")
            paths = sorted(folder.glob(pattern))
            if not paths:
                continue
            path = paths[random.integers(len(paths))]
            place = flip(path, random)
            counts["flips"] += 1
            answered = bench.run(*predict)
            outcome = _outcome(answered.returncode == 0, answered.stdout == expected_answers, is_sentence(answered))
            if kind.startswith(("features", "facts")):
                trained = bench.run(*train)
                top = folder / "again/classifier/top.safetensors"
                is_same = top.exists() and top.read_bytes() == expected_top
                outcome = _outcome(trained.returncode == 0, is_same, is_sentence(trained))
            counts[outcome] += 1
            if outcome in ("other number", "no sentence"):
                failures.append(f"{kind}, byte {place}: {(answered.stderr.strip().splitlines() or ['?'])[-1][:150]}")
    return {**counts, "failures": failures[:5]}


def flip(path: Path, random: np.random.Generator) -> int:
    """Change one byte of a file, and set its times to what they were; returns the byte's place."""
    state = path.stat()
    content = bytearray(path.read_bytes())
    place = int(random.integers(len(content)))
    content[place] ^= int(random.integers(1, 256))
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return place


def _outcome(is_done: bool, is_same: bool, has_sentence: bool) -> str:
    if is_done:
        return "same" if is_same else "other number"
    return "a sentence" if has_sentence else "no sentence"


if __name__ == "__main__":
    run_part(main, __doc__, 300)
