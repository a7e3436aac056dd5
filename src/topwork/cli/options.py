"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from topwork.cli.words import with_flags

if TYPE_CHECKING:
    from topwork.backbones.backbone import Backbone
    from topwork.backbones.engines import Device
    from topwork.data.dataset import ImageDataset
    from topwork.progress import Reporter

Function = TypeVar("Function", bound=Callable[..., Any])


_DATA_OPTIONS = (
    *("image_column", "label_column", "split_column", "group_column"),
    *("ignore_classes", "min_images", "val_as", "group_by", "group_pattern"),
)


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
            help="Leave a class out.",
        ),
        click.option(
            "--min-images", type=click.IntRange(0), default=0, metavar="N", help="Leave out classes with fewer images."
        ),
        click.option(
            "--val-as",
            type=click.Choice(["test", "validation"]),
            default="test",
            show_default=True,
            help="What val/ is for, where there is train/ and no test/.",
        ),
        click.option(
            "--group-by",
            type=click.Choice(["folder"]),
            help="Keep the images of each folder below the class folders in one split.",
        ),
        click.option(
            "--group-pattern",
            metavar="REGEX",
            help="Keep images in one split in whose paths the first capture is the same, such as '(site[0-9]+)'.",
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


def backbone_options(function: Function) -> Function:
    """Which frozen network sees the images."""
    options = (
        click.option(
            "--backbone",
            default="starter",
            show_default=True,
            help="The frozen network; `topwork backbones` lists them.",
        ),
        click.option(
            "--weights", metavar="imagenet|random|FILE", help="Its weights.  [default: its own pretrained ones]"
        ),
        click.option(
            "--size", type=int, metavar="PIXELS", help="Side of its input.  [default: the size it was trained on]"
        ),
        click.option(
            "--pooling",
            type=click.Choice(["avg", "max", "flatten"]),
            default="avg",
            show_default=True,
            help="What becomes of its last feature map.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["f32", "bf16", "auto"]),
            default="f32",
            show_default=True,
            help="Of its arithmetic; auto takes bf16, twice as fast, where a sample of the images shows it harmless.",
        ),
        click.option("--offline", is_flag=True, help="Never use the network."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def load_dataset_and_backbone(
    source: str, options: dict[str, Any], reporter: Reporter, *, device: Device, seed: int = 0
) -> tuple[ImageDataset, Backbone]:
    """The images in `source` by `data_options`, and the backbone by `backbone_options`; tells `reporter` which."""
    from topwork.backbones.backbone import load_backbone

    data = {name: options[name] for name in _DATA_OPTIONS}
    dataset = load_dataset(source, data, reporter, offline=options["offline"])
    backbone = load_backbone(
        options["backbone"],
        weights=options["weights"],
        size=options["size"],
        pooling=options["pooling"],
        precision="f32" if options["precision"] == "auto" else options["precision"],
        seed=seed,
        offline=options["offline"],
        reporter=reporter,
    )
    reporter.note(
        f"Backbone {backbone.name}, {backbone.size}×{backbone.size} pixels, weights {backbone.weights.origin}"
    )
    if options["precision"] == "auto":
        from topwork.classifier.precision import choose_precision

        backbone = choose_precision(dataset, backbone, device=device, reporter=reporter)
    return dataset, backbone


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
        reporter.warning(with_flags(note))
    return dataset
