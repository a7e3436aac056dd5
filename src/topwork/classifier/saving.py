"""A classifier as a folder: JSON and safetensors, which can't run code, rebuilt from the table of networks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from topwork.backbones.backbone import Backbone, backbone_of_file, load_backbone
from topwork.backbones.cards import cards
from topwork.backbones.engines import Device
from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.manifest import (
    BACKBONE,
    FORMAT,
    FORMAT_OF_PLAIN,
    FORMAT_OF_RANGE,
    FORMAT_VERSION,
    MANIFEST,
    NETWORK,
    NOVELTY,
    TOP,
    read_manifest,
)
from topwork.errors import SavedFileError, TopworkError, UnknownNameError
from topwork.files import (
    atomic_folder,
    holds_something_else,
    printable,
    read_tensors,
    sha256_of_file,
    write_json,
    write_tensors,
)
from topwork.recipe import Recipe
from topwork.tops.dense_stack import DenseStack
from topwork.tops.novelty import Novelty
from topwork.version import VERSION


def save_classifier(classifier: ImageClassifier, path: Path) -> None:
    """Write `classifier` as the folder `path`; it appears whole or not at all.

    Raises:
        SavedFileError: its top is one that only pickle could save, or `path` holds something else.
        StorageError: it can't be written.
    """
    if holds_something_else(path, MANIFEST):
        raise SavedFileError(f"{printable(str(path))!r} holds something that isn't a classifier. Choose another name.")
    with atomic_folder(path, replace=True) as staging:
        write_classifier(classifier, staging)


def write_classifier(classifier: ImageClassifier, folder: Path) -> None:
    """Write the files of `classifier` into an existing folder.

    Raises:
        SavedFileError: its top is one that only pickle could save.
    """
    top = dense_top(classifier, "saved", SavedFileError)
    parts = [*_copy_network(classifier.backbone, folder), TOP, *([NOVELTY] if classifier.novelty is not None else [])]
    write_tensors(folder / TOP, top.tensors())
    if classifier.novelty is not None:
        write_tensors(folder / NOVELTY, classifier.novelty.tensors())
    backbone = classifier.backbone
    manifest = {
        "format": FORMAT,
        "format_version": _format_version(backbone),
        "topwork": VERSION,
        "backbone": {
            "name": backbone.name,
            "size": backbone.size,
            "pooling": backbone.pooling,
            "precision": backbone.precision,
            "preprocessing": backbone.card.preprocessing.facts(),
            **(_facts_of_file(backbone) if backbone.is_from_file else {}),
            **backbone.recipe.facts(),
        },
        "class_names": list(classifier.class_names),
        "sha256": {name: sha256_of_file(folder / name) for name in parts},
        "training": classifier.record,
    }
    write_json(folder / MANIFEST, manifest)


def _facts_of_file(backbone: Backbone) -> dict[str, str]:
    """What is known of a network from a file, and of one in the table by its name."""
    return {
        "file": backbone.weights.tensors.name,
        "output": backbone.output,
        "licence": backbone.card.licence,
    }


def _copy_network(backbone: Backbone, folder: Path) -> list[str]:
    """Copy the weights, or the file with the network and what lies beside it; returns the names in the folder."""
    weights = backbone.weights
    if not backbone.is_from_file:
        shutil.copyfile(weights.tensors, folder / BACKBONE)
        return [BACKBONE]
    (folder / NETWORK).mkdir()
    for file in (weights.tensors, *weights.beside):
        shutil.copyfile(file, folder / NETWORK / file.name)
    return [f"{NETWORK}/{file.name}" for file in (weights.tensors, *weights.beside)]


def _format_version(backbone: Backbone) -> int:
    """The oldest format that says all of it: an older Topwork must not answer without what it doesn't know."""
    recipe = backbone.recipe
    if backbone.is_from_file or set(recipe.facts()) - {"value_range"}:
        return FORMAT_VERSION
    return FORMAT_OF_RANGE if recipe.value_range is not None else FORMAT_OF_PLAIN


def dense_top(classifier: ImageClassifier, done: str, error: type[TopworkError]) -> DenseStack:
    """The top as arrays: the only kind that can be 'saved' or 'exported', whichever is to be `done`.

    Raises:
        error: it is another scikit-learn classifier.
    """
    if not isinstance(classifier.top, DenseStack):
        kind = type(getattr(classifier.top, "estimator", classifier.top)).__name__
        raise error(
            f"A {kind} can't be {done} without pickle, which could run code where it is loaded. "
            f"LinearTop, MLPTop and scikit-learn's LogisticRegression can be {done}."
        )
    return classifier.top


def load_classifier(path: str | Path, *, device: Device = "auto") -> ImageClassifier:
    """The classifier in a folder that `save` wrote, or in a run folder.

    Nothing in the folder can run code. The first use on a machine builds the backbone's graph, a few seconds.

    Args:
        path: the folder.
        device: where the backbone runs: 'cpu', 'gpu' or 'auto'.

    Raises:
        SavedFileError: it isn't a classifier, is damaged, or was written by a newer Topwork.
    """
    folder = find_classifier(Path(path))
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
            raise SavedFileError(f"{shown} wants its pixels scaled in another way than this Topwork does.")
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


def find_classifier(path: Path) -> Path:
    """The folder with the manifest: `path` itself, or `classifier/` in a run folder.

    Raises:
        SavedFileError: neither.
    """
    for folder in (path, path / "classifier"):
        if (folder / MANIFEST).is_file():
            return folder
    shown = printable(str(path))
    if not path.exists():
        raise SavedFileError(f"There is no {shown!r}. Expected a run folder, such as the one `topwork train` names.")
    raise SavedFileError(f"{shown!r} isn't a run folder: it has no classifier/{MANIFEST}. `topwork train` makes one.")
