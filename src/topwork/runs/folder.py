"""The run folder: classifier, history, metrics, predictions, and how it all came about."""

from __future__ import annotations

import csv
import io
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from topwork.checks.check import DataCheck
from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.predictions import Predictions
from topwork.classifier.record import Training
from topwork.data.dataset import ImageDataset
from topwork.evaluation.confidence import Reliability, reliability
from topwork.evaluation.intervals import proportion
from topwork.evaluation.metrics import Evaluation
from topwork.features.extraction import feature_facts
from topwork.files import new_folder, write_json
from topwork.report.report import report_html
from topwork.runs.images import IMAGES
from topwork.runs.model_card import model_card
from topwork.tops.calibration import with_temperature
from topwork.tops.dense_stack import DenseStack
from topwork.version import VERSION

REPORT = "report.html"
_LIBRARIES = ("jax", "keras", "numpy", "openvino", "pillow", "scikit-learn", "scipy")


@dataclass(frozen=True)
class RunFacts:
    """What a run knows beside its results: the command, the seed, and how long it took."""

    command: str
    seed: int
    seconds: float


def write_run_folder(
    names: Iterable[Path],
    classifier: ImageClassifier,
    training: Training,
    test: Evaluation,
    held_out: Evaluation | None,
    predictions: Predictions,
    check: DataCheck | None,
    facts: RunFacts,
) -> Path:
    """Write all of a run as a folder, which appears whole or not at all, under the first of `names` that is free.

    Returns:
        The folder.

    Raises:
        StorageError: it can't be written.
    """
    with new_folder(names) as new:
        staging = new.path
        if isinstance(classifier.top, DenseStack):
            _with_accuracy(classifier, test).save(staging / "classifier")
        _write_history(staging / "history.csv", training)
        metrics = _metrics(training, test, held_out, predictions)
        write_json(staging / "metrics.json", {**metrics, "data": check.summary() if check else None})
        if check is not None:
            (staging / "findings.csv").write_text(check.as_csv(), "utf-8", "replace")
        _write_predictions(staging / "predictions.parquet", training.dataset, predictions)
        _write_images(staging / IMAGES, training.dataset)
        record = _run_record(classifier, training, facts)
        write_json(staging / "run.json", record)
        page = report_html(training, test, predictions, record, _uncalibrated(training, test, predictions), check)
        (staging / REPORT).write_text(page, "utf-8", "replace")
        (staging / "README.md").write_text(model_card(classifier, training, test, facts.command), "utf-8", "replace")
    return new.path


def _with_accuracy(classifier: ImageClassifier, test: Evaluation) -> ImageClassifier:
    """The classifier with its test accuracy on record: who is given its folder alone should know how good it is."""
    return replace(
        classifier, record={**classifier.record, "test_accuracy": test.accuracy.as_dict(), "test_folds": test.n_folds}
    )


def _metrics(
    training: Training, test: Evaluation, held_out: Evaluation | None, predictions: Predictions
) -> dict[str, Any]:
    # what was held out of the fit to choose by: folds of train and validation in turn, or the validation split
    kind = "cross_validated" if training.held_out and training.held_out.n_folds > 1 else "validation"
    metrics: dict[str, Any] = {"test": test.as_dict(), "cross_validated": None, "validation": None}
    metrics[kind] = held_out.as_dict() if held_out else None
    uncalibrated = _uncalibrated(training, test, predictions)
    if uncalibrated is not None:
        metrics["calibration"] = {"temperature": training.temperature, "test_before": uncalibrated.as_dict()}
    if predictions.is_unknown is not None:
        metrics["unknown_on_test"] = proportion(int(predictions.is_unknown.sum()), test.n).as_dict()
    return metrics


def _uncalibrated(training: Training, test: Evaluation, predictions: Predictions) -> Reliability | None:
    """The reliability of the answers before the temperature; None where each fold had its own."""
    if training.temperature is None or test.n_folds:
        return None
    before = with_temperature(predictions.probabilities, 1 / training.temperature)
    return reliability(training.dataset.labels[predictions.indices], before)


def _write_history(path: Path, training: Training) -> None:
    text = io.StringIO()
    if training.history:
        writer = csv.DictWriter(text, list(training.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(training.history)
    path.write_text(text.getvalue(), "utf-8")


def _write_predictions(path: Path, dataset: ImageDataset, predictions: Predictions) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    names = np.array(predictions.class_names)
    best = predictions.probabilities.argmax(axis=1)
    columns = {
        "image": [predictions.names[i] for i in predictions.indices],
        "label": names[dataset.labels[predictions.indices]].tolist(),
        "predicted": names[best].tolist(),
        "probability": predictions.probabilities[np.arange(len(best)), best],
        "probabilities": pa.array(list(predictions.probabilities), pa.list_(pa.float64())),
    }
    if predictions.is_unknown is not None:
        columns |= {"novelty": predictions.novelty, "unknown": predictions.is_unknown}
    table = pa.table(columns, metadata={"classes": "\n".join(predictions.class_names)})
    with path.open("wb") as file:  # opened here: pyarrow takes names in UTF-8 only
        parquet.write_table(table, file)


def _write_images(path: Path, dataset: ImageDataset) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    digests = [bytes(digest).ljust(16, b"\0") for digest in dataset.digests]  # NumPy drops trailing zero bytes
    columns = {
        "image": dataset.names,
        "label": np.array(dataset.class_names)[dataset.labels].tolist(),
        "side": dataset.splits.tolist() if dataset.splits is not None else [None] * len(dataset),
        "digest": pa.array(digests, pa.binary(16)),
    }
    with path.open("wb") as file:  # opened here: pyarrow takes names in UTF-8 only
        parquet.write_table(pa.table(columns), file)


def _run_record(classifier: ImageClassifier, training: Training, facts: RunFacts) -> dict[str, Any]:
    dataset = training.dataset
    splits, counts = np.unique(dataset.splits if dataset.splits is not None else [], return_counts=True)
    return {
        "command": facts.command,
        "topwork": VERSION,
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}",
        "libraries": {name: version(name) for name in _LIBRARIES},
        "seed": facts.seed,
        "data": {
            "origin": dataset.origin,
            "images": len(dataset),
            "sides": {str(split): int(n) for split, n in zip(splits, counts, strict=True)},
            "notes": list(dataset.notes),
            "options": dict(dataset.options),
            "groups_in_several_splits": len(dataset.torn_groups),
            "excluded": list(dataset.corrections.excluded),
            "relabelled": [
                {"image": image, "from": before, "to": now} for image, before, now in dataset.corrections.relabelled
            ],
        },
        "backbone": {
            **feature_facts(classifier.backbone),
            "weights_origin": classifier.backbone.weights.origin,
        },
        "features": training.features.fingerprint,
        "top": classifier.record["top"],
        "best_row": training.best,
        "seconds": {
            "features": round(training.seconds_features, 3),
            "top": round(training.seconds_top, 3),
            "all": round(facts.seconds, 3),
        },
        "fine_tuning": training.fine_tuning.as_dict() if training.fine_tuning else None,
        "n_flipped": training.n_flipped,
        "n_extracted": training.n_extracted,
        "quarantined": [{"image": image.name, "reason": image.reason} for image in training.bad],
    }
