"""The same answers in every format, unreadable images in their place, unknown ones called so."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import topwork.prediction.writers as writers
from topwork.classifier.predictions import Predictions, join_predictions
from topwork.errors import OptionError
from topwork.features.pipeline import BadImage
from topwork.prediction.rows import PLAIN, Wording, row_form

NAMES = ("ash", "birch", "cedar")


def made(n: int, seed: int = 0, *, has_novelty: bool = True) -> Predictions:
    """Answers for `n` images; each third can't be read, each second of the others is unknown."""
    random = np.random.default_rng(seed)
    names = tuple(f"{i}.png" for i in range(n))
    indices = np.array([i for i in range(n) if i % 3 != 1], dtype=np.int64)
    probabilities = random.dirichlet(np.ones(3), len(indices))
    bad = tuple(BadImage(i, names[i], "the file is empty") for i in range(1, n, 3))
    signs = np.where(np.arange(len(indices)) % 2 == 1, 1, -1)
    novelty = signs * random.uniform(0.1, 1, len(indices)) if has_novelty else None
    return Predictions(names, indices, probabilities, bad, NAMES, novelty, 0.0 if has_novelty else None)


def written(kind: writers.FileKind, slices: list[Predictions], wording: Wording = PLAIN) -> bytes:
    file = io.BytesIO()
    with writers.open_writer(kind, file, NAMES, wording) as writer:
        for part in slices:
            writer.write(part)
    return file.getvalue()


def test_the_formats_agree() -> None:
    answers = made(7)
    rows = list(csv.DictReader(io.StringIO(written("csv", [answers]).decode())))
    objects = [json.loads(line) for line in written("jsonl", [answers]).splitlines()]
    table = parquet.read_table(io.BytesIO(written("parquet", [answers])))
    assert table.schema.metadata[b"classes"] == b"ash\nbirch\ncedar"
    assert table.column_names == ["image", "predicted", "probability", "probabilities", "novelty", "unknown", "error"]
    for row, plain, columns in zip(rows, objects, table.to_pylist(), strict=True):
        assert row["image"] == plain["image"] == columns["image"]
        if "error" in plain:
            assert row["error"] == plain["error"] == columns["error"] == "the file is empty"
            assert row["class"] == ""
            assert columns["predicted"] is columns["probabilities"] is columns["unknown"] is None
            continue
        assert row["class"] == plain["class"] == columns["predicted"]
        assert float(row["probability"]) == plain["probability"] == round(columns["probability"], 6)
        assert row["unknown"] == str(plain["unknown"]).lower() == str(columns["unknown"]).lower()
        assert [row["class_2"], row["class_3"]] == [other["class"] for other in plain["runners_up"]]
        assert max(columns["probabilities"]) == columns["probability"]


def test_unknown_as_the_answer_itself() -> None:
    answers, wording = made(6), Wording(runners_up=1, as_unknown=True)
    objects = [json.loads(line) for line in written("jsonl", [answers], wording).splitlines()]
    assert [row.get("class") == "unknown" for row in objects] == [row.get("unknown") is True for row in objects]
    named = [json.loads(line) for line in written("jsonl", [answers]).splitlines()]
    for row, plain in zip(objects, named, strict=True):
        if row.get("unknown"):
            assert row["probability"] is None
            assert row["runners_up"] == [{"class": plain["class"], "probability": plain["probability"]}]
    columns = parquet.read_table(io.BytesIO(written("parquet", [answers], wording))).to_pylist()
    assert [row["predicted"] == "unknown" for row in columns] == [bool(row["unknown"]) for row in columns]
    assert all(row["probability"] is None for row in columns if row["unknown"])
    text = row_form("text", None, NAMES, wording).text(answers).splitlines()
    assert sum("  unknown  " in line for line in text) == 2


def test_a_classifier_that_cannot_tell_has_no_column_for_it() -> None:
    table = parquet.read_table(io.BytesIO(written("parquet", [made(4, has_novelty=False)])))
    assert not {"novelty", "unknown"} & set(table.column_names)
    assert json.loads(written("jsonl", [made(1, has_novelty=False)]))["unknown"] is None


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from(["csv", "jsonl", "parquet"]))
def test_how_answers_were_sliced_leaves_no_trace(lengths: list[int], kind: writers.FileKind) -> None:
    slices = [made(n, seed) for seed, n in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "_GROUP_ROWS", 5)  # several row groups
        assert written(kind, slices) == written(kind, [join_predictions(slices)])


def test_no_answers_are_a_table_too() -> None:
    assert written("csv", [made(0)]).decode().startswith("image,class,probability,unknown,class_2")
    assert parquet.read_table(io.BytesIO(written("parquet", [made(0)]))).num_rows == 0


def test_a_suffix_that_is_not_written_is_refused() -> None:
    with pytest.raises(OptionError, match=r"\.csv, \.jsonl or \.parquet; got 'a\.xlsx'"):
        writers.file_kind(Path("a.xlsx"))
