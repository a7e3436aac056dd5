"""What others take for the same work, one at a time, in an environment of its own; the other benchmarks run this.

    python -m venv rivals
    rivals/bin/pip install "keras>=3.13.2" jax tensorflow-cpu torch onnxruntime onnx onnxscript scikit-learn
    KERAS_BACKEND=torch rivals/bin/python benchmarks/rivals.py predict DenseNet121 224

`timm` (for cuda.py) wants another one, on the machine with the GPU; plain `torch` from the registry brings CUDA:

    rivals/bin/pip install numpy torch torchvision timm
    rivals/bin/python benchmarks/rivals.py timm resnet50 224 128 cuda

Prints one number: images a second for `predict` and `onnx`, seconds an epoch for `notebook`, `mlp` and `sklearn`,
and for `top` its accuracy.
`timm` prints a line that says with what, then two numbers, images a second on the device and from memory.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

SECONDS = 6.0
REPEATS = 5


def predict(name: str, size: str) -> float:
    """Images a second of Keras's `predict` on the frozen network, its input already in memory."""
    base, batch = _base(name, int(size)), 32
    images = np.random.default_rng(0).normal(size=(batch * 2, int(size), int(size), 3)).astype(np.float32)
    return _rate(lambda: base.predict(images, batch_size=batch, verbose=0), len(images))


def onnx(name: str, size: str) -> float:
    """Images a second of ONNX Runtime on the network that Keras exports (on PyTorch)."""
    import onnxruntime

    side = int(size)
    base = _base(name, side)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        base(np.zeros((1, side, side, 3), np.float32))  # export wants a model called once
        base.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(16, side, side, 3)).astype(np.float32)
    feed = {session.get_inputs()[0].name: images}
    return _rate(lambda: session.run(None, feed), len(images))


