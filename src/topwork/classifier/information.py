"""What is this classifier, and is it whole? From its manifest and checksums alone: nothing is built or compiled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from topwork.backbones.cards import cards
from topwork.classifier.loading import find_classifier
from topwork.classifier.manifest import NOVELTY, read_manifest
from topwork.files import folder_bytes, printable, sha256_of_file

FileState: TypeAlias = Literal["intact", "damaged", "missing"]


@dataclass(frozen=True)
class Accuracy:
    """The share of test images that were answered right, its 95 % interval, and of how many images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ClassifierInformation:
    """Facts about a saved classifier.

    Attributes:
        folder: the classifier's own folder: all that another person needs.
        class_names: K names.
        backbone: its name, size in pixels, pooling and precision.
        weights: where the backbone's weights come from; None where that isn't recorded.
        licence: of these weights; None for a backbone that this Topwork doesn't know.
        top: its kind and parameters.
        data: what the images were called that it was trained on.
        n_train: images it was fitted on.
        n_validation: images of the validation split; what is cross-validated learns from them too.
        n_folds: in how many folds train and validation were cross-validated; 1 where the validation split alone judged.
        test: how good it is; None where it was never tested.
        test_folds: in how many folds it was tested by cross-validation; 0 where on test images.
        fine_tuned: which part of the network was trained too, above which layer, and the digest of the weights that it
            comes from (`part`, `cut`, `parent`, …); None for a frozen one.
        tells_unknown: whether it knows images unlike all that it was trained on.
        topwork: the version that wrote it.
        megabytes: the size of the folder.
        files: the state of each file, by name.
    """

    folder: str
    class_names: tuple[str, ...]
    backbone: dict[str, Any]
    weights: str | None
    licence: str | None
    top: dict[str, Any]
    data: str | None
    n_train: int | None
    n_validation: int | None
    n_folds: int | None
    test: Accuracy | None
    test_folds: int
    fine_tuned: dict[str, Any] | None
    tells_unknown: bool
    topwork: str
    megabytes: float
    files: dict[str, FileState]

    @property
    def is_intact(self) -> bool:
        """Whether every file is the one that was saved."""
        return all(state == "intact" for state in self.files.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "intact": self.is_intact}


def classifier_information(path: str | Path) -> ClassifierInformation:
    """What the classifier at `path` is, every file of it read and compared with its checksum.

    Args:
        path: a run folder, or a classifier's folder.

    Raises:
        SavedFileError: there is none, its manifest is damaged, or a newer Topwork wrote it.
    """
    folder = find_classifier(path)
    manifest = read_manifest(folder)
    backbone, record = manifest.backbone, manifest.training
    card = cards().get(backbone["name"])
    return ClassifierInformation(
        folder=printable(str(folder)),
        class_names=manifest.class_names,
        backbone={fact: backbone[fact] for fact in ("name", "size", "pooling", "precision")},
        weights=record.get("weights"),
        licence=card.licence if card is not None else backbone.get("licence"),
        top=record.get("top", {}),
        data=record.get("data"),
        n_train=record.get("n_train"),
        n_validation=record.get("n_validation"),
        n_folds=record.get("n_folds"),
        test=Accuracy(**record["test_accuracy"]) if record.get("test_accuracy") else None,
        test_folds=record.get("test_folds", 0),
        fine_tuned=record.get("fine_tuned"),
        tells_unknown=NOVELTY in manifest.checksums,
        topwork=manifest.topwork,
        megabytes=folder_bytes(folder) / 1e6,
        files={name: _state(folder / name, checksum) for name, checksum in manifest.checksums.items()},
    )


def _state(path: Path, checksum: str | None) -> FileState:
    try:
        return "intact" if sha256_of_file(path) == checksum else "damaged"
    except FileNotFoundError:
        return "missing"
    except OSError:  # a bad disk, no permission
        return "damaged"
