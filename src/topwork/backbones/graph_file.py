"""A backbone from a file with a network: ONNX, or OpenVINO's own format. Which output, which size, which pixels.

What the file and the JSON beside it say is taken; what they don't say is asked for, and not guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork.backbones.cards import Card
from topwork.backbones.graph_building import GraphJob, run_graph_job
from topwork.backbones.onnx_scan import external_files
from topwork.backbones.pixel_config import FILES, PixelConfig, find_config, scaled
from topwork.backbones.preprocessing import Preprocessing
from topwork.backbones.weights import BackboneWeights
from topwork.errors import OptionError, WeightsError
from topwork.files import cache_dir, fingerprint, printable, sha256_of_file
from topwork.kept import kept_folder
from topwork.types import Pooling

SUFFIXES = (".onnx", ".xml")
_SHAPELESS = ("model", "vision_model", "graph", "openvino_model")
"""Names of files that say nothing; their folder's says more."""
_LOGITS = re.compile("logit|prob|softmax|class", re.IGNORECASE)
"""In names of outputs that are answers about other classes, not features."""


@dataclass(frozen=True)
class NetworkFile:
    """What is known of a network in a file.

    Attributes:
        path: the file.
        weights: it and what lies beside it, and their digest.
        facts: `side` of its input in pixels, -1 for any; `patch`, the side of a transformer's patches, else 1;
            `outputs` and tensors `inside`, each with `name` and `shape`, -1 for what is open, B first.
        config: what the JSON beside it says of pixels; None where there is none.
    """

    path: Path
    weights: BackboneWeights
    facts: dict[str, Any]
    config: PixelConfig | None

    @property
    def name(self) -> str:
        """What it is called in tables and folders: by its file, or its folder where all files are called so."""
        stem = self.path.stem
        folders = [part.name for part in self.path.resolve().parents if part.name not in ("", "onnx", "backbone")]
        return plain_name(folders[0] if stem in _SHAPELESS and folders else stem)

    def described(self) -> str:
        """Its outputs with their shapes, for people."""
        return "; ".join(f"{out['name']} {shape_text(out['shape'])}" for out in self.facts["outputs"])


def is_network_file(name: str) -> bool:
    """Whether a backbone's name is that of a file."""
    return name.lower().endswith(SUFFIXES)


def plain_name(name: str) -> str:
    """A name for tables and folders: small letters, digits, `_` and `.`"""
    return re.sub(r"[^a-z0-9_.]+", "_", name.lower()).strip("._") or "network"


def shape_text(shape: list[int] | None) -> str:
    """A shape as people write it: `(B, 257, 384)`."""
    if shape is None:
        return "(of unknown shape)"
    return f"({', '.join(['B', *('?' if n < 0 else str(n) for n in shape[1:])])})"


def read_network_file(path: Path, *, size: int = 0, origin: str = "") -> NetworkFile:
    """Look into a file, in a child process the first time.

    Args:
        path: the file.
        size: the side of its input, in pixels; 0 takes what the JSON beside it says, or the file's own.
        origin: where it comes from, where that isn't `path`.

    Raises:
        WeightsError: it is missing or damaged, or holds no network that can be a backbone.
    """
    shown = printable(str(path))
    if not path.is_file():
        raise WeightsError(f"There is no file {shown!r}. Expected a network as ONNX (.onnx), or OpenVINO's (.xml).")
    beside = (path.with_suffix(".bin"),) if path.suffix == ".xml" else external_files(path)
    if missing := [file for file in beside if not file.is_file()]:
        raise WeightsError(f"{shown!r} needs {printable(missing[0].name)!r} beside it, which is not there.")
    config = find_config(path.parent)
    size = size or (config.size if config and config.size else 0)
    digests = [sha256_of_file(file) for file in (path, *beside)]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    kept = kept_folder(
        cache_dir() / "graphs" / f"file-{size}-facts-{fingerprint({'file': digest})}",
        lambda folder: run_graph_job(GraphJob(str(path), size, str(folder))),
    )
    facts = json.loads((kept / "facts.json").read_text("utf-8"))
    return NetworkFile(path, BackboneWeights(origin or shown, path, digest, beside), facts, config)


def card_of(file: NetworkFile, name: str, preprocessing: Preprocessing, output: dict[str, Any], size: int) -> Card:
    """The facts about a network from a file, as a card."""
    shape = output["shape"] or []
    place = {2: 1, 3: 2, 4: 3 if file.facts["channels_last"] else 1}.get(len(shape))
    n_bytes = sum(part.stat().st_size for part in (file.path, *file.weights.beside))
    return Card(
        name=name,
        provider="graph",
        builder="",
        input_size=size,
        smallest_size=1,
        preprocessing=preprocessing,
        channels_first=False,
        n_features=max(0, shape[place]) if place else 0,
        parameters=n_bytes // 4,
        top1=None,
        top5=None,
        weights_url="",
        package="",
        weights_file=file.path.name,
        weights_hash="",
        paper="",
        licence=file.config.licence if file.config and file.config.licence else "not known",
    )


