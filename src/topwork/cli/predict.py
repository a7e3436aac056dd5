"""`topwork predict`: class, probability and runners-up of images."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import device_option, reporter_for

if TYPE_CHECKING:
    from topwork.classifier.predictions import Predictions

EPILOG = """\b
Examples:
  topwork predict runs/photos-1 new/*.jpg
  topwork predict runs/photos-1 new/ --format csv > answers.csv
  topwork predict runs/photos-1 new/ --unknown
"""

UNKNOWN = "unknown"


@click.command(epilog=EPILOG)
@click.argument("run")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True)
@click.option("--runners-up", type=click.IntRange(0), default=2, show_default=True, help="How many to show.")
@click.option("--unknown", is_flag=True, help="Answer unknown for images unlike all that it was trained on.")
@device_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def predict(
    run: str, images: tuple[Path, ...], form: str, runners_up: int, unknown: bool, device: str, quiet: bool
) -> int:
    """Say what is on IMAGES (files, or folders of them), by the classifier in RUN.

    Images that can't be read are named among the answers; the exit status is then 1.
    """
    from topwork.classifier.saving import load_classifier
    from topwork.data.sources import FileImages
    from topwork.errors import OptionError

    classifier = load_classifier(run, device=device)  # type: ignore[arg-type]
    if unknown and classifier.novelty is None:
        raise OptionError(
            "This classifier can't tell unknown images: it had fewer than 20 images for validation, or a top that "
            "isn't ours. Train it anew with more images."
        )
    paths = _files(images)
    progress = quiet or len(paths) < 100
    predictions = classifier.predict_source(FileImages(paths), reporter_for(progress))
    rows = _rows(predictions, runners_up, unknown)
    click.echo({"text": _text, "csv": _csv, "json": _json}[form](rows), nl=False)
    return 1 if predictions.bad else 0


def _files(images: tuple[Path, ...]) -> tuple[str, ...]:
    from topwork.data.folders import image_files
    from topwork.errors import DataError
    from topwork.files import printable

    paths: list[str] = []
    for path in images:
        if path.is_dir():
            found = sorted(image_files(path, Counter()))
            if not found:
                raise DataError(f"There are no images in {printable(str(path))!r}.")
            paths += found
        else:
            paths.append(str(path))
    return tuple(paths)


def _rows(predictions: Predictions, runners_up: int, unknown: bool) -> list[dict[str, Any]]:
    """One row an image, in order: its answers, the most probable first, or why there are none."""
    rows: list[dict[str, Any]] = [{"image": name} for name in predictions.names]
    for bad in predictions.bad:
        rows[bad.index]["error"] = bad.reason
    for place, (index, probabilities) in enumerate(zip(predictions.indices, predictions.probabilities, strict=True)):
        order = (-probabilities).argsort(kind="stable")[: runners_up + 1]
        answers: list[dict[str, Any]] = [
            {"class": predictions.class_names[i], "probability": round(float(probabilities[i]), 6)} for i in order
        ]
        if unknown and predictions.is_unknown is not None and predictions.is_unknown[place]:
            answers = [{"class": UNKNOWN, "probability": None}, *answers[:runners_up]]
        rows[index]["answers"] = answers
    return rows


def _text(rows: list[dict[str, Any]]) -> str:
    width = min(max(len(row["image"]) for row in rows), 60)
    longest = max((len(row["answers"][0]["class"]) for row in rows if "answers" in row), default=0)
    lines = []
    for row in rows:
        name = f"{row['image']:<{width}}"
        if "error" in row:
            lines.append(f"{name}  can't be read: {row['error']}")
            continue
        first, *others = row["answers"]
        rest = "   " + ", ".join(f"{other['class']} {100 * other['probability']:.1f} %" for other in others)
        sure = f"{'':>7}" if first["probability"] is None else f"{100 * first['probability']:5.1f} %"
        lines.append(f"{name}  {first['class']:<{longest}}  {sure}{rest if others else ''}")
    return "\n".join(lines) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    n = max((len(row["answers"]) for row in rows if "answers" in row), default=1)
    header = ["image", "class", "probability"]
    for i in range(2, n + 1):
        header += [f"class_{i}", f"probability_{i}"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, "error"])
    for row in rows:
        cells = [cell for answer in row.get("answers", []) for cell in (answer["class"], answer["probability"])]
        writer.writerow([row["image"], *cells, *[""] * (2 * n - len(cells)), row.get("error", "")])
    return text.getvalue()


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps([_json_row(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def _json_row(row: dict[str, Any]) -> dict[str, Any]:
    if "error" in row:
        return {"image": row["image"], "error": row["error"]}
    first, *others = row["answers"]
    return {"image": row["image"], **first, "runners_up": others}
