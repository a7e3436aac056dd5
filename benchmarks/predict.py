"""`topwork predict` over many images into a file, against extraction of the same images; and its memory.

    python benchmarks/predict.py --images cifar10.parquet [--quick]

CIFAR-10 (or another table: image, label, split) with the starter at its own size and a linear top. In one run, each in
a process of its own, in turn and twice over: features into an empty store; `predict` into Parquet, CSV and JSON lines.
Both begin with nothing kept and the graph compiled. Then the peak of `predict`'s memory at a tenth of the images and
at all of them. --quick takes a tenth of the images once. Six minutes or so for 60,000.
Expected: processor time within a tenth of extraction's, though it answers and tells unknown images on the way, and 0.9
to 1.0 of its rate; memory the same at both sizes.
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
    print(
        f"{many:,} images\n\n| what | images/s | of extraction | processor ms an image |\n|---|---|---|---|", flush=True
    )
    rates: dict[str, list[float]] = {}
    efforts: dict[str, list[float]] = {}
    for _ in range(1 if quick else 2):
        for what in ("extraction", *KINDS):
            rate, _, effort = in_own_process(what, large)
            rates.setdefault(what, []).append(rate)
            efforts.setdefault(what, []).append(effort)
    for what, values in rates.items():
        title = what if what == "extraction" else f"predict, .{what}"
        ratio = max(values) / max(rates["extraction"])
        print(f"| {title} | {max(values):,.0f} | {ratio:.2f} | {min(efforts[what]):.3f} |", flush=True)
    print("\n| images | peak memory of predict, MB |\n|---|---|")
    for table, size in ((small, few), (large, many)):
        print(f"| {size:,} | {in_own_process('parquet', table)[1]:,.0f} |", flush=True)


def in_own_process(what: str, table: Path) -> tuple[float, float, float]:
    """Images a second, the peak of memory in MB, and milliseconds of processor time an image."""
    shutil.rmtree(Path(os.environ["TOPWORK_CACHE"]) / "features", ignore_errors=True)
    command = [sys.executable, __file__, "--measure", what, "--images", str(table)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, peak, effort = map(float, done.stdout.split()[-3:])
    return rate, peak, effort


def measure(what: str, images: str) -> None:
    """One measurement, of this process; starting it is not in the time."""
    classifier = tw.load_classifier("classifier")
    classifier.predict(np.zeros((1, 32, 32, 3), np.uint8))
    if what == "extraction":
        began, effort = time.perf_counter(), time.process_time()
        dataset = tw.ImageDataset.load(images)
        tw.extract_features(dataset, classifier.backbone)
        n = len(dataset)
    else:
        from topwork.prediction.images import find_images
        from topwork.prediction.predict import predict_file

        began, effort = time.perf_counter(), time.process_time()
        source = find_images([images])
        predict_file(classifier, source, Path(f"answers.{what}"))
        n = len(source)
    rate, effort = n / (time.perf_counter() - began), 1000 * (time.process_time() - effort) / n
    print(rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, effort)


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
