"""The classifier as a Keras model, saved or converted in a child process; run as a module, this file is the child."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topwork.backbones.network import NetworkSpec, assign_tensors, build_base, build_network
from topwork.files import read_tensors
from topwork.keras_child import draw_weights_in_numpy, run_child, serve_child
from topwork.tops.dense_stack import DenseStack


@dataclass(frozen=True)
class KerasJob:
    """One model to write.

    Attributes:
        spec: the backbone's network.
        weights: the backbone's tensors, a safetensors file.
        top: the top's tensors, a safetensors file.
        form: 'keras' or 'litert'.
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
    draw_weights_in_numpy()
    model = _build(job, DenseStack.from_tensors(read_tensors(Path(job.top))))
    if job.form == "litert":
        model.export(job.out, format="litert", verbose=False)
    else:
        model.save(job.out)


def _build(job: KerasJob, top: DenseStack) -> Any:
    """`image` uint8 -> `probabilities` `(B, K)` float32."""
    import keras

    base = build_base(job.spec)
    assign_tensors(base, Path(job.weights))
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    x = build_network(job.spec, base)(_resized_square(image, job.spec.size))
    layers = list(zip(top.kernels, top.biases, strict=True))
    for i, (kernel, bias) in enumerate(layers, 1):
        last = i == len(layers)
        name = "probabilities" if last else f"top_dense_{i}"
        dense = keras.layers.Dense(len(bias), activation="softmax" if last else "relu", name=name)
        x = dense(x)
        dense.set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])
    return keras.Model(image, x, name="topwork")


def _resized_square(image: Any, size: int) -> Any:
    """What `graph.resized_square` does, in Keras: there a shape is no number to calculate with, so ones are counted."""
    from keras import ops

    x = ops.transpose(ops.cast(image, "float32"), (0, 3, 1, 2))
    ones = ops.ones_like(x[:1, 0])
    rows, columns = ones[:, :, 0], ones[:, 0, :]
    height, width = (ops.sum(pixels, axis=1, keepdims=True) for pixels in (rows, columns))
    side = ops.minimum(height, width)
    across, along = _bicubic_weights(rows, height, side, size), _bicubic_weights(columns, width, side, size)
    x = _rounded(ops.matmul(x, ops.transpose(along)))
    return ops.cast(ops.transpose(_rounded(ops.matmul(across, x)), (0, 2, 3, 1)), "uint8")


def _rounded(x: Any) -> Any:
    from keras import ops

    return ops.clip(ops.floor(x + 0.5), 0, 255)


def _bicubic_weights(ones: Any, length: Any, side: Any, size: int) -> Any:
    """`(size, length)`: as in `graph.py`, but over the whole of the picture, 0 outside the centre square."""
    from keras import ops

    start = ops.floor((length - side) / 2)
    pixel = ops.cumsum(ones, axis=1) - 0.5
    scale = side / float(size)
    centre = start + scale * np.arange(0.5, size, dtype=np.float32)[:, None]
    d = ops.abs((pixel - centre) / ops.maximum(scale, 1.0))
    near = ((1.5 * d - 2.5) * d) * d + 1.0
    far = -0.5 * (((d - 5.0) * d + 8.0) * d - 4.0)
    is_inside = ops.cast((pixel > start) & (pixel < start + side), "float32")
    weights = ops.where(d < 1.0, near, ops.where(d < 2.0, far, 0.0)) * is_inside
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    return ops.floor(weights * 2.0**22 + 0.5) * 2.0**-22


if __name__ == "__main__":
    serve_child(lambda facts: _child(KerasJob(**{**facts, "spec": NetworkSpec(**facts["spec"])})))
