"""A backbone ready for use: which network, which weights, which input size and pooling."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from topwork.backbones.cards import Card, find_card
from topwork.backbones.conversion import Job, convert
from topwork.backbones.network import NETWORK_VERSION, NetworkSpec
from topwork.backbones.weights import BackboneWeights, resolve_weights
from topwork.errors import OptionError
from topwork.files import cache_dir, fingerprint, folder_bytes
from topwork.kept import kept_folder
from topwork.progress import Reporter
from topwork.recipe import Recipe
from topwork.types import Frame, Pooling, Precision, ValueRange


@dataclass(frozen=True)
class Backbone:
    """A frozen pretrained network without its classification layers: image in, D features out.

    Attributes:
        card: facts about the network.
        weights: its weights.
        recipe: how a picture becomes its pixels.
        pooling: 'avg' or 'max' over the last feature map, or 'flatten' for all of it.
        precision: of its arithmetic.
    """

    card: Card
    weights: BackboneWeights
    recipe: Recipe
    pooling: Pooling = "avg"
    precision: Precision = "f32"

    @property
    def size(self) -> int:
        """The side of the square it sees, in pixels."""
        return self.recipe.size

    @property
    def name(self) -> str:
        """The network's name."""
        return self.card.name

    @property
    def spec(self) -> NetworkSpec:
        """What building it takes."""
        return NetworkSpec(self.card.builder, self.card.preprocessing.name, self.size, self.pooling)

    def facts(self) -> dict[str, Any]:
        """All that its features depend on, but for the image."""
        return {
            "backbone": self.card.name,
            "network": NETWORK_VERSION,
            "weights": self.weights.digest,
            "preprocessing": self.card.preprocessing.facts(),
            "size": self.size,
            "pooling": self.pooling,
            "precision": self.precision,
            **self.recipe.facts(),
        }

    def graph(self) -> Path:
        """The OpenVINO graph, made when it is first asked for and kept: a file ending in `.xml`.

        Raises:
            WeightsError: the weights do not fit the network.
        """
        return kept_folder(self.graph_folder, self._make_graph) / "graph.xml"

    @property
    def graph_folder(self) -> Path:
        """Where the graph is kept, and what is compiled from it."""
        facts = {key: value for key, value in self.facts().items() if key not in ("precision", *self.recipe.facts())}
        return cache_dir() / "graphs" / f"{self.card.name}-{self.size}-{self.pooling}-{fingerprint(facts)}"

    def _make_graph(self, folder: Path) -> None:
        spec = replace(self.spec, channels_first=self.card.channels_first)
        convert(Job(spec, str(self.weights.tensors), graph_out=str(folder / "graph.xml")))


def as_backbone(backbone: str | Backbone, *, reporter: Reporter | None = None) -> Backbone:
    """A backbone as it is; by a name, that network with its own pretrained weights and input size.

    Raises:
        OptionError: it is neither.
        TopworkError: see `load_backbone`.
    """
    if isinstance(backbone, str):
        return load_backbone(backbone, reporter=reporter)
    if not isinstance(backbone, Backbone):
        raise OptionError(f"Expected a backbone, by name or as from load_backbone; got {type(backbone).__name__}.")
    return backbone


def prune_graphs(*, backbone: str | None = None, older_than_days: float = 0.0) -> int:
    """Delete kept graphs, of one network or of all, that were made so long ago; returns how many bytes."""
    n_bytes = 0
    for folder in (cache_dir() / "graphs").glob(f"{backbone or '*'}-*-*-*"):
        if time.time() - folder.stat().st_mtime >= 86_400 * older_than_days:
            n_bytes += folder_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return n_bytes


def load_backbone(
    name: str,
    *,
    weights: str | Path | None = None,
    size: int | None = None,
    pooling: Pooling = "avg",
    precision: Precision = "f32",
    frame: Frame = "crop",
    value_range: ValueRange | None = None,
    seed: int = 0,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Backbone:
    """A backbone by name; its weights are found or fetched, and nothing is computed yet.

    Args:
        name: such as 'densenet121'; `topwork backbones` lists them.
        weights: 'imagenet', 'random', or a file in Keras's format or as safetensors. None means the network's own
            pretrained weights.
        size: the side of the square it sees, in pixels; None means the size it was trained on. Smaller is faster;
            a frozen network sees best near its own size.
        pooling: 'avg' (D numbers an image), 'max' (D), or 'flatten' (D times the last map's height and width:
            50,000 and more at 224 pixels).
        precision: 'f32', or 'bf16' where the processor has it: faster, and with some networks less exact.
        frame: what it sees of a picture that is no square: 'crop' for the centre square; 'pad' for all of it, with grey
            beside; 'squash' for all of it, its sides made equal.
        value_range: of grey pictures with 16 or 32 bits, the values that become black and white, such as (0, 4095) for
            a 12-bit detector. None: what the images for training use, where a classifier is trained; else 0 to 65,535.
        seed: of random weights.
        offline: never use the network.
        reporter: hears of downloads and warnings.

    Raises:
        UnknownNameError: no such network.
        OptionError: a size below the network's smallest, an unknown pooling, precision or frame, or no range.
        WeightsError: the weights are missing, cut short, or of another network.
        DownloadError: they could not be fetched.
    """
    card = find_card(name)
    for what, value, allowed in (("pooling", pooling, Pooling), ("precision", precision, Precision)):
        if value not in get_args(allowed):
            raise OptionError(f"Expected {what} to be one of {', '.join(get_args(allowed))}; got {value!r}.")
    checked_size = card.checked_size(size)
    recipe = Recipe(checked_size, value_range, frame)
    found = resolve_weights(card, weights, seed=seed, offline=offline, reporter=reporter or Reporter())
    return Backbone(card, found, recipe, pooling, precision)
