"""`topwork explain`: why this answer?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from topwork.cli.options import OutPath, device_option
from topwork.cli.words import say

if TYPE_CHECKING:
    from topwork.runs.neighbours import Neighbour

EPILOG = """\b
Examples:
  topwork explain runs/photos-1 new/1.jpg
  topwork explain runs/photos-1 new/1.jpg --class beech --out why.html
"""


@click.command(epilog=EPILOG)
@click.argument("run")
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--class", "class_name", metavar="NAME", help="Explain this class.  [default: the most probable one]")
@click.option(
    "--out",
    type=OutPath(dir_okay=False, path_type=Path),
    default=Path("explanation.html"),
    show_default=True,
    metavar="FILE",
    help="The page with the heat map.",
)
@device_option
def explain(run: str, image: Path, class_name: str | None, out: Path, device: str) -> None:
    """Show what in IMAGE speaks for the answer of the classifier in RUN, and the training images nearest to it."""
    from topwork.classifier.explanation import explain as explain_image
    from topwork.classifier.loading import load_classifier
    from topwork.data.decoding import digest_of
    from topwork.errors import BadImageError
    from topwork.files import printable, write_text
    from topwork.report.explanation import explanation_html
    from topwork.runs.neighbours import nearest_training_images, pictures_of_neighbours

    classifier = load_classifier(run, device=device)  # type: ignore[arg-type]
    shown = printable(str(image))
    try:
        found = explain_image(classifier, image, class_name=class_name)
    except OSError as error:
        raise BadImageError(shown, error.strerror or str(error)) from error
    neighbours = nearest_training_images(Path(run), classifier, found.features, besides=digest_of(image))
    pictures = pictures_of_neighbours(Path(run), neighbours)
    write_text(out, explanation_html(found, shown, list(zip(neighbours, pictures, strict=True))))
    say(f"{shown}: {found.class_name}, {100 * found.probability:.1f} %")
    say(f"What speaks for it, by {found.method}: {printable(str(out))}")
    say(_neighbours_text(neighbours))


def _neighbours_text(neighbours: list[Neighbour]) -> str:
    if not neighbours:
        return "The training images' features are not on this machine, so the nearest can't be named."
    lines = ["Nearest training images:"]
    return "\n".join(lines + [f"  {item.label}  {item.name}  (cosine {item.cosine:.2f})" for item in neighbours])
