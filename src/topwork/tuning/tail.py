"""What lies above a cut, as a function of JAX: activations to features, its convolutions as matrix products.

XLA's own convolutions take three to ten times as long on a processor where gradients are wanted (jax issues 13800,
23713). The statistics of batch normalisation stay as they are; where one follows a convolution, it is folded into the
kernel on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from topwork.backbones.layers import Layer
from topwork.keras_door import import_jax
from topwork.types import FloatArray

Parameters: TypeAlias = dict[str, FloatArray]
"""Tensors by their place in the network."""
Tail: TypeAlias = Callable[[Any, Any, Any], Any]
"""Trained parameters, fixed ones, and `(B, h, w, c)` float32 to `(B, D)` float32."""

_TRAINED = ("kernel", "depthwise_kernel", "bias", "beta")
"""The scale and the statistics of batch normalisation are fixed."""
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D")


def split_parameters(layers: Sequence[Layer], tensors: Parameters) -> tuple[Parameters, Parameters]:
    """The parameters of these layers that are trained, and those that stay fixed, float32.

    Args:
        layers: those above the cut.
        tensors: of the whole network, by place.
    """
    named = [item for layer in layers for item in layer.weights.items()]
    trained = {place: np.asarray(tensors[place], np.float32) for kind, place in named if kind in _TRAINED}
    fixed = {place: np.asarray(tensors[place], np.float32) for kind, place in named if kind not in _TRAINED}
    return trained, fixed


def is_computed(layer: Layer) -> bool:
    """Whether `make_tail` can compute a layer."""
    facts = layer.facts
    plain = facts.get("data_format", "channels_last") == "channels_last" and not facts.get("keepdims")
    whole = facts.get("dilation_rate", [1, 1]) == [1, 1] and facts.get("groups", 1) == 1
    known = facts.get("activation", "linear") in ("linear", "relu")
    return layer.kind in _KINDS and plain and whole and known and facts.get("depth_multiplier", 1) == 1


def make_tail(layers: Sequence[Layer]) -> Tail:
    """The function that computes `layers`, the last of which pools, from the map that the first of them take."""
    convolution_of = _folded(layers)
    folded = {convolution.name for convolution in convolution_of.values()}

    def run(trained: Any, fixed: Any, x: Any) -> Any:
        values: dict[str, Any] = {**trained, **fixed}
        known: dict[str, Any] = {}

        def weights(layer: Layer) -> dict[str, Any]:
            return {kind.removeprefix("depthwise_"): values[place] for kind, place in layer.weights.items()}

        for layer in layers:
            if layer.name in folded:
                continue  # the batch normalisation behind it computes it
            done, of = layer, weights(layer)
            if layer.name in convolution_of:
                done = convolution_of[layer.name]
                of = _fold(done, weights(done), *_affine(layer, of))
            inputs = [known.get(name, x) for name in done.inputs]
            known[layer.name] = _KINDS[done.kind](done, of, *inputs)
        return known[layers[-1].name]

    return run


def _folded(layers: Sequence[Layer]) -> dict[str, Layer]:
    """The convolution that is folded into each batch normalisation: one whose output nothing else takes."""
    by_name = {layer.name: layer for layer in layers}
    uses = [name for layer in layers for name in layer.inputs]
    found = {}
    for layer in layers:
        below = by_name.get(layer.inputs[0])
        if layer.kind != "BatchNormalization" or below is None or below.kind not in _CONVOLUTIONS:
            continue
        if uses.count(below.name) == 1 and below.facts["activation"] == "linear":
            found[layer.name] = below
    return found


def _fold(convolution: Layer, of: dict[str, Any], scale: Any, shift: Any) -> dict[str, Any]:
    """The kernel and bias that do a convolution and what is linear behind it."""
    by_channel = scale[:, None] if convolution.kind == "DepthwiseConv2D" else scale
    return {"kernel": of["kernel"] * by_channel, "bias": of.get("bias", 0.0) * scale + shift}


def _affine(layer: Layer, of: dict[str, Any]) -> tuple[Any, Any]:
    """What batch normalisation does with fixed statistics: `x * scale + shift`."""
    scale = of.get("gamma", 1.0) * (of["moving_variance"] + layer.facts["epsilon"]) ** -0.5
    return scale, of["beta"] - of["moving_mean"] * scale


def _shifted(x: Any, layer: Layer, size: Sequence[int], fill: float = 0.0) -> list[Any]:
    """What each place of a `size` window sees: `(B, h, w, c)` each, in the order of a kernel's entries."""
    jnp = import_jax().numpy
    (height, width), (down, right) = size, layer.facts["strides"]
    h, w = layer.shape[:2]
    if layer.facts["padding"] == "same":
        missing = [
            max(0, (n - 1) * s + k - m) for n, s, k, m in zip((h, w), (down, right), size, x.shape[1:3], strict=True)
        ]
        pads = [(0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)]
        x = jnp.pad(x, pads, constant_values=fill) if any(missing) else x
    places = [(i, j) for i in range(height) for j in range(width)]
    return [x[:, i : i + (h - 1) * down + 1 : down, j : j + (w - 1) * right + 1 : right] for i, j in places]


