"""The classifier as a Keras model, saved or converted in a child process; run as a module, this file is the child."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topwork.backbones.network import NetworkSpec, assign_tensors, build_base, build_network
from topwork.keras_child import draw_weights_in_numpy, run_child, serve_child
from topwork.tops.dense_stack import DenseStack


@dataclass(frozen=True)
class KerasJob:
    """One model to write.

    Attributes:
        spec: the backbone's network.
        weights: the backbone's tensors, a safetensors file.
        top: the top's tensors, a safetensors file.
        form: 'keras', with images of any size in; or 'litert', with squares of the backbone's size in: its resizing
            has no bicubic filter.
        out: the file to write.
    """

    spec: NetworkSpec
    weights: str
    top: str
    form: Literal["keras", "litert"]
    out: str


def write_keras_model(job: KerasJob) -> None:
    """Build the model and write it, on JAX ('keras') or TensorFlow ('litert') in a child process.

    Raises:
        WeightsError: the child failed.
        StorageError: the file can't be written.
    """
    backend = {"keras": "jax", "litert": "tensorflow"}[job.form]
    run_child("topwork.export.keras_model", asdict(job), backend=backend, title=f"Exporting to {job.form}")


def _child(job: KerasJob) -> None:
    from safetensors.numpy import load_file

    draw_weights_in_numpy()
    model = _build(job, DenseStack.from_tensors(load_file(job.top)))
    if job.form == "litert":
        model.export(job.out, format="litert", verbose=False)
    else:
        model.save(job.out)


def _build(job: KerasJob, top: DenseStack) -> Any:
    """`image` uint8 -> `probabilities` `(B, K)` float32."""
    import keras

    base = build_base(job.spec)
    assign_tensors(base, Path(job.weights))
    size = job.spec.size
    any_size = job.form == "keras"
    image = keras.Input((None, None, 3) if any_size else (size, size, 3), dtype="uint8", name="image")
    x = build_network(job.spec, base)(_square(image, size) if any_size else image)
    layers = list(zip(top.kernels, top.biases, strict=True))
    for i, (kernel, bias) in enumerate(layers, 1):
        last = i == len(layers)
        name = "probabilities" if last else f"top_dense_{i}"
        dense = keras.layers.Dense(len(bias), activation="softmax" if last else "relu", name=name)
        x = dense(x)
        dense.set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])
    return keras.Model(image, x, name="topwork")


def _square(image: Any, size: int) -> Any:
    """The centre square, resized and rounded to bytes again, as `data/decoding.py` does (to one level of 255)."""
    import keras

    resizing = keras.layers.Resizing(
        size,
        size,
        interpolation="bicubic",
        antialias=True,
        crop_to_aspect_ratio=True,
        data_format="channels_last",
        dtype="float32",
        name="centre_square",
    )
    levels = keras.ops.round(keras.ops.clip(resizing(keras.ops.cast(image, "float32")), 0, 255))
    return keras.ops.cast(levels, "uint8")


if __name__ == "__main__":
    serve_child(lambda facts: _child(KerasJob(**{**facts, "spec": NetworkSpec(**facts["spec"])})))
