"""What fine-tuning gains, on tasks far from photographs of things and near them; and whether all its ways agree.

    python benchmarks/fine_tune.py far --data DATA --cache CACHE [--draws 3] [--task "digits on photographs"]
    python benchmarks/fine_tune.py near --data DATA --cache CACHE [--network starter] [--draws 3]
    python benchmarks/fine_tune.py agreement --data DATA
    python benchmarks/fine_tune.py kills [--kills 30]
    python benchmarks/fine_tune.py epochs [--rivals rivals/bin/python]

DATA holds cifar10-jpeg.parquet, tiny-imagenet-webp.parquet, flower-photos.parquet and MobileNetV2's weights. What was
measured is kept in CACHE/fine_tune.jsonl, and not measured again: stopped, the same command goes on. `far` draws
scikit-learn's digits on photographs, and turns photographs by quarter turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats

import topwork as tw
from all_stages import pictures_of, tasks
from common import arguments, rival, show
from feature_sets import add_folders
from topwork.backbones.engines import open_engine
from topwork.backbones.weights import tensors_by_place
from topwork.features.extraction import extract_activations
from topwork.tuning.plan import find_cut
from topwork.tuning.tail import split_parameters
from topwork.tuning.training import BATCH, Tuner

MOBILENET = "mobilenet_v2_imagenet_notop.weights.h5"
SIZES = {"starter": 64, "mobilenet_v2": 160}
N_FAR = 1500


def backbone_of(network: str, data: Path, **options: Any) -> tw.Backbone:
    weights = data / MOBILENET if network == "mobilenet_v2" else None
    return tw.load_backbone(network, weights=weights, size=SIZES[network], **options)


class Results:
    """Rows that were measured, each kept as a line once it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {tuple(row["key"]): row["value"] for row in map(json.loads, lines)}

    def get(self, key: tuple[Any, ...], measure: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = measure()
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "value": self.known[key]}) + "\n")
        return self.known[key]


