"""The images of a folder with the labels that a journal gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from topwork.data.folders import Grouping
from topwork.data.images import UnlabelledImages
from topwork.data.journal import EXCLUDED, MACHINE, RANDOM, JournalRow, Labelling, read_journal
from topwork.data.table import LabelTable
from topwork.errors import DataError
from topwork.files import printable
from topwork.progress import Reporter
from topwork.words import counted

FEWEST_DRAWN = 30
"""Images drawn by chance from which on these alone test: of 80 % so many tell to 14 points, and fewer to less than the
choice of the others may mislead."""


def read_labelled_folder(root: Path, journal: Path, grouping: Grouping) -> LabelTable:
    """The images below `root`, those with a label that a journal has for them, and does not exclude.

    Labels that a machine gave never test. Where a person labelled `FEWEST_DRAWN` images that were drawn by chance,
    these alone do: the others were chosen for what they teach, and are no sample of the folder.

    Raises:
        DataError: there is no such folder or journal, or a person gave none of the images a label.
    """
    images = UnlabelledImages.from_directory(root)
    rows = Labelling(read_journal(journal)).images
    found = labels_of(images, rows, Reporter())
    labelled = {i: row for i, row in found.items() if row.label and row.state != EXCLUDED}
    by_person = {i for i, row in labelled.items() if row.source != MACHINE}
    if not by_person:
        raise DataError(
            f"{printable(str(journal))!r} has no label that a person gave an image in {printable(str(root))!r}. "
            f"`topwork label` is where images are labelled; it knows {counted(len(rows), 'image')} there."
        )
    drawn = {i for i in by_person if labelled[i].drawn == RANDOM}
    tests = drawn if len(drawn) >= FEWEST_DRAWN else by_person
    names = images.names
    paths = [str(root / name) for name in names]
    return LabelTable(
        source=images.source,
        labels=np.array([labelled[i].label if i in labelled else "" for i in range(len(images))]),
        groups=grouping.groups(root, paths, [root] * len(paths)),
        notes=(*images.notes, *_notes(rows, found, len(labelled) - len(by_person), tests, len(by_person))),
        testable=np.isin(np.arange(len(images)), list(tests)),
    )


def labels_of(images: UnlabelledImages, rows: dict[str, JournalRow], reporter: Reporter) -> dict[int, JournalRow]:
    """The row of each image that has one, by its place among `images`.

    Files that are called as in `rows` are read first. Where these are all that there is, no other is.
    """
    names = {row.file for row in rows.values()}
    places = np.flatnonzero([name in names for name in images.names])
    digests = images.select(places).read_digests(reporter)
    if not set(rows) <= set(map(hex_of, digests)):  # files were renamed, or are new
        places, digests = np.arange(len(images)), images.read_digests(reporter)
    keys = map(hex_of, digests)
    return {int(place): rows[key] for place, key in zip(places, keys, strict=True) if key in rows}


def hex_of(digest: bytes) -> str:
    """A digest as a journal writes it."""
    return bytes(digest).ljust(16, b"\0").hex()  # NumPy drops zero bytes at the end


def _notes(
    rows: dict[str, JournalRow], found: dict[int, JournalRow], n_machine: int, tests: set[int], n_person: int
) -> Iterator[str]:
    if gone := len(set(rows) - {row.digest for row in found.values()}):
        yield f"{counted(gone, 'image')} of the journal can't be found: left out."
    if excluded := sum(row.state == EXCLUDED for row in found.values()):
        yield f"{counted(excluded, 'image')} excluded in the journal: left out."
    if n_machine:
        yield f"{counted(n_machine, 'label')} given by the machine: learned from, and never tested on."
    if len(tests) < n_person:
        yield f"the {len(tests):,} images drawn by chance test; the page chose the others for what they teach."
    else:
        yield (
            "the images that test were chosen by the page for what they teach: the test accuracy may be too low or too "
            f"high. With {FEWEST_DRAWN} labelled images drawn by chance, these alone test."
        )
