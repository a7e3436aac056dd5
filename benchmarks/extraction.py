"""Extraction, images on disk to features in the store, against the bare engine, its rivals and the processor's peak.

    python benchmarks/extraction.py [--quick] [--rivals rivals/bin/python]

JPEGs of 500 × 375 pixels, drawn once. For each network, one after another in the same run: Topwork's extraction; bare
OpenVINO on the same graph with tensors already in memory (its own `benchmark_app`: the engine's limit here); the same
network by Keras `predict` on three backends and by ONNX Runtime (rivals.py says how to make their environment). Then
counted FLOPs times images a second, over what a large matrix product reaches on this machine. A second table has
Topwork and the bare engine in bf16 (where the processor has it), and the bare engine in int8 (with topwork[int8]).
"Share of both together" is of the limit that decoding and the bare engine set on the same cores. Expected: 0.92 of
the bare engine for the heavy networks (the aim is 0.95); light ones are bound by decoding.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import topwork as tw
from common import quick_and_rivals, rival, show
from topwork.backbones.engines import open_engine
from topwork.data.decoding import read_square
from topwork.export.graph import fold_normalisations
from topwork.openvino_door import import_openvino
from topwork.recipe import Recipe

NETWORKS = (("densenet121", 224), ("resnet50", 224), ("mobilenet_v2", 224), ("starter", 64))
KERAS_NAMES = {"densenet121": "DenseNet121", "resnet50": "ResNet50", "mobilenet_v2": "MobileNetV2"}


def main() -> None:
    given = quick_and_rivals(__doc__, "5 seconds a measurement in place of 20")
    seconds = 5 if given.quick else 20
    peaks = {precision: peak(precision) for precision in ("f32", "bf16")}
    print("Matrix product of 4096: " + ", ".join(f"{p} {show(v, '{:,.0f}')} GFLOP/s" for p, v in peaks.items()))
    rivals = "Keras on TensorFlow, images/s | on JAX | on PyTorch | ONNX Runtime"
    ours = "Topwork, images/s | bare OpenVINO | share | decoding alone | share of both together"
    print(f"\n| network | {ours} | {rivals} | GFLOP an image | of the f32 peak |\n" + "|---" * 12 + "|")
    by_precision = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = folder
        for name, size in NETWORKS:
            by_precision.append(row(name, size, seconds, given.rivals, peaks))
    print("\n| images/s | Topwork, f32 | Topwork, bf16 | bare, f32 | bare, bf16 | bare, int8 |\n" + "|---" * 6 + "|")
    for cells in by_precision:
        print("| " + " | ".join(cells) + " |")


def row(name: str, size: int, seconds: float, rivals: str | None, peaks: dict[str, float | None]) -> list[str]:
    """Measure one network and print its row; returns that of the table by precision."""
    backbone = tw.load_backbone(name, weights=None if name == "starter" else "random", size=size)
    graph = backbone.graph()
    batch = open_engine(backbone, "cpu").batch_size
    bare = bare_rate(graph, batch, size, seconds / 2)
    images = drawn(max(64, round(bare * seconds)))
    ours = extraction_rate(images, backbone)
    bare = (bare + bare_rate(graph, batch, size, seconds / 2)) / 2  # before and after: machines are noisy
    others = [None] * 4
    if name in KERAS_NAMES:
        keras_name = KERAS_NAMES[name]
        others = [rival(rivals, backend, "predict", keras_name, size) for backend in ("tensorflow", "jax", "torch")]
        others.append(rival(rivals, "torch", "onnx", keras_name, size))
    flops = gflops(graph)
    decoding = decoding_rate(images, size)
    both = 1 / (1 / bare + 1 / decoding)  # the same cores do both
    cells = [f"{name} at {size}", f"{ours:,.1f}", f"{bare:,.1f}", f"{ours / bare:.2f}", f"{decoding:,.0f}"]
    cells += [f"{ours / both:.2f}", *map(show, others)]
    share = f"{100 * flops * ours / peaks['f32']:.0f} %" if peaks["f32"] else "–"
    print("| " + " | ".join([*cells, f"{flops:.2f}", share]) + " |", flush=True)
    rates = [ours, None, bare, None, int8_rate(backbone, images, batch, seconds / 2)]
    if peaks["bf16"]:
        rates[1] = extraction_rate(images, replace(backbone, precision="bf16"))
        rates[3] = bare_rate(graph, batch, size, seconds / 2, "bf16")
    return [f"{name} at {size}", *map(show, rates)]


def drawn(n: int) -> tw.ImageDataset:
    """`n` different JPEG files of 500 × 375 pixels, as smooth and as noisy as photographs are."""
    random = np.random.default_rng(0)
    contents = []
    for _ in range(200):
        coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3)).astype(np.uint8))
        picture = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = picture + random.normal(0, 8, picture.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    images = [contents[i % 200] + i.to_bytes(4, "big") for i in range(n)]  # what follows a JPEG's end is not read
    folder = Path(tempfile.mkdtemp(dir=os.environ["TOPWORK_CACHE"]))
    for k in range(2):
        (folder / str(k)).mkdir()
    for i, content in enumerate(images):
        (folder / str(i % 2) / f"{i}.jpg").write_bytes(content)
    return tw.ImageDataset.from_directory(folder)


def extraction_rate(images: tw.ImageDataset, backbone: tw.Backbone) -> float:
    """Images a second, reading, decoding and storing among them; the graph was compiled before."""
    n_warm = min(16, len(images) // 2)
    tw.extract_features(images.select(np.arange(n_warm)), backbone)
    rest = images.select(np.arange(n_warm, len(images)))
    began = time.perf_counter()
    tw.extract_features(rest, backbone)
    return len(rest) / (time.perf_counter() - began)


def decoding_rate(images: tw.ImageDataset, size: int) -> float:
    """Images a second from files to squares, in as many threads as there are processors."""
    some = images.select(np.arange(min(len(images), 1000)))
    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda payload: read_square(payload, Recipe(size), ""), some.source.payloads(some.rows)))
    return len(some) / (time.perf_counter() - began)


def int8_rate(backbone: tw.Backbone, images: tw.ImageDataset, batch: int, seconds: float) -> float | None:
    """What bare OpenVINO reaches on the graph in int8, as `export --int8` makes it; None without topwork[int8]."""
    if importlib.util.find_spec("nncf") is None:
        return None
    import nncf

    ov = import_openvino()
    model = ov.Core().read_model(backbone.graph())
    fold_normalisations(model)
    payloads = images.select(np.arange(32)).source.payloads(np.arange(32))
    tensors = [read_square(payload, Recipe(backbone.size), "")[None] for payload in payloads]
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        quantised = nncf.quantize(model, nncf.Dataset(tensors), subset_size=len(tensors))
        ov.save_model(quantised, Path(folder) / "int8.xml")
        return bare_rate(Path(folder) / "int8.xml", batch, backbone.size, seconds)


def bare_rate(graph: Path, batch: int, size: int, seconds: float, precision: str = "f32") -> float:
    """What OpenVINO's own `benchmark_app` reaches on the graph."""
    program = shutil.which("benchmark_app", path=os.path.dirname(sys.executable))
    command = [program or "benchmark_app", "-m", str(graph), "-d", "CPU", "-hint", "throughput", "-t", f"{seconds:.0f}"]
    command += ["-infer_precision", precision, "-shape", f"[{batch},{size},{size},3]"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"Throughput:\s+([\d.]+)", output)[1])  # type: ignore[index]