def split_of(pictures: list[Image.Image], labels: list[str], n: int, seed: int) -> tw.ImageDataset:
    """`n` images to learn from, a tenth of them for validation, and all the others for testing."""
    order = np.random.default_rng(seed).permutation(len(labels))
    splits = np.full(len(labels), "test", dtype="<U10")
    splits[order[:n]], splits[order[: n // 10]] = "train", "validation"
    return tw.ImageDataset.from_arrays(pictures, labels, splits=splits).split()


def accuracy(classifier: tw.ImageClassifier, dataset: tw.ImageDataset) -> float:
    return 100 * tw.evaluate(classifier, dataset.test).accuracy.value


def mean_and_interval(values: list[float]) -> str:
    """Of several draws: `+1.2 (0.4 to 2.0)`, by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{np.mean(values):+.1f} ({np.mean(values) - half:+.1f} to {np.mean(values) + half:+.1f})"


def show_far(given: argparse.Namespace) -> None:
    """Linear, all stages, the last stage, the last stage with views; gains in points from each to the next."""
    results = Results(given.cache / "fine_tune.jsonl")
    print("| task | network | linear top, % | all stages | last stage | with 4 views |\n" + "|---" * 6 + "|")
    for name, pictures, labels, _ in list(tasks(given.data))[:2]:
        if given.task not in (None, name):
            continue
        found = []
        for seed in range(given.draws):
            dataset = split_of(pictures, labels, N_FAR, seed)
            found.append(results.get(("far", name, given.network, seed), lambda d=dataset, s=seed: _far(given, d, s)))
        table = np.array(found)
        gains = [mean_and_interval(list(step)) for step in np.diff(table, axis=1).T]
        print(f"| {name} | {given.network} | {table[:, 0].mean():.1f} | {' | '.join(gains)} |", flush=True)


def _far(given: argparse.Namespace, dataset: tw.ImageDataset, seed: int) -> list[float]:
    backbone = backbone_of(given.network, given.data)
    linear = tw.fit_classifier(dataset, backbone, seed=seed, verbose=False)
    stages = backbone_of(given.network, given.data, pooling="stages")
    ways = [linear, tw.fit_classifier(dataset, stages, seed=seed, verbose=False)]
    ways += [tw.fine_tune(linear, views=views, seed=seed, verbose=False) for views in (0, 4)]
    return [accuracy(classifier, dataset) for classifier in ways]


def show_near(given: argparse.Namespace) -> None:
    """What `fine_tune` returns against the linear top, on tasks near to what networks learned."""
    results = Results(given.cache / "fine_tune.jsonl")
    print(
        "| task | network | images | linear top, % | what is returned, points | fine-tuned taken |\n" + "|---" * 6 + "|"
    )
    for name, n, pictures, labels in near_tasks(given.data):
        found = []
        for seed in range(given.draws):
            dataset = split_of(pictures, labels, n, seed)
            key = ("near", name, n, given.network, seed)
            found.append(results.get(key, lambda d=dataset, s=seed: _near(given, d, s)))
        before, after, taken = np.array(found).T
        gain = mean_and_interval(list(after - before))
        row = f"| {name} | {given.network} | {n:,} | {before.mean():.1f} | {gain} | {taken.sum():.0f} of {len(taken)} |"
        print(row, flush=True)


def near_tasks(data: Path) -> Iterator[tuple[str, int, list[Image.Image], list[str]]]:
    flowers = pictures_of(data / "flower-photos.parquet", None, range(5), 900)
    cifar = pictures_of(data / "cifar10-jpeg.parquet", "train", range(10), 8000)
    tiny = pictures_of(data / "tiny-imagenet-webp.parquet", "train", range(40, 60), 4000)
    for name, task, numbers in (("flowers", flowers, (100, 600)), ("Tiny-20", tiny, (400, 2000))):
        for n in numbers:
            yield name, n, *task
    for n in (1000, 5000):
        yield "CIFAR-10", n, *cifar


def _near(given: argparse.Namespace, dataset: tw.ImageDataset, seed: int) -> list[float]:
    linear = tw.fit_classifier(dataset, backbone_of(given.network, given.data), seed=seed, verbose=False)
    tuned = tw.fine_tune(linear, seed=seed, verbose=False)
    found = tuned.training and tuned.training.fine_tuning
    return [accuracy(linear, dataset), accuracy(tuned, dataset), float(bool(found and found.is_better))]


def show_agreement(given: argparse.Namespace) -> None:
    """The largest difference of features by the tail from kept activations, by OpenVINO and by Keras, in parts of the
    largest feature."""
    print("| network | cut | tail from float16 activations | from float32 | Keras |\n" + "|---" * 5 + "|")
    pictures, labels = pictures_of(given.data / "tiny-imagenet-webp.parquet", "val", range(200), 64)
    dataset = tw.ImageDataset.from_arrays(pictures, labels)
    for network in SIZES:
        backbone = backbone_of(network, given.data)
        features = tw.extract_features(dataset, backbone).values
        cut = find_cut(backbone, "last-stage")
        below = replace(backbone, output=cut.layer, pooling="flatten")
        half = extract_activations(dataset, below).values
        whole = tw.extract_features(dataset, below).values
        trained, fixed = split_parameters(cut.above, tensors_by_place(backbone.weights))
        tuner = Tuner(cut.above, cut.shape, trained, fixed, 1.0)
        identity = np.eye(features.shape[1], dtype=np.float32)
        start = tuner.start(tw.tops.dense_stack.DenseStack((identity,), (np.zeros(len(identity), np.float32),)))
        rows, scale = np.arange(len(features)), np.abs(features).max()
        far = [np.abs(tuner.logits(start, values, rows) - features).max() / scale for values in (half, whole)]
        far.append(np.abs(_on_keras(backbone, dataset) - features).max() / scale)
        print(
            f"| {network}, {backbone.size} | `{cut.layer}` | " + " | ".join(f"{v:.1e}" for v in far) + " |", flush=True
        )


def _on_keras(backbone: tw.Backbone, dataset: tw.ImageDataset) -> np.ndarray:
    from topwork.backbones.keras_engine import KerasEngine
    from topwork.features.pipeline import FeatureStream

    found = np.empty((len(dataset), open_engine(backbone, "cpu").n_features), np.float32)
    for positions, values in FeatureStream(dataset.source, dataset.rows, KerasEngine(backbone), backbone.recipe):
        found[positions] = values
    return found


def show_kills(given: argparse.Namespace) -> None:
    """The same classifier, byte for byte, however often its training was killed."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        _draw_digits(here / "digits", 120)
        expected = _trained(here, "whole", None)
        began = time.perf_counter()
        _trained(here, "timed", None)
        lasts = time.perf_counter() - began
        n_killed = n_same = n_finished = 0
        while n_killed < given.kills:
            name, before = f"run-{n_killed}", n_killed
            while _trained(here, name, random.uniform(0, lasts)) is None:
                n_killed += 1
            if n_killed > before:
                n_finished += 1
                n_same += _bytes_of(here / name / "out") == expected
        print(f"killed {n_killed} times: {n_same} of {n_finished} classifiers are as without, to the byte")


def _draw_digits(folder: Path, n: int) -> None:
    from sklearn.datasets import load_digits

    digits, draw = load_digits(), np.random.default_rng(0)
    for i in range(n):
        pixels = draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        pixels[8:24, 8:24] = np.kron(digits.images[i] * 15.9, np.ones((2, 2)))[..., None].astype(np.uint8)
        path = folder / str(digits.target[i] % 3) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


TRAIN = """
import sys, topwork as tw
from topwork.classifier import fine_tuning
fine_tuning.choose = lambda logits, labels, units: "fine-tuned"
dataset = tw.ImageDataset.load("digits").split(test=0.2)
linear = tw.fit_classifier(dataset, tw.load_backbone("starter", size=32), verbose=False)
tw.fine_tune(linear, "last-block", verbose=False).save(sys.argv[1])
"""


def _trained(here: Path, name: str, kill_after: float | None) -> dict[str, bytes] | None:
    """The files of the classifier; None where the training was killed."""
    environment = {**os.environ, "TOPWORK_CACHE": str(here / name / "cache")}
    out = here / name / "out"
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(out)], cwd=here, env=environment)
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None
    if process.returncode:
        sys.exit("training failed")
    return _bytes_of(out)


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def show_epochs(given: argparse.Namespace) -> None:
    """An epoch of the last stage from kept activations, against the whole network in each step, images a second."""
    print("| network, 224 | Topwork | Keras on TensorFlow | PyTorch | Topwork / the faster |\n" + "|---" * 5 + "|")
    for network, keras_name in (("resnet50", "ResNet50"), ("densenet121", "DenseNet121")):
        backbone = tw.load_backbone(network, weights="random")
        cut = find_cut(backbone, "last-stage")
        trained, fixed = split_parameters(cut.above, tensors_by_place(backbone.weights))
        ours = 1 / Tuner(cut.above, cut.shape, trained, fixed, 1.0).seconds_per_image(10)
        # ours trains every layer above the cut; theirs the same layers, and runs those below without gradients
        others = [
            rival(given.rivals, "tensorflow", "last_stage", keras_name, cut.layer, BATCH),
            rival(given.rivals, "torch", "last_stage_of_torch", keras_name, BATCH),
        ]
        best = max((one for one in others if one), default=None)
        row = " | ".join([f"{ours:.1f}", *(show(one) for one in others), show(ours / best if best else None)])
        print(f"| {network} | {row} |", flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    for name, show_part in (("far", show_far), ("near", show_near), ("agreement", show_agreement)):
        part = parts.add_parser(name)
        add_folders(part)
        part.add_argument("--network", choices=list(SIZES), default="starter")
        part.add_argument("--draws", type=int, default=3)
        if name == "far":
            part.add_argument("--task", choices=["quarter turns", "digits on photographs"], help="this one alone")
        part.set_defaults(show=show_part)
    part = parts.add_parser("kills")
    part.add_argument("--kills", type=int, default=30)
    part.set_defaults(show=show_kills)
    part = parts.add_parser("epochs")
    part.add_argument("--rivals", help="a Python with what rivals.py needs")
    part.set_defaults(show=show_epochs)
    given = parser.parse_args()
    if hasattr(given, "cache"):
        os.environ["TOPWORK_CACHE"] = str(given.cache)
    given.show(given)


if __name__ == "__main__":
    main()
