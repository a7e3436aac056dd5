"""A backbone from an ONNX file beside bare OpenVINO on the same file: images a second, side by side in one run.

    python benchmarks/network_files.py FILE [--output NAME] [--pooling token|patches] [--rounds 5] [--seconds 3]

Both get images that are squares already. OpenVINO gets them as the file wants them, scaled and turned beforehand, in
batches of one and of four, and the better counts; Topwork gets bytes, and scales, turns and pools inside its graph.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import topwork as tw
from topwork.backbones.engines import open_engine
from topwork.openvino_door import import_openvino


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--output")
    parser.add_argument("--pooling")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    half = {"mean": (0.5,), "std": (0.5,)}
    backbone = tw.load_backbone(options.file, output=options.output, pooling=options.pooling, **half)
    images = np.random.default_rng(0).integers(0, 256, (8, backbone.size, backbone.size, 3), np.uint8)
    ways = {"topwork": topwork_way(backbone, images)}
    for batch in (1, 4):
        ways[f"openvino, batches of {batch}"] = bare_way(options.file, images, batch)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):  # in turn, so that what else the machine does falls on all alike
        for name, way in ways.items():
            rates[name].append(way(options.seconds))
    medians = {name: float(np.median(found)) for name, found in rates.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.1f} images/s ({', '.join(f'{rate:.1f}' for rate in rates[name])})")
    best = max(median for name, median in medians.items() if name != "topwork")
    print(f"topwork / the better of bare OpenVINO: {medians['topwork'] / best:.3f}")


def topwork_way(backbone: tw.Backbone, images: np.ndarray) -> Callable[[float], float]:
    engine = open_engine(backbone, "cpu")
    batch = images[: engine.batch_size]

    def run(seconds: float) -> float:
        began, n = time.perf_counter(), 0

        def batches():  # type: ignore[no-untyped-def]
            place = 0
            while time.perf_counter() - began < seconds:
                yield place, batch
                place += 1

        for _, features in engine.run(batches()):
            n += len(features)
        return n / (time.perf_counter() - began)

    run(0.5)
    return run


def bare_way(file: str, images: np.ndarray, n_batch: int) -> Callable[[float], float]:
    ov = import_openvino()
    core = ov.Core()
    model = core.read_model(file)
    side = images.shape[1]
    model.reshape([n_batch, 3, side, side])
    config = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = ov.AsyncInferQueue(core.compile_model(model, "CPU", config))
    pixels = ((images[:n_batch] / 255 - 0.5) / 0.5).astype(np.float32).transpose(0, 3, 1, 2)
    pixels = np.ascontiguousarray(pixels)

    def run(seconds: float) -> float:
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            queue.start_async({0: pixels})
            n += n_batch
        queue.wait_all()
        return n / (time.perf_counter() - began)

    run(0.5)
    return run


if __name__ == "__main__":
    main()
