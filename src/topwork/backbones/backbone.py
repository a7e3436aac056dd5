"""A backbone ready for use: which network, which weights, which input size and pooling."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from topwork.backbones import graph_file
from topwork.backbones.cards import Card, cards, find_card
from topwork.backbones.conversion import Job, convert
from topwork.backbones.graph_building import GraphJob, run_graph_job
from topwork.backbones.hub import PREFIX, fetch_network
from topwork.backbones.network import NETWORK_VERSION, NetworkSpec
from topwork.backbones.preprocessing import Preprocessing
from topwork.backbones.weights import PRETRAINED, BackboneWeights, fetch_pretrained, resolve_weights
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
        pooling: 'avg' or 'max' over the last feature map, or 'flatten' for all of it; of an output with tokens, 'token'
            for the class token or 'patches' for the mean of the patches.
        precision: of its arithmetic.
        output: of a network from a file, the output or tensor inside that becomes features; of one of Keras's, the
            layer whose maps do, where that isn't the last; else empty.
        half: whether its features are kept in half precision (float16); they are computed as `precision` says.
    """

    card: Card
    weights: BackboneWeights
    recipe: Recipe
    pooling: Pooling = "avg"
    precision: Precision = "f32"
    output: str = ""
    half: bool = False

    @property
    def size(self) -> int:
        """The side of the square it sees, in pixels."""
        return self.recipe.size

    @property
    def name(self) -> str:
        """The network's name."""
        return self.card.name

    @property
    def typed(self) -> str:
        """What `load_backbone` takes for it: the network's name, or the file's path."""
        return self.weights.origin if self.is_from_file and not self.card.weights_url else self.name

    @property
    def is_keras(self) -> bool:
        """Whether Keras can build it: on an accelerator, and for exports in formats that are Keras's."""
        return self.card.provider == "keras"

    @property
    def is_from_file(self) -> bool:
        """Whether its weights are a file with the network itself, which a saved classifier keeps whole."""
        return self.card.provider == "graph"

    @property
    def spec(self) -> NetworkSpec:
        """What building it with Keras takes."""
        return NetworkSpec(self.card.builder, self.card.preprocessing.name, self.size, self.pooling, output=self.output)

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
            **({"output": self.output} if self.output else {}),
            **({"dtype": "<f2"} if self.half else {}),
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
        others = ("precision", "dtype", *self.recipe.facts())
        facts = {key: value for key, value in self.facts().items() if key not in others}
        return cache_dir() / "graphs" / f"{self.card.name}-{self.size}-{self.pooling}-{fingerprint(facts)}"

    def _make_graph(self, folder: Path) -> None:
        _PROVIDERS[self.card.provider](self, folder)


def _build(backbone: Backbone, folder: Path) -> None:
    spec = replace(backbone.spec, channels_first=backbone.card.channels_first)
    convert(Job(spec, str(backbone.weights.tensors), graph_out=str(folder / "graph.xml")))


def _read(backbone: Backbone, folder: Path) -> None:
    pixels = backbone.card.preprocessing
    path, pooling = str(backbone.weights.tensors), backbone.pooling
    numbers = pixels.scale, pixels.offset, pixels.reverse_channels
    run_graph_job(GraphJob(path, backbone.size, str(folder), backbone.output, pooling, *numbers))


