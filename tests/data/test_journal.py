"""The journal of labels: nothing acknowledged is lost, all is read back exactly, and training takes it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import topwork as tw
from topwork.data.journal import CLASS, NO_CLASS, UNDO, JournalRow, Labelling, open_journal, read_journal
from topwork.data.labelled_folder import FEWEST_DRAWN, hex_of
from topwork.errors import DataError, OptionError, StorageError

DIGEST = "00112233445566778899aabbccddee{:02x}"


def labelled(number: int, label: str = "ash", **values: str) -> JournalRow:
    return JournalRow(f"{number}.jpg", DIGEST.format(number), label, "person", "labelled", **values)


def write(path: Path, *actions: list[JournalRow]) -> None:
    with open_journal(path) as journal:
        for rows in actions:
            journal.append(rows)


def write_labels(photos: Path, path: Path, *, n: int = 12, source: str = "person", drawn: str = "") -> None:
    """The first `n` photographs of each class, labelled as their folders are called."""
    with open_journal(path) as journal:
        for folder in sorted(photos.iterdir()):
            for file in sorted(folder.iterdir())[:n]:
                digest = hex_of(tw.data.decoding.digest_of(file))
                name = file.relative_to(photos).as_posix()
                journal.append([JournalRow(name, digest, folder.name, source, "labelled", drawn)])


@pytest.mark.parametrize(
    "text",
    ["=1+1", "'=1", "''@x", "+", "-x", "@x", "'plain", "a,b;c\td", 'quo"te', "two\nlines", "a\rb", "Esche ä", "\\xff"],
)
def test_names_are_harmless_and_come_back_exactly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    write(path, [JournalRow(text, DIGEST.format(1), text, "person", "labelled")])
    row = read_journal(path)[0]
    assert (row.file, row.label) == (text, text)
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = list(csv.reader(file))[1]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


def test_pyarrow_reads_a_journal_as_a_table(tmp_path: Path) -> None:
    import pyarrow.csv

    path = tmp_path / "labels.csv"
    write(path, [labelled(1)], [labelled(2, "birch")])
    table = pyarrow.csv.read_csv(path)
    assert table.column_names == ["file", "digest", "label", "source", "state", "drawn", "undo", "time"]
    assert table["label"].to_pylist() == ["ash", "birch"]


@pytest.mark.parametrize("cut", [1, 2, 3, 20, 60])
def test_a_row_that_was_cut_short_is_taken_away(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "labels.csv"
    write(path, [labelled(1)], [labelled(2)])
    path.write_bytes(path.read_bytes()[:-cut])
    write(path, [labelled(3)])
    kept = [row.file for row in read_journal(path)]
    assert kept == (["1.jpg", "2.jpg", "3.jpg"] if cut <= 2 else ["1.jpg", "3.jpg"])


@pytest.mark.parametrize("cut", [0, 5])
def test_a_journal_cut_within_its_head_begins_anew(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "labels.csv"
    write(path)
    path.write_bytes(path.read_bytes()[:cut])
    write(path, [labelled(1)])
    assert len(read_journal(path)) == 1


def test_a_journal_saved_by_a_spreadsheet_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write(path, [labelled(1, "=ash")])
    path.write_text(path.read_text("utf-8-sig").replace(",", ";"), "utf-8")
    write(path, [labelled(2)])
    assert [row.label for row in read_journal(path)] == ["=ash", "ash"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("image,label\na,b\n", "no column 'file'"), ("{head}x,y\n{row}", "Row 2"), ("\xff\xfe\n", "isn't text in UTF-8")],
)
def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    write(path, [labelled(1)])
    head, row = path.read_text("utf-8-sig").splitlines(keepends=True)
    path.write_bytes(text.format(head=head, row=row).encode("latin-1"))
    before = path.read_bytes()
    with pytest.raises(DataError, match=message):
        write(path, [labelled(2)])
    assert path.read_bytes() == before


def test_the_second_to_open_a_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with open_journal(path), pytest.raises(OptionError, match="is open in another"), open_journal(path):
        pass


def test_a_file_changed_by_another_program_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with open_journal(path) as journal:
        journal.append([labelled(1)])
        path.write_bytes(path.read_bytes() + b"more\r\n")
        with pytest.raises(StorageError, match="changed or moved by another program"):
            journal.append([labelled(2)])


def test_nothing_of_an_action_that_can_not_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.csv"
    with open_journal(path) as journal:
        journal.append([labelled(1)])
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(StorageError, match="the disk is full"):
                journal.append([labelled(2)])
        assert path.read_bytes() == before
        assert len(journal.labelling.images) == 1
        journal.append([labelled(3)])
    assert [row.file for row in read_journal(path)] == ["1.jpg", "3.jpg"]


def test_undo_gives_back_what_was_there_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    write(path, [labelled(1)], [labelled(1, "birch"), labelled(2, "birch")])
    with open_journal(path) as journal:
        journal.append(journal.labelling.undoing())
        assert [row.label for row in journal.labelling.images.values()] == ["", "ash"]
        journal.append(journal.labelling.undoing())
        assert {row.label for row in journal.labelling.images.values()} == {""}
        assert not journal.labelling.can_undo
    assert Labelling(read_journal(path)).can_undo is False
    assert sum(row.undo == UNDO for row in read_journal(path)) == 3


def test_a_renamed_class_keeps_its_place() -> None:
    labelling = Labelling([JournalRow(label=name, state=CLASS, time=f"{i}") for i, name in enumerate("abc")])
    labelling.take([JournalRow(label="a", state=NO_CLASS, time="5"), JournalRow(label="z", state=CLASS, time="5")])
    assert labelling.classes == ["z", "b", "c"]
    labelling.take([JournalRow(**{**row_values(row), "time": "6"}) for row in labelling.undoing()])
    assert labelling.classes == ["a", "b", "c"]


def row_values(row: JournalRow) -> dict[str, str]:
    return {name: getattr(row, name) for name in row.__slots__}


def test_a_dataset_has_the_labels_of_the_journal(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.labels.csv"
    write_labels(photos, path, n=4)
    dataset = tw.ImageDataset.load(photos, labels=path)
    assert len(dataset) == 12
    assert dataset.class_names == ("ash", "birch", "cedar")
    assert all(name.startswith(dataset.class_names[k]) for name, k in zip(dataset.names, dataset.labels, strict=True))
    assert any("24 of 36 images have no label" in note for note in dataset.notes)


def test_a_renamed_file_keeps_its_label_and_a_changed_one_loses_it(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.labels.csv"
    write_labels(photos, path, n=4)
    (photos / "ash" / "0.png").rename(photos / "moved.png")
    shutil.copy(photos / "cedar" / "5.jpg", photos / "birch" / "1.jpg")
    dataset = tw.ImageDataset.from_journal(photos, path)
    labels = {name: dataset.class_names[k] for name, k in zip(dataset.names, dataset.labels, strict=True)}
    assert labels["moved.png"] == "ash"
    assert "birch/1.jpg" not in labels
    assert any("1 image of the journal can't be found" in note for note in dataset.notes)


def test_machine_made_labels_are_learned_from_and_never_tested_on(
    photos: Path, tmp_path: Path, topwork: Callable[..., object]
) -> None:
    path = tmp_path / "photos.labels.csv"
    write_labels(photos, path, n=12, source="machine")
    write_labels(photos, path, n=6)
    done = topwork("train", photos, "--labels", path, "--json", "--backbone", "starter")
    result = json.loads(done.out)  # type: ignore[attr-defined]
    assert result["n_train"] + result["n_validation"] == 36
    assert result["test"]["n"] == 18
    assert "18 labels given by the machine" in done.err  # type: ignore[attr-defined]


def test_enough_images_drawn_by_chance_test_alone(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.labels.csv"
    write_labels(photos, path, n=11, drawn="random")
    with open_journal(path) as journal:
        rows = [row for row in read_journal(path) if int(Path(row.file).stem) == 1]
        journal.append([JournalRow(row.file, row.digest, row.label, "person", "labelled") for row in rows])
    dataset = tw.ImageDataset.from_journal(photos, path)
    assert len(dataset) == 33
    assert dataset.testable is not None
    assert dataset.testable.sum() == 30 == FEWEST_DRAWN
    split = dataset.split(test=0.5)
    assert not np.any((np.asarray(split.splits) == "test") & ~dataset.testable)


def test_a_journal_of_machine_made_labels_alone_is_refused(
    photos: Path, tmp_path: Path, topwork: Callable[..., object]
) -> None:
    path = tmp_path / "photos.labels.csv"
    write_labels(photos, path, source="machine")
    assert "no label that a person gave" in topwork("train", photos, "--labels", path).err  # type: ignore[attr-defined]


def test_labels_are_of_a_folder(topwork: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("")
    assert "--labels x.csv is for a folder" in topwork("train", "digits", "--labels", "x.csv").err  # type: ignore[attr-defined]
