"""The table of networks: one card of facts each, kept in `cards.csv` beside this file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from topwork.backbones.preprocessing import PREPROCESSING, Preprocessing
from topwork.errors import OptionError, UnknownNameError, did_you_mean
from topwork.types import Filter, Frame, Pooling

STARTER = "starter"
AUTO = "auto"
"""In the place of a name: what suits the images (`features/choice.py`)."""
COURSE = (
    *("inception_v3", "resnet50", "resnet101", "resnet152", "resnet50v2", "resnet101v2", "resnet152v2"),
    *("inception_resnet_v2", "densenet121", "densenet169", "densenet201"),
)
"""The eleven networks of the course that Topwork grew from."""


LARGEST_SIZE = 2048
"""In pixels: beyond it one image alone takes gigabytes."""


@dataclass(frozen=True)
class Card:
    """Facts about one backbone.

    Attributes:
        name: what the user types, such as 'resnet50v2'.
        provider: what makes its graph: 'keras' builds it, 'graph' reads it from a file; `_PROVIDERS` in `backbone.py`
            has all.
        builder: of 'keras', its name in `keras.applications`, or among the networks that Topwork describes itself.
        input_size: the side of the square image it was trained on, in pixels.
        smallest_size: the smallest side it accepts.
        preprocessing: how it wants its pixels.
        channels_first: whether Keras can lay its maps out channels first, which OpenVINO runs up to twice as fast.
        n_features: D, the width of its pooled features.
        parameters: the number of its weights, without the classification layers.
        top1: ImageNet top-1 accuracy of the whole network in percent, as Keras publishes it; None if it doesn't.
        top5: the same for top-5.
        weights_url: where its pretrained weights are fetched from; empty where they come with Topwork or a package.
        package: the Python package that its pretrained weights come in; empty where they come otherwise.
        weights_file: the file's name; its path inside the package.
        weights_hash: its checksum: MD5 or SHA-256, or empty where Keras publishes none.
        paper: arXiv id.
        licence: of the weights.
        output: of 'graph', the output that is features; else empty.
        pooling: of 'graph', how that becomes D numbers where nothing else is asked for; else 'avg'.
        frame, crop, filter: of 'graph', those of its recipe; else 'crop', 1 and 'bicubic'.
    """

    name: str
    provider: str
    builder: str
    input_size: int
    smallest_size: int
    preprocessing: Preprocessing
    channels_first: bool
    n_features: int
    parameters: int
    top1: float | None
    top5: float | None
    weights_url: str
    package: str
    weights_file: str
    weights_hash: str
    paper: str
    licence: str
    output: str = ""
    pooling: Pooling = "avg"
    frame: Frame = "crop"
    crop: float = 1.0
    filter: Filter = "bicubic"

    @property
    def megabytes(self) -> float:
        """The size of the weights in float32, in MB (1e6 bytes)."""
        return self.parameters * 4 / 1e6

    @property
    def ships(self) -> bool:
        """Whether its weights come with Topwork, so that it needs no download."""
        return not self.weights_url and not self.package

    def checked_size(self, size: int | None) -> int:
        """`size`, or the network's own where it is None.

        Raises:
            OptionError: smaller than the network can take, or larger than any use.
        """
        if size is None:
            return self.input_size
        if size > LARGEST_SIZE:
            raise OptionError(f"Expected size to be {LARGEST_SIZE} at most; got {size}. It is the side in pixels.")
        if size < self.smallest_size:
            raise OptionError(
                f"{self.name} can't take {size}-pixel images: below {self.smallest_size} pixels nothing is left after "
                f"its strides. Use `size={self.smallest_size}` or more; it was trained at {self.input_size}."
            )
        if self.provider == "graph" and size % self.smallest_size:
            below = size // self.smallest_size * self.smallest_size
            raise OptionError(
                f"{self.name} cuts its image into patches of {self.smallest_size} pixels, and {size} are no whole "
                f"number of them. Use `size={below}` or `size={below + self.smallest_size}`."
            )
        return size


@cache
def cards() -> dict[str, Card]:
    """All cards by name, in the table's order."""
    text = resources.files(__package__).joinpath("cards.csv").read_text("utf-8")
    return {row["name"]: _card(row) for row in csv.DictReader(text.splitlines())}


def find_card(name: str) -> Card:
    """The card of a network, however its name is spelt: 'DenseNet121', 'resnet50_v2', 'InceptionV3'.

    Raises:
        UnknownNameError: no such network.
    """
    by_plain_name = {_plain(card): card for card in cards()}
    if name == AUTO:
        raise UnknownNameError(
            "'auto' is chosen by images, and there are none here. Name a backbone, such as 'starter'."
        )
    found = by_plain_name.get(_plain(name))
    if found is None:
        raise UnknownNameError(
            f"Unknown backbone {name!r}.{did_you_mean(name.lower(), cards())} `topwork backbones` lists them all."
        )
    return cards()[found]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _card(row: dict[str, str]) -> Card:
    return Card(
        name=row["name"],
        provider=row["provider"],
        builder=row["builder"],
        input_size=int(row["input_size"]),
        smallest_size=int(row["smallest_size"]),
        preprocessing=PREPROCESSING[row["preprocessing"]],
        channels_first=row["channels_first"] == "yes",
        n_features=int(row["n_features"]),
        parameters=int(row["parameters"]),
        top1=float(row["top1"]) if row["top1"] else None,
        top5=float(row["top5"]) if row["top5"] else None,
        weights_url=row["weights_url"],
        package=row["package"],
        weights_file=row["weights_file"],
        weights_hash=row["weights_hash"],
        paper=row["paper"],
        licence=row["licence"],
        output=row["output"],
        pooling=row["pooling"],  # type: ignore[arg-type]
        frame=row["frame"],  # type: ignore[arg-type]
        crop=float(row["crop"]),
        filter=row["filter"],  # type: ignore[arg-type]
    )
