"""`topwork serve` under load, against the bare engine on the same processors.

    python benchmarks/serve.py [--quick]

MobileNetV2 at 224 pixels, with random weights: speed does not depend on them. The service runs in a process of its own,
clients with as many connections as it takes in another; they share the processors with it, and what they take of them
is said. Compared with OpenVINO alone in one process (the same graph, random tensors in memory, what `benchmark_app`
does), and with the limit that decoding and the engine set together; seconds of one image add up on the same processors.
JPEGs of 224 × 224 and of 500 × 375 pixels, one or 16 a request. Then the latency at half of that load, memory over
10,000 requests, and the time from the start of the process to its first answer.

Expected on two cores: what `docs/performance.md` says; memory flat after the first fifth; the first answer within 3 s.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import topwork as tw
from common import arguments
from topwork.data.decoding import read_square
from topwork.recipe import Recipe

SIZES = {"224 × 224": (224, 224), "500 × 375": (500, 375)}
CONNECTIONS = 16
ROUNDS = 5


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests")
    given = parser.parse_args()
    scale = 5 if given.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        classifier = make_classifier(Path(folder) / "classifier")
        for name, size in SIZES.items():
            compare(Path(folder), classifier, name, size, scale)
        memory(Path(folder), 10_000 // scale)
        cold_start(Path(folder))


def compare(folder: Path, classifier: tw.ImageClassifier, name: str, size: tuple[int, int], scale: int) -> None:
    """Throughput of one kind of JPEG, and the latency at half of it; medians, for virtual machines drift."""
    image = jpeg(size)
    (folder / "image.jpg").write_bytes(image)
    print(f"\nJPEGs of {name} ({len(image):,} bytes)")
    with served(folder / "classifier") as (address, _):
        load(address, folder, 300, 1, CONNECTIONS)
        for images in (1, 16):
            rounds = [one_round(classifier, address, folder, images, 800 // scale) for _ in range(ROUNDS)]
            rate, bare, decoding, limit, of_bare, of_limit = np.median(rounds, axis=0)
            print(
                f"  {images:2} a request: {rate:.0f} images/s, {of_bare:.2f} of bare OpenVINO ({bare:.0f}), "
                f"{of_limit:.2f} of the limit with decoding ({limit:.0f}; decoding alone {decoding:.0f})"
            )
            if images == 1:
                half = load(address, folder, 2_000 // scale, 1, CONNECTIONS, rate / 2)
                print(f"     at half load: p50 {half['p50']:.1f} ms, p99 {half['p99']:.1f} ms")
                print(f"     the clients take {half['client']:.1%} of the processors")


def one_round(
    classifier: tw.ImageClassifier, address: tuple[str, int], folder: Path, images: int, n: int
) -> tuple[float, ...]:
    """The service, the bare engine, decoding, both together; what the service is of the bare engine, and of both."""
    bare = bare_rate(classifier, n)
    decoding = decoding_rate((folder / "image.jpg").read_bytes(), n)
    rate = load(address, folder, n, images, CONNECTIONS)["rate"]
    limit = 1 / (1 / bare + 1 / decoding)
    return rate, bare, decoding, limit, rate / bare, rate / limit


def memory(folder: Path, n: int) -> None:
    """The service's memory as requests go by."""
    with served(folder / "classifier") as (address, process):
        steps = [resident(process.pid)]
        for _ in range(5):
            load(address, folder, n // 5, 1, CONNECTIONS)
            steps.append(resident(process.pid))
    print(f"\nMemory at the start and after each fifth of {n:,} requests: {', '.join(f'{mb:.0f}' for mb in steps)} MB")


def cold_start(folder: Path) -> None:
    """From the start of the process to its first answer."""
    image = (folder / "image.jpg").read_bytes()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        with served(folder / "classifier") as (address, _):
            request = urllib.request.Request(f"http://{address[0]}:{address[1]}/predict", image)
            request.add_header("Content-Type", "image/jpeg")
            assert b'"class"' in urllib.request.urlopen(request).read()
            times.append(time.perf_counter() - began)
    print(f"\nCold start to the first answer: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def make_classifier(folder: Path) -> tw.ImageClassifier:
    """MobileNetV2 with random weights and a top of three classes that can tell unknown images."""
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (300, 32, 32, 3)).astype(np.uint8)
    dataset = tw.ImageDataset.from_arrays(images, random.integers(0, 3, 300))
    classifier = tw.fit_classifier(dataset, tw.load_backbone("mobilenet_v2", weights="random"), verbose=False)
    classifier.save(folder)
    return classifier


def jpeg(size: tuple[int, int]) -> bytes:
    """Something as hard to decode as a photograph: smooth shapes and some noise."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 255, (12, 16, 3)).astype(np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    noisy = np.clip(np.asarray(small) + random.normal(0, 6, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=85)
    return file.getvalue()


def bare_rate(classifier: tw.ImageClassifier, n: int) -> float:
    """Images a second of the engine alone, from memory."""
    engine, size = classifier.engine, classifier.backbone.size
    batch = np.random.default_rng(0).integers(0, 255, (engine.batch_size, size, size, 3)).astype(np.uint8)
    for warm in (True, False):
        began = time.perf_counter()
        done = sum(len(features) for _, features in engine.run((i, batch) for i in range(n // 10 if warm else n)))
    return done / (time.perf_counter() - began)


def decoding_rate(image: bytes, n: int) -> float:
    """Images a second of decoding alone, on all processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        began = time.perf_counter()
        list(pool.map(lambda _: read_square(image, Recipe(224), "image"), range(n)))
        return n / (time.perf_counter() - began)


@contextmanager
def served(classifier: Path) -> Iterator[tuple[tuple[str, int], subprocess.Popen[str]]]:
    """The service in a process of its own: its address and the process."""
    command = [sys.executable, "-m", "topwork", "serve", str(classifier), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline())
    assert found is not None
    try:
        yield (found[1], int(found[2])), process
    finally:
        process.terminate()
        process.wait()


def load(
    address: tuple[str, int], folder: Path, n: int, images: int, connections: int, rate: float = 0.0
) -> dict[str, float]:
    """What a process of clients measured: `n` images, so many a request; `rate` a second, or as fast as it goes."""
    clients = [sys.executable, str(Path(__file__).with_name("serve_clients.py")), address[0], str(address[1])]
    numbers = map(str, (n, images, connections, rate))
    done = subprocess.run([*clients, str(folder / "image.jpg"), *numbers], capture_output=True, text=True, check=True)
    return {name: float(value) for name, value in (item.split("=") for item in done.stdout.split())}


def resident(pid: int) -> float:
    """Megabytes of memory that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1000  # type: ignore[index]


if __name__ == "__main__":
    main()
