"""The classifier as a Keras model, saved or converted in a child process; run as a module, this file is the child."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topwork.backbones.network import NetworkSpec, assign_tensors, build_base, build_network
from topwork.export.graph import InputShape
from topwork.files import read_tensors
from topwork.keras_child import draw_weights_in_numpy, run_child, serve_child
from topwork.recipe import PAD_COLOUR, Recipe
from topwork.tops.dense_stack import DenseStack
from topwork.tops.novelty import NEIGHBOURS, Novelty

_NOVELTY = "novelty/"


@dataclass(frozen=True)
class KerasJob:
    """One model to write.

    Attributes:
        spec: the backbone's network.
        recipe: how a picture becomes its input.
        shape: what of the input is fixed.
        weights: the backbone's tensors, a safetensors file.
        top: the top's tensors, a safetensors file; those of what tells unknown images too, if it is told.
        form: 'keras' or 'litert'.
        out: the file to write.
    """

    spec: NetworkSpec
    recipe: Recipe
    shape: InputShape
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
    tensors = read_tensors(Path(job.top))
    of_novelty = {name.removeprefix(_NOVELTY): x for name, x in tensors.items() if name.startswith(_NOVELTY)}
    of_top = {name: x for name, x in tensors.items() if not name.startswith(_NOVELTY)}
    model = _build(job, DenseStack.from_tensors(of_top), Novelty.from_tensors(of_novelty) if of_novelty else None)
    if job.form == "litert":
        model.export(job.out, format="litert", verbose=False)
    else:
        model.save(job.out)


def _build(job: KerasJob, top: DenseStack, novelty: Novelty | None) -> Any:
    """`image` uint8 -> `probabilities` `(B, K)` float32; and `novelty` `(B,)` float32, if there is one."""
    import keras

    base = build_base(job.spec)
    assign_tensors(base, Path(job.weights))
    image = keras.Input((job.shape.size, job.shape.size, 3), job.shape.batch, dtype="uint8", name="image")
    square = _framed(image, job.recipe) if job.shape.size is None else image
    x = features = build_network(job.spec, base)(square)
    layers = list(zip(top.kernels, top.biases, strict=True))
    for i, (kernel, bias) in enumerate(layers, 1):
        dense = keras.layers.Dense(len(bias), activation=None if i == len(layers) else "relu", name=f"top_dense_{i}")
        x = dense(x)
        dense.set_weights([np.asarray(kernel, np.float32), np.asarray(bias, np.float32)])
    outputs = {"probabilities": keras.layers.Softmax(name="probabilities")(x)}
    if novelty is not None:
        outputs["novelty"] = _scores(features, x, novelty)
    return keras.Model(image, outputs, name="topwork")


def _scores(features: Any, logits: Any, novelty: Novelty) -> Any:
    """`(B,)`, what `Novelty.scores` gives."""
    import keras
    from keras import ops

    references = keras.layers.Dense(len(novelty.references), use_bias=False, name="references")
    similarity = references(keras.layers.UnitNormalization()(features))
    references.set_weights([novelty.references.T.astype(np.float32)])
    nearest = ops.top_k(similarity, min(NEIGHBOURS, len(novelty.references)))[0]
    signs = 1.0 - nearest[:, -1], -ops.logsumexp(logits, axis=1)
    first, second = ((x - float(c)) / float(s) for x, c, s in zip(signs, novelty.centre, novelty.spread, strict=True))
    return first + second


def _framed(image: Any, recipe: Recipe) -> Any:
    """What `graph.framed` does, in Keras: there a shape is no number to calculate with, so ones are counted."""
    from keras import ops

    x = ops.transpose(ops.cast(image, "float32"), (0, 3, 1, 2))
    ones = ops.ones_like(x[:1, 0])
    rows, columns = ones[:, :, 0], ones[:, 0, :]
    height, width = (ops.sum(pixels, axis=1, keepdims=True) for pixels in (rows, columns))
    seen_of = {"crop": ops.minimum(height, width), "pad": ops.maximum(height, width), "squash": None}[recipe.frame]
    if recipe.crop_thousandths < 1000:
        seen_of = ops.maximum(ops.floor((seen_of * float(recipe.crop_thousandths) + 500.0) / 1000.0), 1.0)
    across, along = (
        _filter_weights(ones, length, length if seen_of is None else seen_of, recipe)
        for ones, length in ((rows, height), (columns, width))
    )
    x = _rounded(ops.matmul(x, ops.transpose(along)))
    square = _rounded(ops.matmul(across, x))
    if recipe.frame == "pad":  # rows of zeros are beside the picture
        inside, beside = (ops.floor(ops.sum(weights, axis=1, keepdims=True) + 0.5) for weights in (across, along))
        pad = 1.0 - inside * ops.transpose(beside)
        square = square + pad * np.array(PAD_COLOUR, np.float32)[None, :, None, None]
    return ops.cast(ops.transpose(square, (0, 2, 3, 1)), "uint8")


def _rounded(x: Any) -> Any:
    from keras import ops

    return ops.clip(ops.floor(x + 0.5), 0, 255)


def _filter_weights(ones: Any, length: Any, side: Any, recipe: Recipe) -> Any:
    """`(size, length)`: as in `graph.py`, but over the whole of the picture, 0 outside the centre square.

    `side` is how many pixels fill the square: fewer than `length` where it is cropped, more where it is padded.
    """
    from keras import ops

    size, places = float(recipe.size), np.arange(0.5, recipe.size, dtype=np.float32)[:, None]
    pixel = ops.cumsum(ones, axis=1) - 0.5
    if recipe.frame == "pad":
        n = ops.maximum(ops.floor((2.0 * size * length + side) / (2.0 * side)), 1.0)
        places = ops.subtract(places, ops.floor((size - n) / 2.0))
        scale, start = length / n, 0.0
        is_inside = ops.cast((places > 0.0) & (places < n), "float32")
    else:
        scale, start = side / size, ops.floor((length - side) / 2)
        is_inside = ops.cast((pixel > start) & (pixel < start + side), "float32")
    centre = start + scale * places
    d = ops.abs((pixel - centre) / ops.maximum(scale, 1.0))
    weights = (_bicubic(d) if recipe.filter == "bicubic" else ops.maximum(1.0 - d, 0.0)) * is_inside
    total = ops.sum(weights, axis=1, keepdims=True)
    weights = weights / (total + (1.0 - is_inside) if recipe.frame == "pad" else total)  # not 0 / 0 beside it
    return ops.floor(weights * 2.0**22 + 0.5) * 2.0**-22


def _bicubic(d: Any) -> Any:
    from keras import ops

    near = ((1.5 * d - 2.5) * d) * d + 1.0
    far = -0.5 * (((d - 5.0) * d + 8.0) * d - 4.0)
    return ops.where(d < 1.0, near, ops.where(d < 2.0, far, 0.0))


if __name__ == "__main__":
    serve_child(
        lambda facts: _child(
            KerasJob(
                **{
                    **facts,
                    "spec": NetworkSpec(**facts["spec"]),
                    "recipe": Recipe(**facts["recipe"]),
                    "shape": InputShape(**facts["shape"]),
                }
            )
        )
    )
