"""Answers for many images: row by row as they come, or as a file that appears whole and can be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from topwork.classifier.classifier import ImageClassifier
from topwork.data.sources import ImageSource
from topwork.files import storage_errors, sync_file
from topwork.prediction.finished import is_finished, record_finished
from topwork.prediction.resuming import answer_facts, open_kept
from topwork.prediction.rows import PLAIN, RowKind, Wording, row_form
from topwork.prediction.writers import file_kind, open_writer
from topwork.progress import Reporter


def predict_rows(
    classifier: ImageClassifier,
    source: ImageSource,
    say: Callable[[str], object],
    *,
    kind: RowKind = "text",
    wording: Wording = PLAIN,
    reporter: Reporter | None = None,
) -> int:
    """Say the answer for each image of `source`, in order, as soon as it is known.

    Args:
        classifier: what answers.
        source: the images; see `find_images`.
        say: takes whole lines, some dozens at a time.
        kind: how a row looks: 'text', 'csv' or 'jsonl'.
        wording: what is said of each image.
        reporter: hears of progress.

    Returns:
        How many images can't be read; they are named among the rows.
    """
    form = row_form(kind, source, classifier.class_names, wording)
    say(form.head())
    n_bad = 0
    for predictions in classifier.stream(source, reporter):
        say(form.text(predictions))
        n_bad += len(predictions.bad)
    return n_bad


def predict_file(
    classifier: ImageClassifier,
    source: ImageSource,
    out: Path,
    *,
    wording: Wording = PLAIN,
    replace: bool = False,
    reporter: Reporter | None = None,
) -> int:
    """Write the answers for the images of `source`, in order, as the file `out`, which appears whole or not at all.

    Cut short at any moment, even by `kill -9`, the same call goes on where it stopped and gives the same file, byte for
    byte. Until then the answers are kept in `.NAME.part/` beside it.

    Args:
        classifier: what answers; one that could be saved.
        source: the images; see `find_images`.
        out: a file in .csv, .jsonl or .parquet. One that is there and holds these answers stays as it is; one of other
            images by this classifier is replaced.
        wording: what is said of each image.
        replace: whether any other file is replaced too.
        reporter: hears of progress.

    Returns:
        How many images can't be read; they are named among the rows.

    Raises:
        OptionError: another suffix; a file is there that isn't known as answers of this classifier, and `replace` is
            False; or another process is making the same file.
        StorageError: it can't be written.
    """
    reporter = reporter or Reporter()
    kind = file_kind(out)
    n_bad = 0
    facts = answer_facts(classifier, source)
    whole = {**facts, "other wording": [wording.runners_up, wording.as_unknown]}
    finished = is_finished(out, whole, replace=replace)
    if finished is not None:
        reporter.note(f"Already complete: {len(source):,} answers.")
        return finished
    with open_kept(out, classifier, source, facts, reporter) as kept:
        if kept.n < len(source):
            kept.take(classifier.stream(source, reporter, first=kept.n))
        with storage_errors(out):
            with kept.whole.open("wb") as file, open_writer(kind, file, classifier.class_names, wording) as writer:
                for predictions in kept.slices():
                    writer.write(predictions)
                    n_bad += len(predictions.bad)
            sync_file(kept.whole)
            os.replace(kept.whole, out)
        record_finished(out, whole, n_bad)
        kept.discard()
    return n_bad
