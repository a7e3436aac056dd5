"""A classifier from the folder that it was saved in; strangers' folders come through here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from topwork.backbones.backbone import backbone_of_file, load_backbone
from topwork.backbones.cards import cards
from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.manifest import BACKBONE, MANIFEST, NETWORK, NOVELTY, TOP, read_manifest
from topwork.errors import SavedFileError, TopworkError, UnknownNameError
from topwork.files import (
    atomic_folder,
    cache_dir,
    fingerprint,
    printable,
    read_json,
    read_tensors,
    sha256_of_file,
    write_json,
)
from topwork.objects import Prefix, is_address
from topwork.recipe import Recipe
from topwork.tops.dense_stack import DenseStack
from topwork.tops.novelty import Novelty
from topwork.types import Device

_MARKS = "marks.json"
"""In a copy: what the object store said of the content of each file."""


def load_classifier(path: str | Path, *, device: Device = "auto") -> ImageClassifier:
    """The classifier in a folder that `save` wrote, or in a run folder.

    Nothing in the folder can run code. The first use on a machine builds the backbone's graph, a few seconds.

    Args:
        path: the folder; or where it is in an object store, such as `s3://bucket/runs/photos-1`, from where its
            classifier is copied into the cache folder.
        device: where the backbone runs: 'cpu', 'gpu' or 'auto'.

    Raises:
        SavedFileError: it isn't a classifier, is damaged, or was written by a newer Topwork.
        ObjectStoreError: the object store can't be reached.
    """
    folder = find_classifier(path)
    shown = repr(printable(str(folder)))
    manifest = read_manifest(folder)
    facts = manifest.backbone
    try:
        if "file" not in facts and facts["name"] not in cards():
            raise UnknownNameError(f"there is no backbone {facts['name']!r}")
        for name, digest in manifest.checksums.items():
            if sha256_of_file(folder / name) != digest:
                raise SavedFileError(f"{shown}: {name} is not the file that was saved (wrong checksum). Copy it again.")
        framing = {key: facts[key] for key in ("frame", "crop", "filter") if key in facts}
        value_range = tuple(facts["value_range"]) if facts.get("value_range") else None
        recipe = Recipe(facts["size"], value_range, **framing)
        if "file" in facts:
            backbone = backbone_of_file(folder / NETWORK / facts["file"], facts, recipe)
        else:
            backbone = load_backbone(
                facts["name"],
                weights=folder / BACKBONE,
                size=facts["size"],
                pooling=facts["pooling"],
                precision=facts["precision"],
            )
            backbone = replace(backbone, recipe=recipe)
        if backbone.card.preprocessing.facts() != facts["preprocessing"]:
            raise SavedFileError(f"{shown} needs its pixels scaled in another way than this Topwork does.")
        top = DenseStack.from_tensors(read_tensors(folder / TOP))
        novelty = None
        if NOVELTY in manifest.checksums:
            novelty = Novelty.from_tensors(read_tensors(folder / NOVELTY))
    except SavedFileError:
        raise
    except (OSError, TopworkError) as error:
        raise SavedFileError(f"{shown} is damaged: {error}. Copy it again, or train anew.") from error
    if novelty is not None and not novelty.fits(top.n_features):
        raise SavedFileError(f"{shown} is damaged: {NOVELTY} is not of {top.n_features} features.")
    names = manifest.class_names
    if top.n_classes != len(names):
        raise SavedFileError(f"{shown} is damaged: {len(names)} class names for {top.n_classes} classes.")
    return ImageClassifier(backbone, top, names, novelty, record=manifest.training, device=device)


def _fetched(address: str) -> Path:
    """A copy of the classifier at an address, in the cache folder; what is there already is not fetched again."""
    prefix = Prefix(address.rstrip("/") + "/")
    there = {found.key: found for found in prefix.objects()}
    below = next((below for below in ("", "classifier/") if below + MANIFEST in there), None)
    if below is None:
        raise SavedFileError(
            f"{printable(address)!r} isn't a run folder: there is no classifier/{MANIFEST} below it. Copy the whole "
            "folder that `topwork train` wrote there."
        )
    wanted = {key.removeprefix(below): found for key, found in there.items() if key.startswith(below)}
    marks = {name: found.mark for name, found in wanted.items()}
    folder = cache_dir() / "classifiers" / fingerprint({"address": prefix.address})
    if read_json(folder / _MARKS) != marks:
        with atomic_folder(folder, replace=True) as made:
            for name, found in wanted.items():
                path = made / name
                if not path.resolve().is_relative_to(made.resolve()):
                    raise SavedFileError(
                        f"{printable(address)!r} has an object {name!r}, which leads out of its folder."
                    )
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(prefix.get(found.key))
            write_json(made / _MARKS, marks)
    return folder


def find_classifier(path: str | Path) -> Path:
    """The folder with the manifest: `path` itself, or `classifier/` in a run folder; of an address, a copy.

    Raises:
        SavedFileError: neither.
    """
    path = _fetched(str(path)) if is_address(str(path)) else Path(path)
    for folder in (path, path / "classifier"):
        if (folder / MANIFEST).is_file():
            return folder
    shown = printable(str(path))
    if not path.exists():
        raise SavedFileError(f"There is no {shown!r}. Expected a run folder, such as the one `topwork train` names.")
    raise SavedFileError(f"{shown!r} isn't a run folder: it has no classifier/{MANIFEST}. `topwork train` makes one.")
