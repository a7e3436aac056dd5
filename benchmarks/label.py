"""What `topwork label` is worth: accuracy by number of labels, how long a person waits, what a kill costs.

    python benchmarks/label.py accuracy --data DATA --cache CACHE [--set "Tiny ImageNet" --network MobileNetV2] [--rare]
    python benchmarks/label.py waiting
    python benchmarks/label.py kills

Accuracy: of 8,000 images without labels (of Tiny ImageNet's 20 classes 7,000) as many are labelled as the table says,
chosen by the page or by chance, and a linear top on them is tested on others; means over the draws. Expected on
CIFAR-10 as JPEG with the starter (%, four draws; docs/measurements.md has the others):

    labels                     20           50          100          200          400
    by the page        46.2 ± 0.6   56.6 ± 0.3   62.0 ± 0.5   67.6 ± 0.6   71.7 ± 0.3
    by chance          35.6 ± 1.5   49.1 ± 1.4   58.5 ± 1.7   65.5 ± 1.0   68.8 ± 0.7

With --rare, 2 % are of one class, and as many of each other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

import topwork as tw
from common import arguments
from feature_sets import NETWORKS, SETS, add_folders, feature_set
from topwork.data.journal import LABELLED, PERSON, JournalRow, Labelling, open_journal, read_journal
from topwork.label.analysis import DRAWN, FEWEST_FOR_UNCERTAINTY
from topwork.label.choosing import choose, margin_uncertainty
from topwork.label.learning import Lesson, learn

MARKS = (20, 50, 100, 200, 400)
AT_ONCE = 10
N_POOL, N_TEST = 8000, 3000
N_WAITING = 10_000
KILLS = 100
RARE = 3


def accuracies(features: np.ndarray, labels: np.ndarray, rows: np.ndarray, seed: int, by_page: bool) -> list[float]:
    """Test accuracy after each number of labels in `MARKS`."""
    draw = np.random.default_rng(seed)
    rows = draw.permutation(rows)
    n_pool = min(N_POOL, len(rows) - N_TEST)
    pool, test = rows[:n_pool], rows[n_pool : n_pool + N_TEST]
    values, names = features[pool], tuple(map(str, range(int(labels.max()) + 1)))
    chosen, found, uncertainty = np.empty(0, np.int64), [], None
    while len(chosen) < MARKS[-1]:
        n = min(AT_ONCE, next(mark for mark in MARKS if mark > len(chosen)) - len(chosen))
        rest = draw.permutation(np.setdiff1d(np.arange(n_pool), chosen))
        n_drawn = (len(chosen) + n) // DRAWN - len(chosen) // DRAWN if by_page else n
        new = rest[:n_drawn]
        covered = np.concatenate([chosen, new])
        chosen = np.concatenate(
            [covered, choose(values, np.sort(rest[n_drawn:]), covered, n - n_drawn, uncertainty=uncertainty)]
        )
        digests = np.array([f"{i:016d}".encode() for i in chosen], "S16")
        lesson = Lesson(chosen, labels[pool[chosen]], digests, np.zeros(len(chosen), bool), names)
        if lesson.is_enough and (len(chosen) in MARKS or len(chosen) >= FEWEST_FOR_UNCERTAINTY):
            learned = learn(values, lesson)
            if by_page and len(chosen) >= FEWEST_FOR_UNCERTAINTY:
                uncertainty = margin_uncertainty(learned.probabilities(values))
            if len(chosen) in MARKS:
                right = learned.probabilities(features[test]).argmax(axis=1) == labels[test]
                found.append(100 * float(right.mean()))
    return found


def rows_with_a_rare_class(labels: np.ndarray, seed: int) -> np.ndarray:
    """All images, but few of `RARE`."""
    own, others = np.flatnonzero(labels == RARE), np.flatnonzero(labels != RARE)
    return np.concatenate([np.random.default_rng(100 + seed).permutation(own)[: len(others) // 50], others])


def show_accuracy(given: argparse.Namespace) -> None:
    found = feature_set(given.data, given.cache, given.set, given.network)
    rows = np.arange(len(found.y))
    print("labels          ", *(f"{mark:12d}" for mark in MARKS))
    for name, by_page in (("by the page", True), ("by chance", False)):
        tries = []
        for seed in range(given.draws):
            if given.rare:
                rows = rows_with_a_rare_class(found.y, seed)
            with threadpool_limits(1):
                tries.append(accuracies(found.X, found.y, rows, seed, by_page))
        means, errors = np.mean(tries, axis=0), np.std(tries, axis=0, ddof=1) / given.draws**0.5
        cells = (f"{mean:5.1f} ± {error:.1f}".rjust(12) for mean, error in zip(means, errors, strict=True))
        print(f"{name:16}", *cells, flush=True)


@contextlib.contextmanager
def labelling(folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    command = [sys.executable, "-m", "topwork", "label", str(folder), "--no-browser", "--backbone", "starter", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    found = re.search(r"(http://[\d.:]+)/\?token=([\w-]+)", process.stdout.readline())
    assert found is not None
    with httpx.Client(base_url=found[1], headers={"X-Topwork-Token": found[2]}, timeout=60) as client:
        yield process, client
    process.kill()
    process.wait()


def make_images(folder: Path, n: int) -> None:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{i}.jpg")


def show_waiting(folder: Path) -> None:
    """From a label to the next images, while features are there and tops are fitted behind; and the start."""
    photos = folder / "photos"
    make_images(photos, N_WAITING)
    with labelling(photos) as (_, client):
        while client.get("/api/state").json()["extracting"]:
            time.sleep(0.5)
        waits = []
        for number in range(200):
            item = client.get("/api/next", params={"n": 12}).json()["items"][0]
            began = time.perf_counter()
            client.post("/api/label", json={"items": [{"id": item["id"], "label": f"class {number % 10}"}]})
            client.get("/api/next", params={"n": 12})
            waits.append(1000 * (time.perf_counter() - began))
            time.sleep(0.2)
        print(
            f"from a label to the next, {N_WAITING:,} images: median {np.median(waits):.0f} ms, 95 of 100 within "
            f"{np.percentile(waits, 95):.0f} ms, longest {max(waits):.0f} ms",
            flush=True,
        )
    dataset = tw.data.images.UnlabelledImages.from_directory(photos)
    with open_journal(folder / "photos.labels.csv") as journal:
        for i, (name, digest) in enumerate(zip(dataset.names, dataset.digests, strict=True)):
            hexed = bytes(digest).ljust(16, b"\0").hex()
            journal.append([JournalRow(name, hexed, f"class {i % 10}", PERSON, LABELLED)])
    began = time.perf_counter()
    with labelling(photos) as (_, client):
        state = client.get("/api/state").json()
        print(f"start with {state['labelled']:,} labels: {time.perf_counter() - began:.1f} s", flush=True)


def show_large() -> None:
    """Choosing and fitting with 100,000 images of 1,024 features, 300 of them labelled."""
    values = np.random.default_rng(0).normal(size=(100_000, 1024)).astype(np.float32)
    rows = np.arange(300)
    digests = np.array([f"{i:016d}".encode() for i in rows], "S16")
    lesson = Lesson(rows, rows % 10, digests, np.zeros(300, bool), tuple("abcdefghij"))
    learn(values, lesson.first(20))  # the first answer waits for scikit-learn, later ones do not
    began = time.perf_counter()
    learned = learn(values, lesson)
    uncertainty = margin_uncertainty(learned.probabilities(values))
    fitted = time.perf_counter()
    choose(values, np.arange(300, len(values)), rows, 16, uncertainty=uncertainty)
    chosen = time.perf_counter()
    print(
        f"100,000 images of 1,024 features: fitting and predicting {fitted - began:.2f} s, choosing "
        f"{chosen - fitted:.2f} s",
        flush=True,
    )


def show_kills(folder: Path) -> None:
    photos = folder / "few"
    make_images(photos, 50)
    wanted: dict[str, str] = {}
    n_acknowledged = n_lost = 0
    for kill in range(KILLS):
        with labelling(photos) as (process, client):
            names = [item["name"] for item in client.get("/api/gallery").json()["items"]]
            killer, last, number = threading.Timer(random.uniform(0, 2), process.kill), "", 0
            killer.start()
            with contextlib.suppress(httpx.HTTPError):
                while True:
                    place, last, number = number % 50, f"class {kill} {number}", number + 1
                    client.post("/api/label", json={"items": [{"id": place, "label": last}]}).raise_for_status()
                    wanted[names[place]] = last
                    n_acknowledged += 1
            killer.join()
        path = folder / "few.labels.csv"
        kept = {row.file: row.label for row in Labelling(read_journal(path)).images.values()}
        n_lost += sum(kept.get(name) not in (label, last) for name, label in wanted.items())
        wanted = dict(kept)
    print(f"killed {KILLS} times: {n_acknowledged:,} labels acknowledged, {n_lost} lost", flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    accuracy = parts.add_parser("accuracy")
    add_folders(accuracy)
    accuracy.add_argument("--set", choices=list(SETS), default="CIFAR-10")
    accuracy.add_argument("--network", choices=NETWORKS, default="starter")
    accuracy.add_argument("--draws", type=int, default=4)
    accuracy.add_argument("--rare", action="store_true", help="one class is rare")
    parts.add_parser("waiting")
    parts.add_parser("kills")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "accuracy":
            show_accuracy(given)
        elif given.what == "waiting":
            show_large()
            show_waiting(Path(folder))
        else:
            show_kills(Path(folder))


if __name__ == "__main__":
    main()
