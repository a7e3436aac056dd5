"""The frozen network as one Keras model, from uint8 pixels to features; the same on every Keras backend.

Keras is imported by whoever calls, with the backend of their choice: OpenVINO's in the conversion process, JAX's
on an accelerator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from topwork.backbones.efficientnet_lite import GROWTH, build_efficientnet_lite
from topwork.backbones.preprocessing import PREPROCESSING
from topwork.backbones.starter import build_starter
from topwork.errors import SavedFileError, WeightsError
from topwork.files import read_tensors
from topwork.types import ImageArray, Pooling

_REFUSE_CHANNELS_FIRST = ("DenseNet", "NASNet")
"""What Keras builds channels last only, though nothing in these networks minds: they are moved layer by layer."""

_OWN: dict[str, Callable[..., Any]] = {
    "Starter": build_starter,
    **{name: partial(build_efficientnet_lite, name) for name in GROWTH},
}
"""Networks that `keras.applications` doesn't have."""

_NO_STAGE = ("InputLayer", "ZeroPadding2D", "Cropping2D", "Permute", "Rescaling", "Normalization")
"""What has maps of a size that is no stage's."""

_LAYER_FACTS = (
    *("activation", "strides", "padding", "dilation_rate", "groups", "depth_multiplier", "data_format"),
    *("epsilon", "max_value", "pool_size", "keepdims", "scale"),
)
"""What of a layer's configuration says what it computes."""

NETWORK_VERSION = 2
"""Counts up when what is built here gives other features; part of every feature's key."""


@dataclass(frozen=True)
class NetworkSpec:
    """What `build_network` needs to know, in plain values that travel as JSON.

    `channels_first` lays maps out as `(B, C, h, w)` inside, if Keras's image data format is set so; images, features
    and weights are the same. `output` is the layer whose maps become features; empty for the network's last.
    """

    builder: str
    preprocessing: str
    size: int
    pooling: Pooling
    channels_first: bool = False
    output: str = ""


def build_base(spec: NetworkSpec, weights: str | None = None) -> Any:
    """The network without its classification layers: `(B, size, size, 3)` -> `(B, D)` or `(B, h, w, D)`, frozen.

    Args:
        spec: which network; its pooling is the builder's own, since some (ConvNeXt) normalise after pooling.
        weights: a `.h5` or `.weights.h5` file in Keras's format; None leaves the weights random.
    """
    import keras

    network = _OWN.get(spec.builder) or getattr(keras.applications, spec.builder)
    moves = spec.channels_first and spec.builder.startswith(_REFUSE_CHANNELS_FIRST)
    if moves:
        keras.config.set_image_data_format("channels_last")
    # always of a fixed size: with an open one, NASNet is another network
    shape = (3, spec.size, spec.size) if spec.channels_first and not moves else (spec.size, spec.size, 3)
    base = network(
        include_top=False,
        weights=weights,
        input_shape=shape,
        pooling=None if spec.pooling in ("flatten", "stages") else spec.pooling,
    )
    base = _channels_first(base) if moves else base
    base.trainable = False
    return base


def _channels_first(base: Any) -> Any:
    """The same layers and weights over maps laid out `(B, C, h, w)`."""
    import keras

    def moved(layer: Any) -> Any:
        config = layer.get_config()
        if "data_format" in config:
            config["data_format"] = "channels_first"
        if config.get("axis") in (-1, 3):
            config["axis"] = 1
        return type(layer).from_config(config)

    _, height, width, channels = base.input_shape
    keras.config.set_image_data_format("channels_first")
    clone = keras.models.clone_model(base, input_tensors=keras.Input((channels, height, width)), clone_function=moved)
    clone.set_weights(base.get_weights())
    return clone


def build_network(spec: NetworkSpec, base: Any) -> Any:
    """Preprocessing and `base` as one model: `(B, size, size, 3)` uint8 -> `(B, D)` float32."""
    import keras
    from keras import layers

    preprocessing = PREPROCESSING[spec.preprocessing]
    pixels = keras.Input((spec.size, spec.size, 3), dtype="uint8")
    x = keras.ops.cast(pixels, "float32")
    if preprocessing.reverse_channels:
        x = keras.ops.flip(x, axis=-1)
    if preprocessing.name != "none":
        # not a Rescaling layer: that takes the channels' place from the image data format, and pixels are always last
        x = x * np.array(preprocessing.scale, np.float32) + np.array(preprocessing.offset, np.float32)
    base = keras.Model(base.input, base.get_layer(spec.output).output) if spec.output else base
    base = _pooled_stages(base) if spec.pooling == "stages" else base
    x = base(layers.Permute((3, 1, 2))(x) if spec.channels_first else x)
    if spec.pooling == "flatten":
        x = layers.Permute((2, 3, 1))(x) if spec.channels_first else x
        x = layers.Flatten(data_format="channels_last")(x)
    return keras.Model(pixels, layers.Activation("linear", dtype="float32")(x))


