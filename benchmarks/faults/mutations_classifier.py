"""A saved classifier with bytes changed at random: it answers as before, or one sentence says what is wrong.

    python benchmarks/faults/mutations_classifier.py runs/photos-1 --n 2000

Expected: no other exceptions, no other answers in silence. 2,000 changes of each file take about three minutes.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from commands import run_part

import topwork as tw
from topwork.classifier.loading import find_classifier
from topwork.classifier.manifest import MANIFEST, NOVELTY, TOP


def main(run: Path, n: int, seed: int = 0) -> dict[str, Any]:
    """Change the manifest and the tensors of a copy of a run's classifier `n` times each, and count what comes of it.

    Half of the changed tensors get a checksum that fits, as an attacker would see to.
    """
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    counts = {"same": 0, "refused": 0, "other answer": 0, "other exception": 0}
    exceptions: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(find_classifier(run), Path(scratch) / "copy"))
        expected = tw.load_classifier(copy).predict_proba(image)
        manifest = json.loads((copy / MANIFEST).read_text())
        for name in (MANIFEST, TOP, NOVELTY):
            whole = (copy / name).read_bytes() if (copy / name).exists() else b""
            for i in range(n if whole else 0):
                content = mutated(whole, random)
                (copy / name).write_bytes(content)
                is_forged = name != MANIFEST and i % 2 == 1
                if is_forged:
                    sums = {**manifest["sha256"], name: hashlib.sha256(content).hexdigest()}
                    (copy / MANIFEST).write_text(json.dumps({**manifest, "sha256": sums}))
                try:
                    found = tw.load_classifier(copy).predict_proba(image)
                except tw.TopworkError:
                    counts["refused"] += 1
                except Exception as error:
                    counts["other exception"] += 1
                    exceptions.add(f"{name}: {type(error).__name__}: {error}"[:200])
                else:
                    # a number that was changed together with its checksum is another classifier, and a sound one
                    is_sound = is_forged and bool(np.isfinite(found).all())
                    counts["same" if is_sound or np.array_equal(found, expected) else "other answer"] += 1
                (copy / MANIFEST).write_text(json.dumps(manifest))
            if whole:
                (copy / name).write_bytes(whole)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {**counts, "exceptions": sorted(exceptions), "peak_gigabytes": round(peak, 2)}


def mutated(whole: bytes, random: np.random.Generator) -> bytes:
    """Some bytes changed, a piece cut out or doubled, or the end cut off."""
    content = bytearray(whole)
    kind = random.integers(4)
    start, stop = np.sort(random.integers(len(content), size=2))
    if kind == 0:
        del content[start : min(stop, start + 40)]
    elif kind == 1:
        content[start:start] = content[start : min(stop, start + 40)]
    elif kind == 2:
        del content[start:]
    else:
        for place in random.integers(len(content), size=random.integers(1, 6)):
            content[place] = random.integers(256)
    return bytes(content)


if __name__ == "__main__":
    run_part(main, __doc__, 2000, on_a_run=True)