def gflops(graph: Path) -> float:
    """Of one image: two for each multiplication of the graph's convolutions and matrix products."""
    model = import_openvino().Core().read_model(graph)
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape(shape)
    total = 0
    for op in model.get_ops():
        kind = op.get_type_name()
        if kind in ("Convolution", "GroupConvolution", "MatMul"):
            weights = op.input(1).get_shape()
            outputs = int(np.prod(op.output(0).get_shape()))
            inner = {"Convolution": weights[1:], "GroupConvolution": weights[2:], "MatMul": weights[:1]}[kind]
            total += 2 * outputs * int(np.prod(inner))
    return total / 1e9


def peak(precision: str) -> float | None:
    """GFLOP/s of a matrix product of 4096 in OpenVINO; None where the processor lacks the precision."""
    ov = import_openvino()
    core = ov.Core()
    if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") and precision != "f32":
        return None
    n = 4096
    x = ov.opset13.parameter([n, n], np.float32)
    weights = ov.opset13.constant(np.random.default_rng(0).normal(size=(n, n)).astype(np.float32))
    model = ov.Model([ov.opset13.matmul(x, weights, False, False)], [x])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    request, value = compiled.create_infer_request(), np.ones((n, n), np.float32)
    request.infer({0: value})
    times = []
    for _ in range(5):
        began = time.perf_counter()
        request.infer({0: value}, share_inputs=True, share_outputs=True)
        times.append(time.perf_counter() - began)
    return 2 * n**3 / min(times) / 1e9


if __name__ == "__main__":
    main()