def notebook(size: str, n: str) -> float:
    """Seconds an epoch of the course's way, 50,000 + 10,000 images, measured on `n`: the frozen base in the model."""
    import keras

    side, few = int(size), int(n)
    base = _base("DenseNet121", side, pooling=None)
    model = keras.Sequential(
        [
            keras.Input((side, side, 3)),
            base,
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    random = np.random.default_rng(0)
    images = random.random((few, side, side, 3), dtype=np.float32)
    labels = np.eye(10, dtype=np.float32)[random.integers(0, 10, few)]
    n_test = max(32, few // 5)
    data = (images, labels), (images[:n_test], labels[:n_test])
    _fit(model, *data, epochs=1)
    return _seconds(lambda: _fit(model, *data, epochs=1)) * 60_000 / (few + n_test)


def mlp(n: str, d: str) -> float:
    """Seconds an epoch of Dense(256) + Dropout(0.5) + Dense(10) on `n` × `d` features, batches of 32."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((int(d),)),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    X, y = _features(int(n), int(d))
    data = (X, y), (X[:1000], y[:1000])
    _fit(model, *data, epochs=1)
    return _seconds(lambda: _fit(model, *data, epochs=2)) / 2


def last_stage(name: str, cut: str, batch: str) -> float:
    """Images a second of training what lies above a layer by `fit`, 224×224, the layers below frozen."""
    import keras

    base = _base(name, 224)
    base.trainable = True
    names = [layer.name for layer in base.layers]
    for place, layer in enumerate(base.layers):
        is_fixed = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = place > names.index(cut) and not is_fixed
    model = keras.Sequential([keras.Input((224, 224, 3)), base, keras.layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
    n = 4 * int(batch)
    images = np.random.default_rng(0).random((n, 224, 224, 3), dtype=np.float32)
    labels = np.arange(n) % 10
    return _rate(lambda: model.fit(images, labels, batch_size=int(batch), epochs=1, verbose=0), n)


def last_stage_of_torch(name: str, batch: str) -> float:
    """The same by PyTorch with torchvision's network; what lies below runs without gradients."""
    import torch
    import torchvision

    network = getattr(torchvision.models, name.lower())(num_classes=10).eval()  # batch normalisation stays as it is
    if name.startswith("ResNet"):
        below = torch.nn.Sequential(*list(network.children())[:7])
        above = torch.nn.Sequential(network.layer4, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), network.fc)
    else:
        below = network.features[:10]
        end = [torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), network.classifier]
        above = torch.nn.Sequential(network.features[10:], *end)
    optimizer = torch.optim.AdamW(above.parameters(), 1e-3)
    images, labels = torch.rand(int(batch), 3, 224, 224), torch.arange(int(batch)) % 10

    def step() -> None:
        with torch.no_grad():
            maps = below(images)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(above(maps), labels).backward()
        optimizer.step()

    return _rate(step, int(batch))


def top(path: str, epochs: str) -> float:
    """Test accuracy of the course's top by `fit` on kept features: a frozen base computes the same ones every epoch."""
    import keras

    data = np.load(path)
    dense = [keras.layers.Dense(256, activation="relu"), keras.layers.Dropout(0.5)]
    n_classes = int(data["y_train"].max()) + 1
    model = keras.Sequential([*dense, keras.layers.Dense(n_classes, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping("val_loss", patience=int(epochs), restore_best_weights=True)
    sides = [(data[f"X_{side}"], data[f"y_{side}"]) for side in ("train", "validation", "test")]
    model.fit(*sides[0], validation_data=sides[1], epochs=int(epochs), batch_size=32, callbacks=[stop], verbose=0)
    return float(model.evaluate(*sides[2], verbose=0)[1])


def sklearn(n: str, d: str) -> float:
    """The same, but for the dropout, by scikit-learn's `MLPClassifier`."""
    import warnings

    from sklearn.neural_network import MLPClassifier

    X, y = _features(int(n), int(d))
    warnings.simplefilter("ignore")
    model = MLPClassifier((256,), batch_size=32, max_iter=2, random_state=0)
    return _seconds(lambda: model.fit(X, y)) / 2


def timm(
    name: str, size: str, batch: str, device: str, mode: str = "default", seconds: str = "3", repeats: str = "5"
) -> tuple[float, float]:
    """Images a second of timm's network, bf16, channels last, compiled: uint8 on the device, and uint8 in memory."""
    import timm
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no CUDA GPU.")
    torch.backends.cudnn.benchmark = True  # as XLA does, try which algorithm is the fastest
    network = timm.create_model(name, num_classes=0).eval()
    network = network.to(device, torch.bfloat16, memory_format=torch.channels_last)
    mean, std = (torch.tensor(network.default_cfg[key], device=device).view(3, 1, 1) for key in ("mean", "std"))

    def whole(pixels: torch.Tensor) -> torch.Tensor:
        scaled = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std  # as it lies in memory, this is channels last
        return network(scaled.to(torch.bfloat16)).float()

    shape = (4, int(batch), int(size), int(size), 3)
    with torch.inference_mode():
        batches = [torch.from_numpy(x) for x in np.random.default_rng(0).integers(0, 256, shape, np.uint8)]
        on_device = batches[0].to(device)
        forward, how = _compiled(whole, on_device, mode)
        print(f"timm: torch {torch.__version__}, timm {timm.__version__}, {how}")

        def run_on_device(n: int) -> None:
            for _ in range(n):
                forward(on_device)
            if device == "cuda":
                torch.cuda.synchronize()

        from_memory = _from_memory if device == "cuda" else _from_memory_on_cpu
        timing = int(batch), float(seconds), int(repeats)
        return best_rate(run_on_device, *timing), best_rate(lambda n: from_memory(forward, batches, n), *timing)


def best_rate(work: Callable[[int], object], batch: int, seconds: float, repeats: int) -> float:
    """Images a second of `work(n)`, which ends when `n` batches are done: the best of so many repeats."""
    work(3)  # compiles
    n = math.ceil(3 * seconds / _seconds(lambda: work(3)))
    return batch * n / min(_seconds(lambda: work(n)) for _ in range(repeats))


def _compiled(network: Callable, pixels: object, mode: str) -> tuple[Callable, str]:
    """`network` by `torch.compile`, run once; as it is where there is no compiler for that, and a word on which."""
    import torch

    compiled = torch.compile(network, mode=mode)
    try:
        compiled(pixels)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        return network, f"NOT compiled, so not to be compared (torch.compile: {reason})"
    return compiled, f"torch.compile in mode {mode}"


def _from_memory(forward: Callable, batches: Sequence, n: int) -> None:
    """As on a GPU it is quickest: page-locked buffers, a batch's transfer beside the computing of the one before."""
    import torch

    computing, copying = torch.cuda.current_stream(), torch.cuda.Stream()
    locked = [torch.empty_like(batches[0], pin_memory=True) for _ in range(2)]
    sent = [torch.empty_like(batches[0], device="cuda") for _ in range(2)]
    running = []
    for i in range(n):
        locked[i % 2].copy_(batches[i % len(batches)])  # what read this buffer ended two batches ago
        with torch.cuda.stream(copying):
            sent[i % 2].copy_(locked[i % 2], non_blocking=True)
        computing.wait_stream(copying)
        features = forward(sent[i % 2]).to("cpu", non_blocking=True)
        running.append((features, computing.record_event()))
        if len(running) > 1:
            _arrived(*running.pop(0))
    for features, done in running:
        _arrived(features, done)


def _arrived(features: object, done: object) -> np.ndarray:
    done.synchronize()  # type: ignore[attr-defined]
    return features.numpy()  # type: ignore[attr-defined, no-any-return]


def _from_memory_on_cpu(forward: Callable, batches: Sequence, n: int) -> None:
    for i in range(n):
        forward(batches[i % len(batches)].clone()).numpy()


def _base(name: str, side: int, pooling: str | None = "avg") -> object:
    import keras

    base = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(side, side, 3), pooling=pooling
    )
    base.trainable = False
    return base


def _fit(model: object, train: tuple, validation: tuple, epochs: int) -> None:
    model.fit(*train, validation_data=validation, batch_size=32, epochs=epochs, verbose=0)  # type: ignore[attr-defined]


def _features(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(n, d)).astype(np.float32), random.integers(0, 10, n)


def _rate(work: Callable[[], object], n: int) -> float:
    work()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS or rounds < 2:
        work()
        rounds += 1
    return rounds * n / (time.perf_counter() - began)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    measured = globals()[sys.argv[1]](*sys.argv[2:])
    print(*(f"{value:.4f}" for value in (measured if isinstance(measured, tuple) else (measured,))))
