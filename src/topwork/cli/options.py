"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from topwork.data.dataset import ImageDataset
    from topwork.progress import Reporter

Function = TypeVar("Function", bound=Callable[..., Any])


def data_options(function: Function) -> Function:
    """How to read the images: columns of a table, classes to leave out."""
    options = (
        click.option("--image-column", metavar="NAME", help="Table column with paths or encoded images."),
        click.option("--label-column", metavar="NAME", help="Table column with labels."),
        click.option("--split-column", metavar="NAME", help="Table column with train, validation, test."),
        click.option("--group-column", metavar="NAME", help="Table column whose equal values stay on one side."),
        click.option(
            "--ignore-class",
            "ignore_classes",
            metavar="NAME",
            multiple=True,
            help="Leave a class folder out.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def output_options(function: Function) -> Function:
    """How to report."""
    function = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")(
        function
    )
    return click.option("--quiet", "-q", is_flag=True, help="No progress; only the result, warnings and errors.")(
        function
    )


def device_option(function: Function) -> Function:
    """Where the backbone runs."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "gpu"]),
        default="auto",
        show_default=True,
        help="Where the backbone runs; auto takes an accelerator where JAX sees one.",
    )(function)


def reporter_for(quiet: bool) -> Reporter:
    """Progress on standard error, or warnings alone."""
    from topwork.progress import QuietReporter, console_reporter

    return QuietReporter() if quiet else console_reporter()


def load_dataset(source: str, options: dict[str, Any], reporter: Reporter, *, offline: bool = False) -> ImageDataset:
    """The images that the user named; tells `reporter` what was found, and what was passed over."""
    from topwork.data.dataset import ImageDataset

    dataset = ImageDataset.load(source, **options, offline=offline)
    reporter.note(f"{len(dataset):,} images of {len(dataset.class_names):,} classes in {dataset.origin}")
    for note in dataset.notes:
        reporter.warning(note)
    return dataset
