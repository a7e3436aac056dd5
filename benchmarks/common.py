"""What the benchmarks share: their arguments, how a time is taken, and how rivals are run."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import topwork as tw


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a benchmark's first lines as its help."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def images_and_backbone(description: str | None) -> tuple[tw.ImageDataset, tw.Backbone]:
    """The data set and the frozen network that the user named."""
    parser = arguments(description)
    parser.add_argument("--images", required=True, help="CIFAR-10 as a table: image, label, split")
    parser.add_argument("--backbone", default="starter")
    parser.add_argument("--weights")
    parser.add_argument("--size", type=int)
    given = parser.parse_args()
    return tw.ImageDataset.load(given.images), tw.load_backbone(given.backbone, weights=given.weights, size=given.size)


def quick_and_rivals(description: str | None, quick: str) -> argparse.Namespace:
    """`--quick`, which `quick` explains, and `--rivals`."""
    parser = arguments(description)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--rivals", help="a Python with what rivals.py needs")
    return parser.parse_args()


def seconds(work: Callable[[], Any], *, repeats: int = 1) -> float:
    """The shortest time that `work` took of so many: others on the machine only ever make it longer."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def rival(python: str | None, backend: str, *what: object) -> float | None:
    """What `rivals.py` measures on a Keras backend, in the environment of `python`; None where it can't."""
    output = rival_output(python, backend, *what)
    return None if output is None else float(output.split()[-1])


def rival_output(python: str | None, backend: str, *what: object) -> str | None:
    """All that `rivals.py` prints; None where it can't run, which is said."""
    if python is None:
        return None
    command = [python, str(Path(__file__).with_name("rivals.py")), *map(str, what)]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True)
    if done.returncode:
        print(f"  {backend} {' '.join(map(str, what))} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return done.stdout


def show(value: float | None, form: str = "{:,.1f}") -> str:
    """A cell of a table; a dash where nothing was measured."""
    return "–" if value is None else form.format(value)
