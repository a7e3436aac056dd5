"""Where a network can be cut, and which cut a person means by its last block, its last stage, or all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from topwork.backbones.backbone import Backbone
from topwork.backbones.cards import cards
from topwork.backbones.layers import Layer, layers_of
from topwork.errors import OptionError
from topwork.tuning.tail import is_computed
from topwork.types import Part

_SUMS = ("Add", "CustomScaleLayer")
"""What a residual block ends in; the second is InceptionResNetV2's."""
_POOLS = ("MaxPooling2D", "AveragePooling2D")
_RELUS = ("Activation", "ReLU")


@dataclass(frozen=True)
class Cut:
    """A place in a network after which a single map is all that is needed.

    Attributes:
        below: the layers up to the cut; the map is what the last of them gives.
        above: the layers after it, the pooling the last: what is fine-tuned.
    """

    below: tuple[Layer, ...]
    above: tuple[Layer, ...]

    @property
    def layer(self) -> str:
        """The name of the layer after which the network is cut."""
        return self.below[-1].name

    @property
    def is_whole(self) -> bool:
        """Whether nothing lies below: the map at the cut is the image itself."""
        return len(self.below) == 1

    @property
    def shape(self) -> tuple[int, ...]:
        """`(h, w, c)`, of the map at the cut."""
        return self.below[-1].shape

    @property
    def n_bytes(self) -> int:
        """Of an image's activations, in float16."""
        return 2 * math.prod(self.shape)

    @property
    def n_layers(self) -> int:
        """How many layers above multiply by weights."""
        return _n_convolutions(self.above)

    @property
    def n_parameters(self) -> int:
        """How many numbers the weights above have."""
        return sum(layer.n_parameters for layer in self.above)

    @property
    def multiplications(self) -> int:
        """How many an image takes above the cut, of the kernels."""
        return sum(layer.multiplications for layer in self.above)

    @property
    def share_of_work(self) -> float:
        """The part of the network's multiplications that lies above."""
        return self.multiplications / sum(layer.multiplications for layer in (*self.below, *self.above))

    @property
    def share_of_parameters(self) -> float:
        """The part of the network's parameters that lies above."""
        return self.n_parameters / sum(layer.n_parameters for layer in (*self.below, *self.above))


def find_cut(backbone: Backbone, part: Part) -> Cut:
    """Where a backbone is cut to fine-tune its last block, its last stage, or all of it.

    Raises:
        OptionError: the backbone comes from a file, has layers that can't be fine-tuned, or isn't pooled by means.
    """
    if not backbone.is_keras:
        able = ", ".join(card.name for card in cards().values() if card.provider == "keras")
        raise OptionError(
            f"Keras does not build {backbone.name}, and only networks that it builds can be fine-tuned: {able}."
        )
    if backbone.pooling not in ("avg", "stages"):
        raise OptionError(
            f"Fine-tuning goes on from features that are means over the last map; got `pooling={backbone.pooling}`. "
            "Leave it out."
        )
    cut = cut_of(layers_of(replace(backbone, pooling="avg")), part)
    unknown = sorted({layer.kind for layer in cut.above if not is_computed(layer)}) if cut else []
    if cut is None or unknown:
        why = f"above the cut lie layers that can't be trained here ({', '.join(unknown)})" if cut else "no blocks"
        raise OptionError(
            f"{backbone.name} can't be fine-tuned: {why}. The starter, EfficientNet-Lite, MobileNetV2, the ResNets, "
            "the DenseNets and the Inception networks can."
        )
    return cut


def possible_cuts(layers: Sequence[Layer]) -> list[int]:
    """The places in `layers` after which the map of that layer is all that those behind need.

    Layers are sorted by how far they are from the output, so whatever the map is made from stands before it.
    """
    place_of = {layer.name: place for place, layer in enumerate(layers)}
    last_use = [0] * len(layers)
    for place, layer in enumerate(layers):
        for name in layer.inputs:
            last_use[place_of[name]] = place
    found, furthest = [], 0  # how far what comes before this layer is needed
    for place, layer in enumerate(layers[:-1]):
        if furthest <= place and len(layer.shape) == 3 and place > 0:
            found.append(place)
        furthest = max(furthest, last_use[place])
    return found


def cut_of(layers: Sequence[Layer], part: Part) -> Cut | None:
    """The cut below the last block, the last stage, or the first layer; None where the network has no blocks.

    A block ends in a sum, a concatenation or a pool, and the relu behind it. The last stage is what sees maps of the
    last size. Where the first block with these only makes them smaller, it still belongs to the stage before: so in
    ResNetV2, whose blocks halve at their end, and in networks with blocks or pools made for it (Inception, DenseNet).
    """
    if part == "all":
        return _cut(layers, 0)
    # a single convolution behind the last block goes with it
    blocks = [place for place in _block_ends(layers) if _n_convolutions(layers[place + 1 :]) > 1]
    if part == "last-block":
        return _cut(layers, blocks[-1]) if blocks else None
    last_side = next(layer.shape[0] for layer in reversed(layers) if len(layer.shape) == 3)
    before = [place for place in blocks if layers[place].shape[0] > last_side]
    within = [place for place in blocks if layers[place].shape[0] == last_side]
    if not before:
        return None
    if within and _only_halves(layers, before[-1], within[0]):
        return _cut(layers, within[0])
    return _cut(layers, before[-1])


def _only_halves(layers: Sequence[Layer], before: int, first: int) -> bool:
    """Whether the first block end with maps of the last size only makes the maps before it smaller."""
    is_sum = layers[first].kind in _SUMS or (layers[first].kind in _RELUS and layers[first - 1].kind in _SUMS)
    return not is_sum or layers[first].shape[-1] == layers[before].shape[-1]


def _n_convolutions(layers: Sequence[Layer]) -> int:
    return sum(layer.multiplications > 0 for layer in layers)


def _block_ends(layers: Sequence[Layer]) -> list[int]:
    possible = set(possible_cuts(layers))
    ends = []
    for place in sorted(possible):
        layer = layers[place]
        if layer.kind in (*_SUMS, *_POOLS, "Concatenate"):
            has_relu = place + 1 in possible and layers[place + 1].kind in _RELUS
            ends.append(place + 1 if has_relu else place)
    return ends


def _cut(layers: Sequence[Layer], place: int) -> Cut:
    return Cut(tuple(layers[: place + 1]), tuple(layers[place + 1 :]))
