"""`topwork export`: the classifier as one file for other software."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import data_options, load_dataset, reporter_for
from topwork.cli.words import say
from topwork.export.formats import FORMATS

if TYPE_CHECKING:
    from topwork.export.export import Export

EPILOG = """\b
Examples:
  topwork export runs/photos-1 --to onnx
  topwork export runs/photos-1 --to openvino --int8
  topwork export runs/photos-1 --to keras --data moved/photos/
"""


@click.command(epilog=EPILOG)
@click.argument("run")
@click.option(
    "--to",
    required=True,
    type=click.Choice(list(FORMATS)),
    help="The format.",
)
@click.option("--int8", is_flag=True, help="onnx, openvino: in 8 bits; shows what that costs on the test images.")
@click.option("--out", type=click.Path(), metavar="FOLDER", help="Where to.  [default: RUN/exports/FORMAT]")
@click.option("--data", "source", metavar="SOURCE", help="Where the run's images are now.  [default: where they were]")
@data_options
@click.option("--quiet", "-q", is_flag=True, help="No progress; only the result, warnings and errors.")
def export(run: str, to: str, int8: bool, out: str | None, source: str | None, quiet: bool, **data: Any) -> None:
    """Write the classifier in RUN as a file for other software, with a program that uses it.

    Test images of the run then go from file to probability through the exported file and through Topwork. Where the
    two differ, nothing is delivered.
    """
    from topwork.runs.exporting import export_run

    reporter = reporter_for(quiet)
    dataset = None if source is None else load_dataset(source, data, reporter)
    say(_as_text(export_run(run, to, out=out, dataset=dataset, int8=int8, reporter=reporter), to))


def _as_text(done: Export, to: str) -> str:
    from topwork.export.gate import TOLERANCE
    from topwork.files import printable

    gate, folder = done.gate, shlex.quote(printable(str(done.folder)))
    lines = [
        f"{printable(str(done.file))}, {done.n_bytes / 1e6:,.1f} MB",
        f"Gate: {gate.n_agree:,} of {gate.n_images:,} images get the same class from {gate.runtime} and from "
        f"Topwork; probabilities differ by {gate.largest_difference:.2g} at most",
    ]
    if done.int8 is None:
        lines[-1] += f" ({TOLERANCE:g} is allowed)"
    else:
        lines.append(f"Test accuracy {done.int8.before} in float32, {done.int8.after} in int8")
    lines.append(f"Use it without Topwork: pip install {FORMATS[to].install} pillow; python {folder}/use.py IMAGE")
    return "\n".join(lines)
