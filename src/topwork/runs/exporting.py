"""Exporting what a run folder holds, its own test images in the parity check."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.loading import load_classifier
from topwork.data.dataset import ImageDataset
from topwork.data.decoding import Payload, developed, digest_of, quiet_pillow, read_image
from topwork.data.splits import TEST, TRAIN
from topwork.errors import BadImageError, DataError
from topwork.export.export import Export, export_classifier
from topwork.export.formats import find_format
from topwork.export.quantization import CALIBRATION_IMAGES, Int8Images
from topwork.progress import Reporter, console_reporter
from topwork.runs.images import RecordedImages, dataset_of_run, recorded_images, rows_of
from topwork.types import ValueRange

PARITY_IMAGES = 32
"""How many of the run's test images go through the parity check."""
INT8_TEST_IMAGES = 2_000
"""How many of them tell what int8 costs, at most."""


def export_run(
    path: str | Path,
    to: str,
    *,
    out: str | Path | None = None,
    dataset: ImageDataset | None = None,
    int8: bool = False,
    unknown: bool = True,
    batch: int | None = None,
    size: int | None = None,
    opset: int | None = None,
    reporter: Reporter | None = None,
) -> Export:
    """Export the classifier of a run folder; see `export_classifier`, also for what isn't explained here.

    Args:
        path: the run folder; or a classifier alone, for which any images in `dataset` do in the parity check.
        to: 'onnx', 'openvino', 'keras' or 'litert'.
        out: the folder to write; None takes `exports/FORMAT` in the run folder, `-int8` added where that is asked for.
        dataset: where the run's images are now; None looks where they were.
        int8: weights and activations in int8, if the test accuracy bears it.
        reporter: hears of progress; None shows it on standard error.

    Raises:
        SavedFileError: `path` holds no classifier.
        DataError: the run's images can't be found.
        ExportError: the file's predictions differ from Topwork's; nothing is delivered then.
    """
    reporter = reporter or console_reporter()
    path, form = Path(path), find_format(to, int8=int8, opset=opset)
    classifier = load_classifier(path, device="cpu")
    recorded = recorded_images(path)
    dataset = dataset or dataset_of_run(path)
    if int8 and recorded is None:
        raise DataError("int8 is measured on the run's test images; give a run folder, not a classifier alone.")
    if int8 and recorded and TEST not in recorded.splits:
        raise DataError(
            "int8 is delivered only if the accuracy on test images bears it, and this run has none: it was "
            "cross-validated. Train with `test=0.2`, and export that run."
        )
    for_int8 = _int8_images(classifier, dataset, recorded) if int8 and recorded else None
    images = for_int8.test if for_int8 else _parity_images(classifier, dataset, recorded)
    if not images:
        raise DataError(f"No image of the run can be read in {dataset.origin!r}. Say where they are: `dataset=FOLDER`.")
    n = len(images)
    reporter.note(f"Exporting to {form.name}; then {n:,} images go through the exported file and through Topwork")
    if classifier.backbone.precision != "f32":
        reporter.note("This classifier computes in bf16, the file in float32; so does Topwork for this comparison")
    folder = Path(out) if out is not None else path / "exports" / (form.name + ("-int8" if int8 else ""))
    return export_classifier(
        classifier, to, folder, images, int8=for_int8, unknown=unknown, batch=batch, size=size, opset=opset
    )


def _parity_images(
    classifier: ImageClassifier, dataset: ImageDataset, recorded: RecordedImages | None
) -> list[Payload]:
    """Test images of the run; where it was cross-validated, images for training: both files answer all images alike."""
    is_tested = recorded is None or TEST in recorded.splits
    split, value_range = TEST if is_tested else TRAIN, classifier.backbone.recipe.value_range
    return _find(dataset, recorded, split, PARITY_IMAGES, value_range)[0]


def _int8_images(classifier: ImageClassifier, dataset: ImageDataset, recorded: RecordedImages) -> Int8Images:
    value_range = classifier.backbone.recipe.value_range
    calibration, _ = _find(dataset, recorded, TRAIN, CALIBRATION_IMAGES, value_range)
    test, names = _find(dataset, recorded, TEST, INT8_TEST_IMAGES, value_range)
    if not calibration:
        raise DataError(f"No training image of the run can be read in {dataset.origin!r}. Say where: `dataset=FOLDER`.")
    labels = np.array([classifier.class_names.index(name) for name in names])
    return Int8Images(calibration, test, labels)


def _find(
    dataset: ImageDataset, recorded: RecordedImages | None, split: str, n: int, value_range: ValueRange | None
) -> tuple[list[Payload], list[str]]:
    """Up to `n` readable images of the run's `split`, evenly spaced, with their labels; any where there's no list."""
    wanted = None if recorded is None else recorded.on(split)
    rows = np.arange(len(dataset)) if wanted is None else rows_of(dataset, wanted)
    if not len(rows):
        raise DataError(
            f"None of the run's {split} images is in {dataset.origin!r}. Say where they are: `dataset=FOLDER`."
        )
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int))]
    images: list[Payload] = []
    labels: list[str] = []
    with quiet_pillow():
        for row, payload in zip(chosen, dataset.source.payloads(dataset.rows[chosen]), strict=True):
            if _is_readable(payload, value_range) and (wanted is None or np.isin(digest_of(payload), wanted.digests)):
                images.append(developed(payload))
                labels.append(dataset.class_names[dataset.labels[row]])
    return images, labels


def _is_readable(payload: Payload, value_range: ValueRange | None) -> bool:
    try:
        read_image(payload, "image", value_range=value_range)
    except (BadImageError, OSError):
        return False
    return True
