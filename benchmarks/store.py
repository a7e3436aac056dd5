"""Reading features back from the store, against `numpy.load` of the same array.

    python benchmarks/store.py [--quick]

60,000 × 1,024 float32 features, found by digest and read in the order asked for; the files are in the page cache on
both sides. Expected: twice the time of `numpy.load` at most.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from common import arguments, seconds
from topwork.features.store import new_kept, open_kept

FACTS = {"backbone": "benchmark"}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="6,000 images")
    n = 6_000 if parser.parse_args().quick else 60_000
    random = np.random.default_rng(0)
    values = random.normal(size=(n, 1024)).astype(np.float32)
    digests = np.array([random.bytes(16) for _ in range(n)], dtype="S16")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = folder
        with new_kept(FACTS, 1024).writer() as writer:
            for start in range(0, n, 32):
                writer.add(digests[start : start + 32], values[start : start + 32])
        plain = Path(folder) / "plain.npy"
        np.save(plain, values)
        assert np.array_equal(read(digests), values)
        ours = seconds(lambda: read(digests), repeats=5)
        theirs = seconds(lambda: np.load(plain), repeats=5)
    print(f"{n:,} × 1,024: store {1000 * ours:.0f} ms, numpy.load {1000 * theirs:.0f} ms, ratio {ours / theirs:.2f}")


def read(digests: np.ndarray) -> np.ndarray:
    kept = open_kept(FACTS)
    assert kept is not None
    return kept.read(kept.find(digests))


if __name__ == "__main__":
    main()
