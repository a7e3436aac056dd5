"""A classifier as a folder: JSON and safetensors, which can't run code, rebuilt from the table of networks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from topwork.backbones.backbone import Backbone
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
)
from topwork.errors import SavedFileError
from topwork.files import atomic_folder, holds_something_else, printable, sha256_of_file, write_json, write_tensors
from topwork.tops.answering import Top, dense_top
from topwork.tops.novelty import Novelty
from topwork.version import VERSION


def save_classifier(
    path: Path,
    *,
    backbone: Backbone,
    top: Top,
    class_names: tuple[str, ...],
    novelty: Novelty | None,
    record: dict[str, Any],
) -> None:
    """Write the parts of a classifier as the folder `path`; it appears whole or not at all.

    Raises:
        SavedFileError: its top is one that only pickle could save, or `path` holds something else.
        StorageError: it can't be written.
    """
    if holds_something_else(path, MANIFEST):
        raise SavedFileError(f"{printable(str(path))!r} holds something that isn't a classifier. Choose another name.")
    stack = dense_top(top, "saved", SavedFileError)
    with atomic_folder(path, replace=True) as folder:
        parts = [*_copy_network(backbone, folder), TOP, *([NOVELTY] if novelty is not None else [])]
        write_tensors(folder / TOP, stack.tensors())
        if novelty is not None:
            write_tensors(folder / NOVELTY, novelty.tensors())
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
            "class_names": list(class_names),
            "sha256": {name: sha256_of_file(folder / name) for name in parts},
            "training": record,
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
