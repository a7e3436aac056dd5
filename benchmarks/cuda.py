"""The network on a CUDA GPU: Topwork's engine (Keras on JAX) against timm on PyTorch with `torch.compile`.

    python benchmarks/cuda.py [--quick] [--batch 128 256] [--rivals rivals/bin/python]

DenseNet121 and ResNet50 at 224 pixels, random weights, bf16, channels last, the same batch on the same card, one side
after the other, each in a process of its own (JAX keeps what memory it has taken). Wants `topwork[cuda]`; rivals.py
says how to make the other environment. Each side compiles and runs before a clock starts, then the best of several
repeats counts.

"On the device": uint8 pixels that lie there already to float32 features that stay there; scaling and network, on both
sides. "From memory": uint8 NumPy batches in, float32 NumPy features out, on both sides with the transfer of one batch
beside the computing of another. Expected: ratios of 1.0 or more are the aim; nobody has measured them yet.

Where there is no GPU, `--device cpu --batch 4 --size 64 --quick` runs every line; its figures say nothing of a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from typing import Any

import numpy as np

import topwork as tw
from common import arguments, rival_output, show
from rivals import REPEATS, best_rate
from topwork.backbones.keras_engine import KerasEngine
from topwork.keras_door import has_accelerator, import_jax

NETWORKS = ("densenet121", "resnet50")  # timm calls them the same
NO_GPU = (
    "JAX sees no CUDA GPU here. Install topwork[cuda] on a machine that has one; "
    "--device cpu --batch 4 --size 64 --quick tries the script without."
)
COLUMNS = ("network", "batch", *("Topwork, images/s", "timm", "ratio"), *("from memory: Topwork", "timm", "ratio"))


def main() -> None:
    given = options()
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if given.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    device = in_a_process(device_name, given.device)
    if device is None:
        sys.exit(NO_GPU)
    print(f"{device}, {given.size} pixels, bf16\n\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    sides = {f"Topwork: {', '.join(f'{name} {version(name)}' for name in ('topwork', 'keras', 'jax'))}": None}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = folder
        for name in NETWORKS:
            for batch in given.batch:
                seconds = (0.5, 2) if given.quick else (3.0, REPEATS)
                ours = in_a_process(topwork_rates, name, given.size, batch, *seconds)
                theirs, side = timm_rates(given, name, batch, *seconds)
                sides[side] = None
                row(f"{name} at {given.size}", batch, ours, theirs)
    print("\n" + "\n".join(filter(None, sides)))


def options() -> argparse.Namespace:
    """What was typed."""
    parser = arguments(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256], help="128 is what the engine takes itself")
    parser.add_argument("--size", type=int, default=224, help="in pixels")
    parser.add_argument("--mode", default="default", help="of torch.compile; max-autotune compiles for minutes")
    parser.add_argument("--quick", action="store_true", help="two repeats of half a second in place of five of three")
    parser.add_argument("--rivals", help="a Python with PyTorch and timm, see rivals.py")
    return parser.parse_args()


def in_a_process(work: Callable[..., Any], *what: Any) -> Any:
    """What `work` returns, from a process of its own; what it held of the card is free afterwards."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *what).result()


def device_name(device: str) -> str | None:
    """What JAX calls the device; None where a GPU is asked for and JAX sees none."""
    jax = import_jax()
    if device == "cpu":
        return f"CPU ({os.cpu_count()} cores)"
    try:
        found = jax.devices()[0] if has_accelerator() else None
    except RuntimeError:  # a plugin without a driver
        return None
    return str(found.device_kind) if found is not None and found.platform == "gpu" else None


def topwork_rates(name: str, size: int, batch: int, seconds: float, repeats: int) -> tuple[float, float]:
    """Images a second of Topwork's engine: on the device, and from memory."""
    jax = import_jax()
    engine = KerasEngine(tw.load_backbone(name, weights="random", size=size, precision="bf16"))
    engine.batch_size = batch
    batches = np.random.default_rng(0).integers(0, 256, (4, batch, size, size, 3), np.uint8)
    on_device = jax.device_put(batches[0])

    def device(n: int) -> None:
        for _ in range(n):
            features = engine.start(on_device)
        jax.block_until_ready(features)

    def numbered(n: int) -> Iterator[tuple[int, np.ndarray]]:
        return ((i, batches[i % len(batches)]) for i in range(n))

    def memory(n: int) -> None:
        for _ in engine.run(numbered(n)):
            pass

    return best_rate(device, batch, seconds, repeats), best_rate(memory, batch, seconds, repeats)


def timm_rates(
    given: argparse.Namespace, name: str, batch: int, seconds: float, repeats: int
) -> tuple[tuple[float | None, float | None], str]:
    """The same of timm, and with what it was measured; None where it could not be."""
    what = ("timm", name, given.size, batch, given.device, given.mode, seconds, repeats)
    output = rival_output(given.rivals, "torch", *what)
    if output is None:
        return (None, None), ""
    *_, side, numbers = output.strip().splitlines()
    on_device, from_memory = map(float, numbers.split())
    return (on_device, from_memory), side


def row(network: str, batch: int, ours: tuple[float, float], theirs: tuple[float | None, float | None]) -> None:
    """Print one row of the table."""
    cells = [network, str(batch)]
    for one, other in zip(ours, theirs, strict=True):
        cells += [show(one), show(other), show(other and one / other, "{:.2f}")]
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
