"""From a journal of labels to a run, and from class folders to a journal."""

from __future__ import annotations

from pathlib import Path

from topwork.backbones.backbone import Backbone
from topwork.data.dataset import ImageDataset
from topwork.data.journal import FOLDER, LABELLED, Journal, JournalRow
from topwork.data.labelled_folder import hex_of
from topwork.errors import DataError
from topwork.progress import Reporter
from topwork.runs.run import train
from topwork.types import Device


def train_on_journal(
    folder: Path, journal: Path, backbone: Backbone, *, device: Device, command: str = "", reporter: Reporter
) -> Path:
    """Train on what a journal says of a folder, as any training; returns the run folder.

    Args:
        folder: the images.
        journal: their labels.
        backbone: as from `load_backbone`.
        device: where it runs.
        command: that does the same, for the record.
        reporter: hears of progress.

    Raises:
        TopworkError: see `topwork.runs.run.train`.
    """
    dataset = ImageDataset.from_journal(folder, journal)
    for note in dataset.notes:
        reporter.note(note)
    return train(dataset, backbone, device=device, command=command, reporter=reporter).folder


def read_folder_labels(folder: Path, journal: Journal, reporter: Reporter) -> None:
    """Begin a journal with the labels that class folders give; with none, where there are no such folders."""
    try:
        dataset = ImageDataset.from_directory(folder)
    except DataError:
        return
    digests = dataset.read_digests(reporter)
    rows = {
        hex_of(digest): JournalRow(name, hex_of(digest), dataset.class_names[k], FOLDER, LABELLED)
        for name, digest, k in zip(dataset.names, digests, dataset.labels, strict=True)
    }
    journal.append(list(rows.values()))
    reporter.note(f"{len(rows):,} labels taken from the sub-folders of {dataset.origin}")
