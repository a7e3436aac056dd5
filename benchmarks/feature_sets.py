"""Features of three real sets by three networks, computed once and kept as .npy: what several benchmarks start from."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import topwork as tw

NETWORKS = ("starter", "MobileNetV2", "EfficientNet-Lite0")
SETS = {"flowers": "flower-photos", "CIFAR-10": "cifar10-jpeg", "Tiny ImageNet": "tiny-imagenet-webp"}
LARGEST_OF_A_CLASS = 2_000
CLASSES = 20
"""At most: of Tiny ImageNet's 200, every tenth."""
_BATCH = 16


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """`X` `(N, D)` float32 and `y` `(N,)` of one set by one network."""

    data: str
    network: str
    X: np.ndarray
    y: np.ndarray


def add_folders(parser: argparse.ArgumentParser) -> None:
    """`--data` and `--cache`."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets and of the networks' weights")
    parser.add_argument("--cache", type=Path, required=True, help="folder where features and results are kept")


def feature_sets(data: Path, cache: Path) -> Iterator[FeatureSet]:
    """All nine, one after another."""
    for name in SETS:
        for network in NETWORKS:
            yield feature_set(data, cache, name, network)


def feature_set(data: Path, cache: Path, name: str, network: str) -> FeatureSet:
    """One of the nine; computed where `cache` does not have it."""
    file = cache / f"{SETS[name]}-{network}.npy"
    labels = _labels(data, name)
    rows, y = _chosen(labels)
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f"{file.name}.part"
        with part.open("wb") as out:
            np.save(out, _features(data, name, network, images(data, name, rows), y))
        part.rename(file)
    return FeatureSet(name, network, np.load(file), y)


def images(data: Path, name: str, rows: np.ndarray | None = None) -> list[bytes]:
    """The encoded images of a set, by default those that its features are of."""
    rows = _chosen(_labels(data, name))[0] if rows is None else rows
    return pq.read_table(data / f"{SETS[name]}.parquet", columns=["image"])["image"].take(rows).to_pylist()


def _labels(data: Path, name: str) -> np.ndarray:
    return pq.read_table(data / f"{SETS[name]}.parquet", columns=["label"])["label"].to_numpy()


def _chosen(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of up to 20 classes, up to 2,000 of each, and their labels 0..K-1."""
    classes = np.unique(labels)
    classes = classes[:: max(1, len(classes) // CLASSES)]
    rows = np.sort(np.concatenate([np.flatnonzero(labels == k)[:LARGEST_OF_A_CLASS] for k in classes]))
    return rows, np.searchsorted(classes, labels[rows])


def _features(data: Path, name: str, network: str, contents: list[bytes], y: np.ndarray) -> np.ndarray:
    size = 224 if name == "flowers" else 160  # small images enlarged further are seen no better
    if network == "EfficientNet-Lite0":
        return _lite0(data / "efficientnet_lite0_features_and_map.onnx", contents, size)
    weights = str(data / "mobilenet_v2_imagenet_notop.weights.h5")
    backbone = (
        tw.load_backbone("starter")
        if network == "starter"
        else tw.load_backbone("mobilenet_v2", weights=weights, size=size)
    )
    dataset = tw.ImageDataset.from_arrays([Image.open(io.BytesIO(content)) for content in contents], y.tolist())
    return np.asarray(tw.extract_features(dataset, backbone).values)


def _lite0(file: Path, contents: list[bytes], size: int) -> np.ndarray:
    """By its own recipe: bicubic to 8/7 of the size, centre crop, (pixel - 127) / 128."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(file)
    graph.reshape([-1, 3, size, size])
    model = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = []
    for start in range(0, len(contents), _BATCH):
        pixels = np.stack([_cropped(content, size) for content in contents[start : start + _BATCH]])
        result.append(model((pixels.transpose(0, 3, 1, 2) - 127) / 128)["features"].copy())
    return np.concatenate(result)


def _cropped(content: bytes, size: int) -> np.ndarray:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    short = round(size * 256 / 224)
    scale = short / min(image.size)
    image = image.resize([max(short, round(scale * side)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)), np.float32)
