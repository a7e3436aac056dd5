"""What others take for the same work, one at a time, in an environment of its own; the other benchmarks run this.

    python -m venv rivals
    rivals/bin/pip install "keras>=3.13.2" jax tensorflow-cpu torch onnxruntime onnx onnxscript scikit-learn
    KERAS_BACKEND=torch rivals/bin/python benchmarks/rivals.py predict DenseNet121 224

Prints one number: images a second for `predict` and `onnx`, seconds an epoch for `notebook`, `mlp` and `sklearn`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

SECONDS = 6.0


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


def sklearn(n: str, d: str) -> float:
    """The same, but for the dropout, by scikit-learn's `MLPClassifier`."""
    import warnings

    from sklearn.neural_network import MLPClassifier

    X, y = _features(int(n), int(d))
    warnings.simplefilter("ignore")
    model = MLPClassifier((256,), batch_size=32, max_iter=2, random_state=0)
    return _seconds(lambda: model.fit(X, y)) / 2


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
    print(f"{globals()[sys.argv[1]](*sys.argv[2:]):.4f}")
