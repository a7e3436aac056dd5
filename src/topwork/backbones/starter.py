"""The starter backbone: a small network of our own, pretrained on Tiny ImageNet, whose weights ship with Topwork.

`pretraining/network.py` is its twin in PyTorch, where the weights come from; both call the layers by the same names.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

_STEM_WIDTH = 24
# width, width inside a block, blocks; each stage halves the side, and the 3×3 kernels act on the narrow inside
_STAGES = ((48, 32, 1), (112, 56, 2), (256, 128, 2))
_FEATURE_WIDTH = 640


def starter_weights() -> Path:
    """The file with the weights, float16, batch normalisation folded into the convolutions."""
    return Path(str(resources.files(__package__).joinpath("starter.safetensors")))


def build_starter(
    *, include_top: bool, weights: str | None, input_shape: tuple[int, int, int], pooling: str | None
) -> Any:
    """The network with random weights, called as the builders of `keras.applications` are.

    Images `(B, H, W, 3)` in -1..1 become maps `(B, H/16, W/16, 640)`, sides rounded up, which are then pooled.
    28 million multiplications an image at 64 pixels.
    """
    import keras

    if include_top or weights is not None:
        raise ValueError("The starter has no classification layers, and takes its weights by `assign_tensors`.")
    x = image = keras.Input(input_shape)
    x = _conv(x, _STEM_WIDTH, "stem_conv", side=3, stride=2)
    for stage, (width, inside, blocks) in enumerate(_STAGES, 1):
        x = _conv(x, width, f"stage{stage}_down_conv", side=3, stride=2)
        for block in range(1, blocks + 1):
            x = _block(x, width, inside, f"stage{stage}_block{block}")
    x = _conv(x, _FEATURE_WIDTH, "last_conv")
    if pooling is not None:
        x = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[pooling]()(x)
    return keras.Model(image, x, name="starter")


def _block(x: Any, width: int, inside: int, name: str) -> Any:
    """A bottleneck with a shortcut."""
    from keras import layers

    y = _conv(x, inside, f"{name}_reduce_conv")
    y = _conv(y, inside, f"{name}_middle_conv", side=3)
    y = _conv(y, width, f"{name}_restore_conv", activation=None)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def _conv(x: Any, width: int, name: str, *, side: int = 1, stride: int = 1, activation: str | None = "relu") -> Any:
    """A convolution, padded the same on all edges, as PyTorch does: Keras's "same" pads a stride of 2 on two only."""
    from keras import layers

    if stride == 2:
        x = layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x)
    padding = "valid" if stride == 2 else "same"
    return layers.Conv2D(width, side, stride, padding, activation=activation, name=name)(x)
