"""`topwork learning-curve`: would more images help?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import (
    OutPath,
    backbone_options,
    data_options,
    device_option,
    load_dataset_and_backbone,
    output_options,
    reporter_for,
)
from topwork.cli.words import say, say_json
from topwork.types import Device

if TYPE_CHECKING:
    from topwork.evaluation.learning_curve import LearningCurve

EPILOG = """\b
Examples:
  topwork learning-curve photos/
  topwork learning-curve photos/ --out curve.html
"""


@click.command("learning-curve", epilog=EPILOG)
@click.argument("source")
@backbone_options
@click.option("--draws", type=click.IntRange(2), default=5, show_default=True, help="Of training images, at each size.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option("--out", type=OutPath(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it on an HTML page.")
@data_options
@device_option
@output_options
def learning_curve(
    source: str, draws: int, seed: int, out: Path | None, device: Device, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Measure accuracy with ever more of the images in SOURCE, and say what twice and four times as many would give.

    Linear tops on a frozen backbone, tested on images that none of them is trained on.
    """
    from topwork.evaluation.learning_curve import learning_curve_of

    reporter = reporter_for(quiet)
    dataset, backbone = load_dataset_and_backbone(source, options, reporter, device=device)
    curve = learning_curve_of(
        dataset,
        backbone,
        n_draws=draws,
        seed=seed,
        device=device,
        reporter=reporter,
    )
    if out is not None:
        from topwork.files import write_text
        from topwork.report.curve import curve_html

        write_text(out, curve_html(curve, backbone, dataset.origin))
    if as_json:
        say_json(curve.as_dict())
    else:
        say(_as_text(curve, out))


def _as_text(curve: LearningCurve, out: Path | None) -> str:
    facts = curve.as_dict()
    tested = f"{curve.n_test:,} {'images, cross-validated' if curve.n_folds else 'test images'}"
    lines = ["", f"{'training images':>15}  test accuracy  95 % interval"]
    for row in facts["measured"]:
        lines.append(_line(row))
    for row in facts["expected"]:
        lines.append(_line(row) + "  expected")
    return "\n".join([*lines, f"Measured on {tested}", "", curve.advice, *([f"Drawn in {out}"] if out else [])])


def _line(row: dict[str, Any]) -> str:
    return f"{row['n']:>15,}  {100 * row['value']:>11.1f} %  {100 * row['low']:.1f} to {100 * row['high']:.1f}"
