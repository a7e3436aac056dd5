"""Memory of an extraction and of a linear top, by number of images.

    python benchmarks/memory.py [--quick]

Small images (16 pixels, BMP in a Parquet table, each another), the starter at 32 pixels: 10,000 and 1,000,000 of them
(--quick: 100,000), each in a process of its own; the peak of its resident memory after the extraction, with the
features read back, and after a linear top of three L2 values on the features. Ten minutes or so.
Expected: extraction flat but for the features themselves (N × 640 × 4 bytes) and some 150 bytes an image; after the
top, which learns from nine tenths, twice the features.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

import topwork as tw
from common import arguments
from topwork.memory import Rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 images at most")
    parser.add_argument("--table", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.table:
        measure(given.table)
        return
    print("| images | features, MB | peak after extraction, MB | s | peak after the top, MB | s |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = str(Path(folder) / "cache")
        for n in (10_000, 100_000 if given.quick else 1_000_000):
            table = Path(folder) / f"{n}.parquet"
            write_table(table, n)
            subprocess.run([sys.executable, __file__, "--table", str(table)], check=True)


def measure(table: str) -> None:
    """One row, of this process."""
    dataset, backbone = tw.ImageDataset.load(table), tw.load_backbone("starter", size=32)
    dataset = dataset.split(test=0.1)
    began = time.perf_counter()
    features = tw.extract_features(dataset, backbone)
    extraction, after_extraction = time.perf_counter() - began, peak()
    began = time.perf_counter()
    train = np.flatnonzero(np.asarray(dataset.splits) != "test")
    tw.LinearTop((1.0, 0.1, 0.01)).fit(Rows(features.values, train), dataset.labels[train])
    size = features.values.nbytes / 1e6
    top = time.perf_counter() - began
    print(
        f"| {len(dataset):,} | {size:,.0f} | {after_extraction:,.0f} | {extraction:.0f} | {peak():,.0f} | {top:.0f} |"
    )


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def write_table(path: Path, n: int) -> None:
    """`n` images of two classes, brighter and darker noise."""
    random = np.random.default_rng(0)
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, n, 10_000):
            labels = random.integers(0, 2, min(10_000, n - start))
            pixels = random.integers(0, 192, (len(labels), 16, 16, 3), np.uint8) + (64 * labels[:, None, None, None])
            rows = {"image": [encoded(image) for image in pixels.astype(np.uint8)], "label": labels}
            writer.write_table(pa.table(rows, schema=schema))


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


if __name__ == "__main__":
    main()
