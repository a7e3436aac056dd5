"""The course's job, whole: images on disk to a restored best top, Topwork against the notebook's own way.

    python benchmarks/course_job.py --images cifar10-jpeg.parquet [--size 32] [--quick] [--rivals rivals/bin/python]

CIFAR-10 (50,000 + 10,000), DenseNet121 frozen, Dense(256) + Dropout(0.5), 34 epochs on both sides: so many the
notebook ran until its patience of 10 ended it. Topwork: the whole `topwork train` process from an empty cache, graph
building and test included, the data check left out. The notebook: seconds an epoch of `fit` with the frozen network
inside the model, measured on a part of the images and scaled to 60,000, times 34; the fastest of three backends
counts. Weights are random: the speed is the same, and ImageNet's can't be had everywhere. Then what comes after:
another top (no image is computed), and 1 % more images. --quick takes every tenth image, and scales.
Expected: 44 times as fast as the fastest at 32 pixels (the aim is 60), 57 at 224.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from common import arguments, rival, show

EPOCHS = 34
IN_THE_MODEL = {32: 6_000, 224: 320}
"""Images that an epoch of the notebook's way is measured on, by size."""
TOP = ("--top", "256", "--dropout", "0.5", "--epochs", str(EPOCHS), "--patience", str(EPOCHS))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", required=True, help="CIFAR-10 as a table: image, label, split")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--part", type=float, default=1.0, help="of the images, for Topwork too; times are scaled")
    parser.add_argument("--quick", action="store_true", help="the same as --part 0.1")
    parser.add_argument("--rivals", help="a Python with Keras on TensorFlow, JAX and PyTorch")
    given = parser.parse_args()
    part = 0.1 if given.quick else given.part
    backbone = ("--backbone", "densenet121", "--weights", "random", "--size", str(given.size), "--no-check", "-q")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = str(Path(folder) / "cache")
        whole, less = write_tables(given.images, part, Path(folder))
        first = train(less, *backbone, *TOP, cwd=folder)
        more = train(whole, *backbone, *TOP, cwd=folder)
        again = train(whole, *backbone, "--top", "64", "--epochs", "5", cwd=folder)
    ours = first["process"] / part  # the process's fixed seconds are scaled too, against us
    print(f"Topwork: {ours:,.0f} s for 60,000 images" + (f" (scaled from {100 * part:.0f} %)" if part < 1 else ""))
    print(
        f"  features {first['seconds_features']:.1f} s, top {first['seconds_top']:.1f} s, all {first['process']:.1f} s"
    )
    print(f"  1 % more images: {more['n_extracted']:,} computed, features {more['seconds_features']:.1f} s")
    print(f"  another top: {again['n_extracted']:,} computed, features {again['seconds_features']:.1f} s")
    sample = IN_THE_MODEL.get(given.size, 320) // (4 if given.quick and given.size < 64 else 1)
    print(f"\n| at {given.size} pixels | s an epoch | {EPOCHS} epochs, s | Topwork is faster by |\n|---|---|---|---|")
    for backend in ("tensorflow", "jax", "torch"):
        epoch = rival(given.rivals, backend, "notebook", given.size, sample)
        job = None if epoch is None else EPOCHS * epoch
        ratio = None if job is None else job / ours
        print(
            f"| Keras on {backend} | {show(epoch)} | {show(job, '{:,.0f}')} | {show(ratio, '{:,.0f}×')} |", flush=True
        )


def write_tables(images: str, part: float, folder: Path) -> tuple[Path, Path]:
    """A part of the table, and the same without a hundredth of its images."""
    table = parquet.read_table(images)
    random = np.random.default_rng(0)
    keep = np.sort(random.choice(len(table), round(part * len(table)), replace=False))
    fewer = np.sort(random.choice(keep, round(0.99 * len(keep)), replace=False))
    for name, rows in (("whole", keep), ("less", fewer)):
        parquet.write_table(table.take(pa.array(rows)), folder / f"{name}.parquet")
    return folder / "whole.parquet", folder / "less.parquet"


def train(*options: object, cwd: str) -> dict[str, float]:
    """What `topwork train` says, and how long its process took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "topwork", "train", *map(str, options), "--json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout), "process": time.perf_counter() - began}


if __name__ == "__main__":
    main()
