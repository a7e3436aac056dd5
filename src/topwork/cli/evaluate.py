"""`topwork evaluate`: how good a classifier is on other labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import data_options, device_option, load_dataset, output_options, reporter_for
from topwork.cli.words import say, say_json

if TYPE_CHECKING:
    from topwork.evaluation.metrics import Evaluation

EPILOG = """\b
Examples:
  topwork evaluate runs/photos-1 other-photos/
  topwork evaluate runs/photos-1 labels.csv --json
"""


@click.command(epilog=EPILOG)
@click.argument("run")
@click.argument("source")
@data_options
@device_option
@output_options
def evaluate(run: str, source: str, device: str, quiet: bool, as_json: bool, **data: Any) -> None:
    """Evaluate the classifier in RUN on the labelled images in SOURCE.

    Images that it was trained on are left out: on them it looks better than it is.
    """
    from topwork.runs.run import evaluate_run

    reporter = reporter_for(quiet)
    dataset = load_dataset(source, data, reporter)
    evaluation = evaluate_run(run, dataset, device=device, reporter=reporter)  # type: ignore[arg-type]
    if as_json:
        say_json(evaluation.as_dict())
    else:
        say(_as_text(evaluation))


def _as_text(evaluation: Evaluation) -> str:
    accuracy = evaluation.accuracy
    lines = [
        "",
        f"Accuracy {100 * accuracy.value:.1f} % (95 % interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}) "
        f"on {accuracy.n:,} images",
        f"Balanced accuracy {100 * evaluation.balanced_accuracy.value:.1f} %, log loss {evaluation.log_loss.value:.3f}",
    ]
    if evaluation.most_confused:
        pairs = ", ".join(f"{true} called {called} ({n:,})" for true, called, n in evaluation.most_confused[:3])
        lines.append(f"Most confused: {pairs}")
    if evaluation.n_bad:
        lines.append(f"{evaluation.n_bad:,} images could not be read and were left out")
    width = max(len(result.name) for result in evaluation.classes)
    lines += ["", f"{'class':<{width}}  images  recall  precision     F1"]
    for result in evaluation.classes:
        precision = f"{100 * result.precision.value:8.1f} %" if result.precision else f"{'–':>10}"
        lines.append(
            f"{result.name:<{width}}  {result.n:>6,}  {100 * result.recall.value:4.0f} % {precision}  {result.f1:.3f}"
        )
    return "\n".join(lines)
