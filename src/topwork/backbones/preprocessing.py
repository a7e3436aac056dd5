"""How each network wants its pixels: `value * scale + offset` on 0..255, in RGB or BGR order.

The numbers are those that the networks were trained with (Keras Applications, `imagenet_utils`); a card names
which of them is its own. They become layers of the network (`network.py`), so no user ever applies them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """`(pixels[..., ::-1] if reverse_channels else pixels) * scale + offset`, per channel."""

    name: str
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    reverse_channels: bool = False

    def facts(self) -> list[object]:
        """What a feature's key holds of this."""
        return [*self.scale, *self.offset, self.reverse_channels]


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB, pixels in 0..1
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

PREPROCESSING = {
    "tf": Preprocessing("tf", (1 / 127.5,) * 3, (-1.0,) * 3),
    "torch": Preprocessing(
        "torch",
        scale=(1 / 255 / _STD[0], 1 / 255 / _STD[1], 1 / 255 / _STD[2]),
        offset=(-_MEAN[0] / _STD[0], -_MEAN[1] / _STD[1], -_MEAN[2] / _STD[2]),
    ),
    "caffe": Preprocessing("caffe", (1.0,) * 3, (-103.939, -116.779, -123.68), reverse_channels=True),
    # EfficientNet B0 to B7 normalise inside, and then their ImageNet weights want a division by sqrt(std), which Keras
    # builds in only for weights="imagenet"; here the same comes before: (x/255 - mean) / sqrt(std), back on 0..255
    "efficientnet": Preprocessing(
        "efficientnet",
        scale=(_STD[0] ** -0.5, _STD[1] ** -0.5, _STD[2] ** -0.5),
        offset=(
            255 * _MEAN[0] * (1 - _STD[0] ** -0.5),
            255 * _MEAN[1] * (1 - _STD[1] ** -0.5),
            255 * _MEAN[2] * (1 - _STD[2] ** -0.5),
        ),
    ),
    "lite": Preprocessing("lite", (1 / 128,) * 3, (-127 / 128,) * 3),  # of EfficientNet-Lite
    "clip": Preprocessing(
        "clip",
        scale=(1 / 255 / _CLIP_STD[0], 1 / 255 / _CLIP_STD[1], 1 / 255 / _CLIP_STD[2]),
        offset=(-_CLIP_MEAN[0] / _CLIP_STD[0], -_CLIP_MEAN[1] / _CLIP_STD[1], -_CLIP_MEAN[2] / _CLIP_STD[2]),
    ),
    "none": Preprocessing("none", (1.0,) * 3, (0.0,) * 3),  # the network scales its input itself
}
