"""Images and tables with bytes changed at random: each is answered, or named as one that can't be read.

    python benchmarks/faults/mutations_images.py runs/photos-1 --n 2000

Expected: no other exceptions. 2,000 changes of each of eight kinds of image and of two kinds of table take about two
minutes.
"""

from __future__ import annotations

import io
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from commands import run_part
from mutations_classifier import mutated
from PIL import Image

import topwork as tw
from topwork.data.decoding import quiet_pillow, read_image
from topwork.data.sources import ArrayImages
from topwork.errors import BadImageError, TopworkError

KINDS: dict[str, dict[str, Any]] = {
    "JPEG": {},
    "PNG": {},
    "WEBP": {},
    "BMP": {},
    "GIF": {},
    "TIFF": {"compression": "tiff_lzw"},
    "progressive JPEG": {"progressive": True},
    "TIFF in JPEG": {"compression": "jpeg"},
}
BATCH = 200


def main(run: Path, n: int, seed: int = 0) -> dict[str, Any]:
    """Change images of each kind `n` times and have the run's classifier answer them; and tables that hold images."""
    random = np.random.default_rng(seed)
    classifier = tw.load_classifier(run)
    counts = {"answered": 0, "named": 0, "table read": 0, "table refused": 0, "other exception": 0}
    exceptions: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        for kind, options in KINDS.items():
            whole = encoded(kind, options, random)
            for start in range(0, n, BATCH):
                batch = tuple(mutated(whole, random) for _ in range(min(BATCH, n - start)))
                try:
                    found = classifier.predict_source(ArrayImages(batch))
                except Exception as error:
                    counts["other exception"] += 1
                    exceptions.add(f"{kind}: {type(error).__name__}: {error}"[:200])
                else:
                    counts["answered"] += len(found.indices)
                    counts["named"] += len(found.bad)
                    if not np.isfinite(found.probabilities).all():
                        exceptions.add(f"{kind}: probabilities that are not finite")
        for name in ("t.parquet", "t.csv"):
            path = Path(scratch) / name
            whole = table(path, random)
            for _ in range(n):
                path.write_bytes(mutated(whole, random))
                try:
                    read_all(path)
                    counts["table read"] += 1
                except TopworkError:
                    counts["table refused"] += 1
                except Exception as error:
                    counts["other exception"] += 1
                    exceptions.add(f"{name}: {type(error).__name__}: {error}"[:200])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {**counts, "exceptions": sorted(exceptions), "peak_gigabytes": round(peak, 2)}


def encoded(kind: str, options: dict[str, Any], random: np.random.Generator) -> bytes:
    """A small picture as encoded bytes."""
    file = io.BytesIO()
    pixels = random.integers(0, 256, (24, 32, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1)
    Image.fromarray(pixels).save(file, kind.split()[0] if "in" in kind else kind.split()[-1], **options)
    return file.getvalue()


def table(path: Path, random: np.random.Generator) -> bytes:
    """A table of twelve images, written; returns its bytes."""
    images = [encoded("PNG", {}, random) for _ in range(12)]
    if path.suffix == ".csv":
        for i, image in enumerate(images):
            path.with_name(f"{i}.png").write_bytes(image)
        path.write_text("path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(12)))
    else:
        metadata = {"huggingface": '{"info": {"features": {"label": {"names": ["a", "b"]}}}}'}
        parquet.write_table(pa.table({"image": images, "label": [0, 1] * 6}).replace_schema_metadata(metadata), path)
    return path.read_bytes()


def read_all(path: Path) -> None:
    """Read the table and every image of it, as training does."""
    dataset = tw.ImageDataset.load(path)
    with quiet_pillow():
        for payload in dataset.source.payloads(dataset.rows):
            try:
                read_image(payload, "image")
            except BadImageError:
                continue


if __name__ == "__main__":
    run_part(main, __doc__, 2000, on_a_run=True)