def _pooled_stages(base: Any) -> Any:
    """A model of the same layers: `(B, size, size, 3)` -> the means of the map at the end of every stage, last first.

    A stage is what has maps of about the same size; its end is its last sum or concatenation and what follows it at
    once, else its last map. The network's own output is the end of the last one.
    """
    import keras

    axes = (2, 3) if keras.config.image_data_format() == "channels_first" else (1, 2)
    side = base.input_shape[2]
    ends: dict[int, Any] = {}
    sums: dict[int, Any] = {}
    for operation in base.operations:
        map_ = operation.output
        if isinstance(map_, list) or len(map_.shape) != 4 or type(operation).__name__ in _NO_STAGE:
            continue
        stage = round(np.log2(side / map_.shape[2]))
        if stage < 1 or map_ is base.output:
            continue
        ends[stage] = map_
        follows = type(operation).__name__ in ("Activation", "ReLU") and operation.input is sums.get(stage)
        if type(operation).__name__ in ("Add", "Concatenate") or follows:
            sums[stage] = map_
    last = round(np.log2(side / base.output.shape[2]))
    maps = [sums.get(stage, ends[stage]) for stage in sorted(ends, reverse=True) if stage < last]
    pooled = [keras.ops.mean(map_, axis=axes) for map_ in (base.output, *maps)]
    return keras.Model(base.input, keras.ops.concatenate(pooled, axis=-1))


def describe_layers(base: Any) -> list[dict[str, Any]]:
    """The layers of a Keras model built channels last, as JSON has them; the fields are those of `layers.Layer`."""
    places = {id(weight): f"{place:04d}" for place, weight in enumerate(base.weights)}
    makers = {id(operation.output): operation.name for operation in base.operations}
    found = []
    for operation in base.operations:
        inputs = [] if type(operation).__name__ == "InputLayer" else operation.input
        weights = getattr(operation, "weights", [])
        config = operation.get_config()
        found.append(
            {
                "name": operation.name,
                "kind": type(operation).__name__,
                "inputs": [makers[id(tensor)] for tensor in (inputs if isinstance(inputs, list) else [inputs])],
                "shape": list(operation.output.shape[1:]),
                "weights": {weight.path.split("/")[-1]: places[id(weight)] for weight in weights},
                "weight_shapes": {weight.path.split("/")[-1]: list(weight.shape) for weight in weights},
                "facts": {name: config[name] for name in _LAYER_FACTS if name in config},
            }
        )
    return found


def tensors_of(base: Any) -> dict[str, np.ndarray]:
    """The weights of `base`, float32, named by their place and their Keras path.

    The place is what counts when they are read: Keras numbers unnamed layers by what was built before.

    Raises:
        WeightsError: one of them holds NaN or infinity.
    """
    import keras

    tensors = {}
    for place, weight in enumerate(base.weights):
        name, values = tensor_name(place, weight), np.asarray(keras.ops.convert_to_numpy(weight), np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"The weights hold values in {name!r} that are not finite. Get the file again.")
        tensors[name] = values
    return tensors


def assign_tensors(base: Any, path: Path) -> None:
    """Give `base` the weights in a safetensors file that Topwork wrote.

    Raises:
        WeightsError: the file is damaged, or holds another network's weights.
    """
    try:
        tensors = read_tensors(path)
    except SavedFileError as error:
        raise WeightsError(str(error)) from error
    names = sorted(tensors)
    if len(names) != len(base.weights):
        raise WeightsError(
            f"{str(path)!r} doesn't fit {base.name}: expected {len(base.weights)} tensors, found {len(names)}. "
            "Are these weights of another network?"
        )
    for place, (weight, name) in enumerate(zip(base.weights, names, strict=True)):
        if name.split("/")[0] != f"{place:04d}" or tensors[name].shape != tuple(weight.shape):
            raise WeightsError(
                f"{str(path)!r} doesn't fit {base.name}: expected {tensor_name(place, weight)!r} of shape "
                f"{tuple(weight.shape)}, found {name!r} of shape {tensors[name].shape}."
            )
        weight.assign(tensors[name].astype(np.float32))
    for layer in base.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization keeps a copy of its mean and variance


def filled(batch: ImageArray, batch_size: int) -> ImageArray:
    """`batch` with black images added up to `batch_size`, so that an engine is compiled for one shape."""
    if len(batch) == batch_size:
        return batch
    full = np.zeros((batch_size, *batch.shape[1:]), np.uint8)
    full[: len(batch)] = batch
    return full


def tensor_name(place: int, weight: Any) -> str:
    """The name of a weight in a safetensors file: its place among all, and its Keras path."""
    return f"{place:04d}/{weight.path}"
