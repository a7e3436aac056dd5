"""What a network of Keras's is made of: its layers, in the order in which they are computed, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from topwork.backbones.backbone import Backbone
from topwork.backbones.conversion import Job, convert
from topwork.backbones.network import NETWORK_VERSION
from topwork.files import cache_dir, fingerprint, read_json
from topwork.kept import kept_folder


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        name: unique in the network.
        kind: its class in Keras, such as 'Conv2D'.
        inputs: the names of the layers whose outputs it takes.
        shape: of its output, without the batch: `(h, w, c)` or `(c,)`.
        weights: the place of each weight among all of the network's, by what it is: `{'kernel': '0004'}`. The name of
            its tensor begins with it.
        weight_shapes: the shape of each, by the same.
        facts: what of its configuration says what it computes.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    weights: dict[str, str]
    weight_shapes: dict[str, tuple[int, ...]]
    facts: dict[str, Any]

    @property
    def n_parameters(self) -> int:
        """How many numbers its weights have."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())

    @property
    def multiplications(self) -> int:
        """How many an image takes, of its kernels: nearly all there are."""
        places = math.prod(self.shape[:-1])
        return places * sum(math.prod(shape) for shape in self.weight_shapes.values() if len(shape) >= 2)


def layers_of(backbone: Backbone) -> tuple[Layer, ...]:
    """The layers of a backbone that Keras builds, its pooling the last; found once and kept.

    Raises:
        WeightsError: Keras can't build it.
    """
    spec = replace(backbone.spec, output="")
    facts = {"network": NETWORK_VERSION, "builder": spec.builder, "size": spec.size, "pooling": spec.pooling}

    def make(folder: Path) -> None:
        convert(Job(spec, "", layers_out=str(folder / "layers.json")))

    # called as graphs are, so that `prune_graphs` finds it
    path = cache_dir() / "graphs" / f"{backbone.name}-{spec.size}-layers-{fingerprint(facts)}"
    known = read_json(kept_folder(path, make) / "layers.json") or {}
    return tuple(_layer(facts) for facts in known["layers"])


def _layer(facts: dict[str, Any]) -> Layer:
    return Layer(
        name=facts["name"],
        kind=facts["kind"],
        inputs=tuple(facts["inputs"]),
        shape=tuple(facts["shape"]),
        weights=facts["weights"],
        weight_shapes={name: tuple(shape) for name, shape in facts["weight_shapes"].items()},
        facts=facts["facts"],
    )
