"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from topwork.cli.words import FlagReporter
from topwork.types import Device, Frame, GroupBy, Pooling, Precision, ValAs
from topwork.words import counted

if TYPE_CHECKING:
    from topwork.backbones.backbone import Backbone
    from topwork.data.dataset import ImageDataset
    from topwork.data.images import Images
    from topwork.progress import Reporter
    from topwork.types import ValueRange

Function = TypeVar("Function", bound=Callable[..., Any])


_DATA_OPTIONS = (
    *("image_column", "label_column", "split_column", "group_column", "image_root"),
    *("ignore_classes", "min_images", "skip_unlabelled", "val_as", "group_by", "group_pattern", "labels"),
    *("exclude", "relabel"),
)
_FILE = click.Path(dir_okay=False, path_type=Path)


def data_options(function: Function) -> Function:
    """How to read the images: columns of a table, classes and images to leave out, labels to correct."""
    options = (
        click.option("--image-column", metavar="NAME", help="Table column with paths or encoded images."),
        click.option("--label-column", metavar="NAME", help="Table column with labels."),
        click.option("--split-column", metavar="NAME", help="Table column with train, validation, test."),
        click.option("--group-column", metavar="NAME", help="Table column whose equal values stay in one split."),
        click.option(
            "--image-root", metavar="FOLDER", help="Where the paths of a table start.  [default: the table's folder]"
        ),
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
        click.option("--skip-unlabelled", is_flag=True, help="Leave out the rows of a table that have no label."),
        click.option(
            "--val-as",
            type=click.Choice(get_args(ValAs)),
            default="test",
            show_default=True,
            help="What val/ is for, where there is train/ and no test/.",
        ),
        click.option(
            "--group-by",
            type=click.Choice(get_args(GroupBy)),
            help="Keep the images of each folder below the class folders in one split.",
        ),
        click.option(
            "--group-pattern",
            metavar="REGEX",
            help="Keep images in one split in whose paths the first capture is the same, such as '(site[0-9]+)'.",
        ),
        click.option(
            "--labels",
            type=_FILE,
            metavar="FILE",
            help="Of a folder: the labels that `topwork label` wrote, in the place of sub-folders.",
        ),
        click.option(
            "--exclude",
            type=_FILE,
            metavar="FILE",
            multiple=True,
            help="Leave out the images marked in its column exclude (a run's findings.csv), or named one a line.",
        ),
        click.option(
            "--relabel",
            type=_FILE,
            metavar="FILE",
            multiple=True,
            help="Give images the label in its column new_label (a run's findings.csv).",
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
            default="auto",
            show_default=True,
            help="The frozen network: one that `topwork backbones` lists; a file, .onnx or .xml; or hf:OWNER/NAME. "
            "auto takes the starter for small images, and efficientnet_lite0 for photographs.",
        ),
        click.option(
            "--weights", metavar="imagenet|random|FILE", help="Its weights.  [default: its own pretrained ones]"
        ),
        click.option(
            "--size", type=int, metavar="PIXELS", help="Side of its input.  [default: the size it was trained on]"
        ),
        click.option(
            "--pooling",
            type=click.Choice([name for name in get_args(Pooling) if name != "stages"]),
            help="What becomes of its last feature map; or of an output with tokens: the class token, or the mean of "
            "the patches.  [default: avg]",
        ),
        click.option(
            "--output", metavar="NAME", help="Of a network from a file: the output, or tensor inside, that is features."
        ),
        click.option("--bgr", is_flag=True, help="Of a network from a file: it needs blue, green, red, as Caffe's do."),
        click.option("--mean", type=_Numbers(), metavar="R,G,B", help="Of a network from a file: it needs"),
        click.option(
            "--std",
            type=_Numbers(),
            metavar="R,G,B",
            help="(pixel / 255 - mean) / std.  [default: what the JSON beside the file says]",
        ),
        click.option(
            "--precision",
            type=click.Choice([*get_args(Precision), "auto"]),
            default="f32",
            show_default=True,
            help="Of its arithmetic; auto takes bf16, twice as fast, where a sample of the images shows it harmless.",
        ),
        click.option(
            "--frame",
            type=click.Choice(get_args(Frame)),
            help="What it sees of a picture that is no square: the centre; all, with grey beside; or all, squashed.  "
            "[default: crop, or what is said beside a file]",
        ),
        click.option(
            "--range",
            "value_range",
            type=_Range(),
            metavar="LOW,HIGH",
            help="Of pictures with 16 or 32 bits a channel, the values that become black and white, such as 0,4095.  "
            "[default: what the images for training use]",
        ),
        click.option("--half", is_flag=True, help="Keep features in half precision, which takes half the disk."),
        click.option("--offline", is_flag=True, help="Never use the network."),
    )
    for option in reversed(options):
        function = option(function)
    return function