def choose_size(file: NetworkFile, size: int | None) -> int:
    """The side of its input: as asked for, as the JSON beside it says, or the file's own.

    Raises:
        OptionError: none of them says one, or a transformer can't cut it into whole patches.
    """
    own = file.config.size if file.config and file.config.size else max(0, file.facts["side"])
    chosen, patch, shown = size or own, file.facts["patch"], printable(file.path.name)
    if not chosen:
        raise OptionError(
            f"{shown!r} takes images of any size. Give the one that it was trained on, such as `size=224`."
        )
    if chosen % patch or chosen < patch:
        below = max(patch, chosen // patch * patch)
        raise OptionError(
            f"{shown!r} cuts its image into patches of {patch} pixels, and {chosen} are no whole number of them: what "
            f"is left over would not be seen. Use `size={below}` or `size={below + patch}`."
        )
    return chosen


def choose_output(file: NetworkFile, output: str | None, pooling: Pooling | None) -> tuple[dict[str, Any], Pooling]:
    """Which output becomes features, with its `name` and `shape`, and how.

    Raises:
        OptionError: it can't be known, or doesn't go together.
    """
    shown, every = printable(file.path.name), file.facts["outputs"]
    if output is None:
        found = _only_output(every)
        if found is None:
            raise OptionError(
                f"{shown!r} doesn't say which of its outputs are features of the image: {file.described()}. Name one "
                f"by `output={_likely(file)}`, or another tensor inside. Of one with tokens, (B, T, D), "
                "`pooling=token` takes the class token, and `pooling=patches` the mean of the patches."
            )
    else:
        known = [*every, *file.facts["inside"]]
        found = next((each for each in known if each["name"] == output), {"name": output, "shape": None})
    shape = list(found["shape"] or [])
    if len(shape) == 3 and pooling not in ("token", "patches", "flatten"):
        raise OptionError(
            f"{found['name']!r} of {shown!r} has tokens, {shape_text(shape)}: give `pooling=token` for the class "
            "token, or `pooling=patches` for the mean of the patches."
        )
    if len(shape) in (2, 4) and pooling in ("token", "patches"):
        raise OptionError(f"{found['name']!r} of {shown!r} is {shape_text(shape)}, and has no tokens.")
    return found, pooling or "avg"


def _likely(file: NetworkFile) -> str:
    """The name of an output that may be features; of a network that gives answers alone, of a tensor inside."""
    outputs, inside = file.facts["outputs"], file.facts["inside"]
    features = [out["name"] for out in outputs if not (out["is_softmax"] or _LOGITS.search(out["name"]))]
    widest = max((each["shape"][-1] for each in outputs if each["shape"]), default=0)
    before = [each["name"] for each in inside if len(each["shape"] or []) == 2 and each["shape"][1] > widest]
    return str([*features, *reversed(before), outputs[0]["name"]][0])


def _only_output(every: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The output that can be nothing but features: the one `(B, D)` beside maps, or the one map; None else."""
    if any(out["shape"] is None or len(out["shape"]) not in (2, 4) for out in every):
        return None
    vectors = [out for out in every if len(out["shape"]) == 2]
    if len(vectors) == 1:
        is_answer = vectors[0]["is_softmax"] or _LOGITS.search(vectors[0]["name"]) or vectors[0]["shape"][1] == 1000
        return None if is_answer else vectors[0]
    return every[0] if len(every) == 1 else None


def choose_pixels(file: NetworkFile, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Preprocessing:
    """How it needs its pixels: as given, or as the JSON beside it says.

    Raises:
        OptionError: neither says it.
    """
    if mean is not None or std is not None:
        if mean is None or std is None:
            raise OptionError("mean and std go together: (pixel / 255 - mean) / std.")
        try:
            return scaled(mean, std)
        except ValueError as error:
            raise OptionError(f"Expected mean and std as one or three numbers: {error}.") from error
    if file.config is None:
        raise OptionError(
            f"Nothing beside {printable(file.path.name)!r} says how it needs its pixels: there is no {FILES[0]}, nor "
            f"timm's {FILES[1]}. Give (pixel / 255 - mean) / std, such as `mean=0.485,0.456,0.406` and "
            "`std=0.229,0.224,0.225` (of ImageNet), or `mean=0.5` and `std=0.5`."
        )
    return file.config.preprocessing


def inspection(path: Path) -> dict[str, str]:
    """What a file takes and gives, what would be used of it, and why, for people.

    Raises:
        WeightsError: see `read_network_file`.
    """
    file = read_network_file(path)
    config, facts = file.config, file.facts
    side = "any size" if facts["side"] < 0 else f"{facts['side']}×{facts['side']} pixels"
    said = f"; {config.size}×{config.size} by {config.source}" if config and config.size else ""
    told = {
        "Network": f"{file.name}, {sum(part.stat().st_size for part in (path, *file.weights.beside)) / 1e6:.1f} MB",
        "Input": f"{facts['input']}, {'channels last' if facts['channels_last'] else 'channels first'}, {side}{said}",
        "Outputs": file.described(),
        "Inside": "; ".join(f"{each['name']} {shape_text(each['shape'])}" for each in facts["inside"]),
    }
    if facts["patch"] > 1:
        told["Input"] += f", in patches of {facts['patch']}"
    try:
        chosen, how = choose_output(file, None, None)
        told["Features"] = f"{chosen['name']}, {how} pooling: there is no other that can be features"
    except OptionError as error:
        told["Features"] = str(error)
    try:
        pixels = choose_pixels(file, None, None)
        scale, offset = (", ".join(f"{n:.5g}" for n in numbers) for numbers in (pixels.scale, pixels.offset))
        told["Pixels"] = f"0..255 times {scale}, plus {offset}"
    except OptionError as error:
        told["Pixels"] = str(error)
    if config:
        part = f", {100 * config.crop:.1f} % of the side" if config.crop < 1 else ""
        told["Pixels"] += f", by {config.source}"
        told["Frame"] = f"{config.frame}{part}, {config.filter}"
    return told