def _relu(layer: Layer, _: Any, x: Any) -> Any:
    jnp = import_jax().numpy
    if layer.facts.get("activation", "relu") == "linear":
        return x
    return jnp.clip(x, 0.0, layer.facts.get("max_value"))


def _convolution(layer: Layer, of: dict[str, Any], x: Any) -> Any:
    jnp = import_jax().numpy
    kernel = of["kernel"]
    patches = jnp.concatenate(_shifted(x, layer, kernel.shape[:2]), axis=-1)
    return _relu(layer, of, patches @ kernel.reshape(-1, kernel.shape[-1]) + of.get("bias", 0.0))


def _depthwise(layer: Layer, of: dict[str, Any], x: Any) -> Any:
    kernel = of["kernel"]
    views = _shifted(x, layer, kernel.shape[:2])
    weights = kernel[..., 0].reshape(-1, kernel.shape[2])
    return _relu(layer, of, sum(view * weights[i] for i, view in enumerate(views)) + of.get("bias", 0.0))


def _normalise(layer: Layer, of: dict[str, Any], x: Any) -> Any:
    scale, shift = _affine(layer, of)
    return x * scale + shift


def _largest(layer: Layer, _: Any, x: Any) -> Any:
    jnp = import_jax().numpy
    first, *others = _shifted(x, layer, layer.facts["pool_size"], -np.inf)
    for other in others:
        first = jnp.maximum(first, other)
    return first


def _mean(layer: Layer, _: Any, x: Any) -> Any:
    jnp = import_jax().numpy
    size = layer.facts["pool_size"]
    there = sum(_shifted(jnp.ones_like(x[:1, :, :, :1]), layer, size))  # Keras doesn't count what was padded
    return sum(_shifted(x, layer, size)) / there


def _pad(layer: Layer, _: Any, x: Any) -> Any:
    return import_jax().numpy.pad(x, [(0, 0), *layer.facts["padding"], (0, 0)])


_KINDS: dict[str, Callable[..., Any]] = {
    "Activation": _relu,
    "Add": lambda layer, of, *inputs: sum(inputs),
    "AveragePooling2D": _mean,
    "BatchNormalization": _normalise,
    "Concatenate": lambda layer, of, *inputs: import_jax().numpy.concatenate(inputs, axis=-1),
    "Conv2D": _convolution,
    "CustomScaleLayer": lambda layer, of, x, y: x + y * layer.facts["scale"],
    "DepthwiseConv2D": _depthwise,
    "Dropout": lambda layer, of, x: x,
    "GlobalAveragePooling2D": lambda layer, of, x: x.mean(axis=(1, 2)),
    "MaxPooling2D": _largest,
    "ReLU": _relu,
    "ZeroPadding2D": _pad,
}
"""What each kind of layer computes: the layer, its weights by what they are, and its inputs."""