class OutPath(click.Path):
    """Where something is written: on this machine."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from topwork.objects import is_address

        if is_address(str(value)):
            self.fail(f"Expected a place on this machine; got {value!r}. Write it here, and copy it there.", param, ctx)
        return super().convert(value, param, ctx)


class _Range(click.ParamType):  # type: ignore[type-arg]
    name = "LOW,HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ValueRange:
        from topwork.features.ranges import read_range

        try:
            return read_range(str(value))
        except ValueError:
            self.fail(f"Expected two rising numbers, such as 0,4095; got {value!r}.", param, ctx)


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    name = "R,G,B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 3):
            self.fail(f"Expected one number or three, such as 0.485,0.456,0.406; got {value!r}.", param, ctx)
        return numbers


def load_dataset_and_backbone(
    source: str, options: dict[str, Any], reporter: Reporter, *, device: Device, seed: int = 0
) -> tuple[ImageDataset, Backbone]:
    """The images in `source` by `data_options`, and the backbone by `backbone_options`; tells `reporter` which."""
    data = {name: options[name] for name in _DATA_OPTIONS}
    dataset = load_dataset(source, data, reporter, offline=options["offline"])
    return dataset, load_backbone_for(dataset, options, reporter, device=device, seed=seed)


def load_backbone_for(
    images: Images, options: dict[str, Any], reporter: Reporter, *, device: Device, seed: int = 0
) -> Backbone:
    """The backbone by `backbone_options` that is to see these images; tells `reporter` which."""
    from topwork.backbones.backbone import load_backbone
    from topwork.backbones.cards import AUTO
    from topwork.features.choice import load_auto

    if options["backbone"] == AUTO and options["weights"]:
        raise click.UsageError("--weights are of a network: name it with --backbone.")
    load = partial(load_auto, images) if options["backbone"] == AUTO else partial(load_backbone, options["backbone"])
    backbone = load_with(load, options, reporter, seed=seed)
    if options["precision"] == "auto":
        from topwork.classifier.precision import choose_precision

        backbone = choose_precision(images, backbone, device=device, reporter=reporter)
    return backbone


def load_with(load: Callable[..., Backbone], options: dict[str, Any], reporter: Reporter, *, seed: int = 0) -> Backbone:
    """The backbone that `load` gives for `backbone_options`; tells `reporter` which."""
    backbone = load(
        weights=options["weights"],
        size=options["size"],
        pooling=options["pooling"],
        precision="f32" if options["precision"] == "auto" else options["precision"],
        output=options["output"],
        mean=options["mean"],
        std=options["std"],
        bgr=options["bgr"],
        frame=options["frame"],
        value_range=options["value_range"],
        half=options["half"],
        seed=seed,
        offline=options["offline"],
        reporter=reporter,
    )
    reporter.note(
        f"Backbone {backbone.name}, {backbone.size}×{backbone.size} pixels, weights {backbone.weights.origin}"
    )
    return backbone


def device_option(function: Function) -> Function:
    """Where the backbone runs."""
    return click.option(
        "--device",
        type=click.Choice(get_args(Device)),
        default="auto",
        show_default=True,
        help="Where the backbone runs; auto takes an accelerator where JAX sees one.",
    )(function)


def reporter_for(quiet: bool) -> Reporter:
    """Progress on standard error, or warnings alone."""
    from topwork.progress import QuietReporter, console_reporter

    return FlagReporter(QuietReporter() if quiet else console_reporter())


def load_dataset(source: str, options: dict[str, Any], reporter: Reporter, *, offline: bool = False) -> ImageDataset:
    """The images that the user named; tells `reporter` what was found, and what was passed over."""
    from topwork.data.dataset import ImageDataset

    columns = {name: value for name, value in options.items() if name not in ("exclude", "relabel")}
    dataset = ImageDataset.load(source, **columns, offline=offline, reporter=reporter)
    classes = counted(len(dataset.class_names), "class", "classes")
    reporter.note(f"{counted(len(dataset), 'image')} of {classes} in {dataset.origin}")
    for note in dataset.notes:
        reporter.warning(note)
    return _corrected(dataset, options["exclude"], options["relabel"], reporter)


def _corrected(
    dataset: ImageDataset, exclude: tuple[Path, ...], relabel: tuple[Path, ...], reporter: Reporter
) -> ImageDataset:
    """The dataset as a person corrected it in these files; tells `reporter` how much that is."""
    from topwork.data.corrections import read_exclusions, read_labels

    if relabel:  # before images go, so that one may be named for both
        for path in relabel:
            dataset = dataset.relabelled(read_labels(path))
        reporter.note(f"{counted(len(dataset.corrections.relabelled), 'label')} changed by --relabel")
    if exclude:
        dataset = dataset.without({name: None for path in exclude for name in read_exclusions(path)})
        reporter.note(f"{counted(len(dataset.corrections.excluded), 'image')} left out by --exclude")
    return dataset
