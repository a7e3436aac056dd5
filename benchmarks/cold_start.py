"""Cold starts: `topwork --help`, and `topwork predict` on one image in a new process.

    python benchmarks/cold_start.py [--quick]

The median of seven processes each, on a classifier of digits by the starter. Expected: 0.3 s and 3 s at most.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import topwork as tw
from common import arguments, seconds


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="three processes each")
    repeats = 3 if parser.parse_args().quick else 7
    with tempfile.TemporaryDirectory() as folder:
        tw.fit_classifier(tw.ImageDataset.from_name("digits"), verbose=False).save(Path(folder) / "digits")
        image = Path(folder) / "1.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(image)
        for title, command in (("--help", ["--help"]), ("predict", ["predict", f"{folder}/digits", str(image)])):
            times = [seconds(lambda c=command: run(c)) for _ in range(repeats)]
            print(f"topwork {title}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def run(command: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "topwork", *command], check=True, capture_output=True)


if __name__ == "__main__":
    main()
