"""`topwork export`: the classifier as one file for other software."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import OutPath, data_options, load_dataset, reporter_for
from topwork.cli.words import say
from topwork.export.formats import FORMATS

if TYPE_CHECKING:
    from topwork.export.export import Export

EPILOG = """\b
Examples:
  topwork export runs/photos-1 --to onnx
  topwork export runs/photos-1 --to openvino --int8
  topwork export runs/photos-1 --to onnx --opset 13 --size 224 --batch 1
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
@click.option("--opset", type=int, metavar="N", help="onnx: 13 to 21.  [default: 18]")
@click.option("--batch", type=int, metavar="N", help="Fix how many images it takes at a time.  [default: any number]")
@click.option(
    "--size",
    type=int,
    metavar="PIXELS",
    help="Fix its input to squares of the backbone's size; use.py makes them.  [default: pictures of any size]",
)
@click.option("--no-unknown", is_flag=True, help="Leave out what tells unknown images, and with it training features.")
@click.option("--out", type=OutPath(), metavar="FOLDER", help="Where to.  [default: RUN/exports/FORMAT]")
@click.option("--data", "source", metavar="SOURCE", help="Where the run's images are now.  [default: where they were]")
@data_options
@click.option("--quiet", "-q", is_flag=True, help="No progress; only the result, warnings and errors.")
def export(
    run: str,
    to: str,
    int8: bool,
    opset: int | None,
    batch: int | None,
    size: int | None,
    no_unknown: bool,
    out: str | None,
    source: str | None,
    quiet: bool,
    **data: Any,
) -> None:
    """Write the classifier in RUN as a file for other software, with a program that uses it.

    Test images of the run then go from file to probability through the exported file and through Topwork. Where the
    two differ, nothing is delivered.
    """
    from topwork.runs.exporting import export_run

    reporter = reporter_for(quiet)
    dataset = None if source is None else load_dataset(source, data, reporter)
    done = export_run(
        run,
        to,
        out=out,
        dataset=dataset,
        int8=int8,
        unknown=not no_unknown,
        batch=batch,
        size=size,
        opset=opset,
        reporter=reporter,
    )
    say(_as_text(done, to))


def _as_text(done: Export, to: str) -> str:
    from topwork.export.parity import NOVELTY_TOLERANCE, TOLERANCE
    from topwork.files import printable

    parity, folder = done.parity, shlex.quote(printable(str(done.folder)))
    lines = [
        f"{printable(str(done.file))}, {done.n_bytes / 1e6:,.1f} MB",
        f"Parity: {parity.n_agree:,} of {parity.n_images:,} images get the same class from {parity.runtime} and from "
        f"Topwork; probabilities differ by {parity.largest_difference:.2g} at most",
    ]
    if done.int8 is None:
        lines[-1] += f" ({TOLERANCE:g} is allowed)"
    if parity.n_agree_unknown is not None:
        allowed = "" if done.int8 else f" ({NOVELTY_TOLERANCE:g} is allowed)"
        lines.append(
            f"Unknown images: {parity.n_agree_unknown:,} of {parity.n_images:,} are told alike; scores differ by "
            f"{parity.largest_novelty_difference:.2g} at most{allowed}"
        )
    if done.int8 is not None:
        lines.append(f"Test accuracy {done.int8.before} in float32, {done.int8.after} in int8")
    lines.append(f"Use it without Topwork: pip install {FORMATS[to].install} pillow; python {folder}/use.py IMAGE")
    return "\n".join(lines)
