"""`topwork predict` over many images into a file, against extraction of the same images; and its memory.

    python benchmarks/predict.py --images cifar10.parquet [--quick]

CIFAR-10 (or another table: image, label, split) with the starter at its own size and a linear top. In one run, each in
a process of its own, in turn and twice over: features into an empty store; `predict` into Parquet, CSV and JSON lines.
Both begin with nothing kept and the graph compiled. Then the peak of `predict`'s memory at a tenth of the images and
at all of them. --quick takes a tenth of the images once. Six minutes or so for 60,000.
Expected: `predict` within a tenth of extraction's rate, though it answers and tells unknown images on the way; memory
the same at both sizes but for the names.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

import topwork as tw
from common import arguments

KINDS = ("parquet", "csv", "jsonl")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", required=True, help="CIFAR-10 as a table: image, label, split")
    parser.add_argument("--quick", action="store_true", help="a tenth of the images, once")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.images)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = str(Path(folder) / "cache")
        compare(Path(folder), Path(given.images), quick=given.quick)


def compare(folder: Path, images: Path, *, quick: bool) -> None:
    """Measure, and print two tables."""
    n = parquet.ParquetFile(images).metadata.num_rows
    few, many = n // 10, n // 10 if quick else n
    small, large = part(images, folder / "few.parquet", few), part(images, folder / "many.parquet", many)
    os.chdir(folder)
    dataset = tw.ImageDataset.load(small)
    tw.fit_classifier(dataset, verbose=False).save("classifier")
    print(f"{many:,} images\n\n| what | images/s | of extraction |\n|---|---|---|", flush=True)
    rates: dict[str, list[float]] = {}
    for _ in range(1 if quick else 2):
        for what in ("extraction", *KINDS):
            rates.setdefault(what, []).append(in_own_process(what, large)[0])
    for what, values in rates.items():
        title = what if what == "extraction" else f"predict, .{what}"
        print(f"| {title} | {max(values):,.0f} | {max(values) / max(rates['extraction']):.2f} |", flush=True)
    print("\n| images | peak memory of predict, MB |\n|---|---|")
    for table, size in ((small, few), (large, many)):
        print(f"| {size:,} | {in_own_process('parquet', table)[1]:,.0f} |", flush=True)


def in_own_process(what: str, table: Path) -> tuple[float, float]:
    """Images a second, and the peak of memory in MB."""
    shutil.rmtree(Path(os.environ["TOPWORK_CACHE"]) / "features", ignore_errors=True)
    command = [sys.executable, __file__, "--measure", what, "--images", str(table)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, peak = map(float, done.stdout.split()[-2:])
    return rate, peak


def measure(what: str, images: str) -> None:
    """One measurement, of this process; starting it is not in the time."""
    classifier = tw.load_classifier("classifier")
    classifier.predict(np.zeros((1, 32, 32, 3), np.uint8))
    if what == "extraction":
        began = time.perf_counter()
        dataset = tw.ImageDataset.load(images)
        tw.extract_features(dataset, classifier.backbone)
        n = len(dataset)
    else:
        from topwork.prediction.images import find_images
        from topwork.prediction.predict import predict_file

        began = time.perf_counter()
        source = find_images([images])
        predict_file(classifier, source, Path(f"answers.{what}"))
        n = len(source)
    print(n / (time.perf_counter() - began), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def part(images: Path, to: Path, n: int) -> Path:
    """The first `n` rows, as a table of its own."""
    with parquet.ParquetFile(images) as file, parquet.ParquetWriter(to, file.schema_arrow) as writer:
        for batch in file.iter_batches(1000):
            writer.write_batch(batch.slice(0, min(n, batch.num_rows)))
            n -= min(n, batch.num_rows)
            if n <= 0:
                break
    return to


if __name__ == "__main__":
    main()
