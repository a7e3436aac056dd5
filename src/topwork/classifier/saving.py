"""A classifier as a folder: JSON and safetensors, which can't run code, rebuilt from the table of networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import safetensors
from safetensors.numpy import load_file

from topwork.backbones.backbone import load_backbone
from topwork.backbones.cards import cards
from topwork.backbones.engines import Device
from topwork.classifier.classifier import ImageClassifier
from topwork.errors import SavedFileError, TopworkError, UnknownNameError
from topwork.files import atomic_folder, holds_something_else, printable, sha256_of_file, write_json, write_tensors
from topwork.tops.dense_stack import DenseStack
from topwork.tops.novelty import Novelty
from topwork.version import VERSION

FORMAT = "topwork-classifier"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
BACKBONE, TOP, NOVELTY = PARTS = "backbone.safetensors", "top.safetensors", "novelty.safetensors"


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
    shutil.copyfile(classifier.backbone.weights.tensors, folder / BACKBONE)
    write_tensors(folder / TOP, top.tensors())
    if classifier.novelty is not None:
        write_tensors(folder / NOVELTY, classifier.novelty.tensors())
    files = [name for name in PARTS if (folder / name).exists()]
    backbone = classifier.backbone
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "topwork": VERSION,
        "backbone": {
            "name": backbone.name,
            "size": backbone.size,
            "pooling": backbone.pooling,
            "precision": backbone.precision,
            "preprocessing": backbone.card.preprocessing.facts(),
        },
        "class_names": list(classifier.class_names),
        "sha256": {name: sha256_of_file(folder / name) for name in files},
        "training": classifier.record,
    }
    write_json(folder / MANIFEST, manifest)


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
    shown = printable(str(folder))
    manifest = read_manifest(folder)
    try:
        facts = manifest["backbone"]
        if facts["name"] not in cards():
            raise UnknownNameError(f"there is no backbone {facts['name']!r}")
        for name, digest in manifest["sha256"].items():
            if name in PARTS and sha256_of_file(folder / name) != digest:
                raise SavedFileError(f"{shown}/{name} is not the file that was saved (wrong checksum). Copy it again.")
        backbone = load_backbone(
            facts["name"],
            weights=folder / BACKBONE,
            size=facts["size"],
            pooling=facts["pooling"],
            precision=facts["precision"],
        )
        if backbone.card.preprocessing.facts() != facts["preprocessing"]:
            raise SavedFileError(f"{shown!r} wants its pixels scaled in another way than this Topwork does.")
        top = DenseStack.from_tensors(load_file(folder / TOP))
        novelty = Novelty.from_tensors(load_file(folder / NOVELTY)) if NOVELTY in manifest["sha256"] else None
        class_names = tuple(str(name) for name in manifest["class_names"])
        record = dict(manifest["training"])
    except SavedFileError:
        raise
    except (KeyError, TypeError, AttributeError, OSError, safetensors.SafetensorError, TopworkError) as error:
        raise SavedFileError(f"{shown!r} is damaged: {error}. Copy it again, or train anew.") from error
    if novelty is not None and not novelty.fits(top.n_features):
        raise SavedFileError(f"{shown!r} is damaged: {NOVELTY} is not of {top.n_features} features.")
    if top.n_classes != len(class_names):
        raise SavedFileError(f"{shown!r} is damaged: {len(class_names)} class names for {top.n_classes} classes.")
    return ImageClassifier(backbone, top, class_names, novelty, record=record, device=device)


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the classifier in `folder`, of a kind that this Topwork knows.

    Raises:
        SavedFileError: it can't be read, is no classifier's, or a newer Topwork wrote it.
    """
    shown = printable(str(folder / MANIFEST))
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SavedFileError(f"{shown!r} can't be read: {error}. Copy the folder again.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise SavedFileError(f"{shown!r} isn't a Topwork classifier's manifest.")
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise SavedFileError(
            f"{str(folder)!r} was written by a newer Topwork ({manifest.get('topwork')}, format {version}); "
            f"this is {VERSION}, which reads format {FORMAT_VERSION}. Upgrade: pip install --upgrade topwork."
        )
    return manifest