_PROVIDERS: dict[str, Callable[[Backbone, Path], None]] = {"keras": _build, "graph": _read}
"""What puts a backbone's `graph.xml`, `(B, size, size, 3)` uint8 -> `(B, D)` float32, into a folder."""


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
    pooling: Pooling | None = None,
    precision: Precision = "f32",
    output: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    bgr: bool = False,
    frame: Frame | None = None,
    value_range: ValueRange | None = None,
    half: bool = False,
    seed: int = 0,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Backbone:
    """A backbone by name; its weights are found or fetched, and nothing is computed yet.

    Args:
        name: such as 'densenet121'; `topwork backbones` lists them. Or a file with a network, as ONNX (.onnx) or in
            OpenVINO's format (.xml, its .bin beside it). Or a repository of a hub, hf:OWNER/NAME, with @COMMIT or
            /FILE.onnx where wanted.
        weights: 'imagenet', 'random', or a file in Keras's format or as safetensors. None means the network's own
            pretrained weights.
        size: the side of the square it sees, in pixels; None means the size it was trained on. Smaller is faster;
            a frozen network sees best near its own size.
        pooling: 'avg' (D numbers an image), 'max' (D), or 'flatten' (D times the last map's height and width:
            50,000 and more at 224 pixels), or 'stages' (the means of the last map and of that at the end of every
            earlier stage, one after another); None means 'avg'. Of an output with tokens, `(B, T, D)`, 'token' for the
            class token, or 'patches' for the mean of the patches.
        precision: 'f32', or 'bf16' where the processor has it: faster, and with some networks less exact.
        output: of a network from a file, the name of the output that is features of the image, `(B, D)`, `(B, T, D)` or
            a map, or of a tensor inside; None where there is but one that can be.
        mean: of a network from a file: it wants `(pixel / 255 - mean) / std`, three numbers or one. None takes what
            `preprocessor_config.json` or timm's `config.json` beside the file says.
        std: see mean.
        bgr: whether a network from a file wants blue, green, red, as Caffe's do; mean and std are in that order then.
        frame: what it sees of a picture that is no square: 'crop' for the centre square; 'pad' for all of it, with grey
            beside; 'squash' for all of it, its sides made equal. None means 'crop', or what is said beside a file.
        value_range: of pictures with 16 or 32 bits a channel, the values that become black and white, such as (0, 4095)
            for a 12-bit detector. None: what the images for training use, where a classifier is trained; else 0 to
            65,535.
        half: keep features in half precision, which takes half the disk.
        seed: of random weights.
        offline: never use the network.
        reporter: hears of downloads and warnings.

    Raises:
        UnknownNameError: no such network.
        OptionError: a size below the network's smallest, an unknown pooling, precision or frame, or no range.
        WeightsError: the weights are missing, cut short, or of another network.
        DownloadError: they could not be fetched.
    """
    for what, value, allowed in (("pooling", pooling or "avg", Pooling), ("precision", precision, Precision)):
        if value not in get_args(allowed):
            raise OptionError(f"Expected {what} to be one of {', '.join(get_args(allowed))}; got {value!r}.")
    if name.startswith(PREFIX) or graph_file.is_network_file(name):
        if pooling == "stages":
            raise OptionError("The stages of a network from a file are not known: pooling can't be 'stages'.")
        if weights is not None:
            raise OptionError(f"{name!r} holds its own weights: leave weights out.")
    if name.startswith(PREFIX):
        fetched = fetch_network(name, offline=offline, reporter=reporter or Reporter())
        file = graph_file.read_network_file(fetched.path, size=size or 0, origin=fetched.reference)
        backbone = _from_file(file, fetched.name, size, pooling, precision, output, mean, std, bgr, frame, value_range)
        return replace(backbone, card=replace(backbone.card, licence=fetched.licence), half=half)
    if graph_file.is_network_file(name):
        file = graph_file.read_network_file(Path(name), size=size or 0)
        backbone = _from_file(file, file.name, size, pooling, precision, output, mean, std, bgr, frame, value_range)
        return replace(backbone, half=half)
    card = find_card(name)
    if output is not None or mean is not None or std is not None or bgr:
        raise OptionError(f"output, mean, std and bgr are of networks from files; what {card.name} needs is known.")
    checked_size = card.checked_size(size)
    if card.provider == "graph":
        if pooling == "stages":
            raise OptionError(f"{card.name} has no stages with maps: pooling can't be 'stages'.")
        if weights not in (None, PRETRAINED):
            raise OptionError(f"{card.name} has its own weights: leave weights out.")
        path = fetch_pretrained(card, offline=offline, reporter=reporter or Reporter())
        file = graph_file.read_network_file(path, size=checked_size, origin=card.weights_url)
        graph_file.choose_size(file, checked_size)
        framed = Recipe(checked_size, value_range, frame or card.frame, card.crop, card.filter)
        _, how = graph_file.choose_output(file, card.output, pooling or card.pooling)
        return Backbone(card, file.weights, framed, how, precision, card.output, half)
    if pooling in ("token", "patches"):
        raise OptionError(f"{card.name} has no tokens: pooling is avg, max or flatten.")
    recipe = Recipe(checked_size, value_range, frame or "crop")
    found = resolve_weights(card, weights, seed=seed, offline=offline, reporter=reporter or Reporter())
    return Backbone(card, found, recipe, pooling or "avg", precision, half=half)


def _from_file(
    file: graph_file.NetworkFile,
    name: str,
    size: int | None,
    pooling: Pooling | None,
    precision: Precision,
    output: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    bgr: bool,
    frame: Frame | None,
    value_range: ValueRange | None,
) -> Backbone:
    chosen, how = graph_file.choose_output(file, output, pooling)
    preprocessing, config = replace(graph_file.choose_pixels(file, mean, std), reverse_channels=bgr), file.config
    side = graph_file.choose_size(file, size)
    card = graph_file.card_of(file, graph_file.plain_name(name), preprocessing, chosen, side)
    frame, said = frame or (config.frame if config else "crop"), config.frame if config else None
    crop = config.crop if config and frame == said else 1.0
    recipe = Recipe(side, value_range, frame, crop, config.filter if config else "bicubic")
    return Backbone(card, file.weights, recipe, how, precision, chosen["name"])


def backbone_of_file(path: Path, facts: dict[str, Any], recipe: Recipe) -> Backbone:
    """A backbone from a file, by what a saved classifier's manifest says of it.

    Raises:
        WeightsError: the file is missing or damaged, or holds no network that can be a backbone.
        OptionError: what is said doesn't go together.
    """
    file = graph_file.read_network_file(path, size=recipe.size)
    chosen, how = graph_file.choose_output(file, facts["output"], facts["pooling"])
    *numbers, is_reversed = facts["preprocessing"]
    pixels = Preprocessing("file", tuple(numbers[:3]), tuple(numbers[3:]), is_reversed)
    side = graph_file.choose_size(file, recipe.size)
    card = cards().get(facts["name"])
    if card is None or card.weights_hash != file.weights.digest or card.preprocessing.facts() != pixels.facts():
        card = graph_file.card_of(file, facts["name"], pixels, chosen, side)
        card = replace(card, licence=facts.get("licence") or card.licence)
    return Backbone(card, file.weights, recipe, how, facts["precision"], facts["output"])
