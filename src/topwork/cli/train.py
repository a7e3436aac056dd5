"""`topwork train`: images in, a tested classifier in a run folder out."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any, get_args

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
from topwork.cli.words import cut_remark, frames_remark, say, say_json
from topwork.types import OnBadImage, Part
from topwork.words import counted, tuned_part

if TYPE_CHECKING:
    from topwork.backbones.backbone import Backbone
    from topwork.classifier.record import Training
    from topwork.runs.run import Run

EPILOG = """\b
Examples:
  topwork train digits
  topwork train photos/
  topwork train photos/ --backbone resnet50v2 --top 256 --dropout 0.5 --patience 10
  topwork train photos/ --fine-tune                 # the last stage of the network too, where that is better
  topwork train photos/ --labels photos.labels.csv    # made by `topwork label photos/`
  topwork train table.parquet --label-column species --group-column camera
  topwork train photos/ --exclude findings.csv --relabel findings.csv    # a run's findings.csv, filled in
"""

STEP_UP = "densenet121"
STEP_UP_TIMES = 75
"""How much longer it takes than the starter, each at its own size: 32 and 2,400 images/s side by side on two cores."""
ENOUGH_TO_FORETELL = 500
"""Images below which the time says more about starting than about the network."""

_LAYER_OPTIONS = ("dropout", "learning_rate", "batch_size", "epochs", "patience")


class _TestAs(click.ParamType):  # type: ignore[type-arg]
    name = "auto|FRACTION|cv"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value in ("auto", "cv"):
            return str(value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"Expected auto, cv, or a fraction such as 0.2; got {value!r}.", param, ctx)


@click.command(epilog=EPILOG)
@click.argument("source")
@backbone_options
@click.option(
    "--top",
    "top_spec",
    default="linear",
    show_default=True,
    metavar="linear|SIZE[,SIZE…]",
    help="linear: logistic regression, its L2 chosen by cross-validation. Sizes: Dense layers with dropout.",
)
@click.option(
    "--features",
    type=click.Choice(["last", "all-stages", "auto"]),
    default="last",
    show_default=True,
    help="The backbone's last map alone, or the maps of all its stages, pooled: helps where images are far from "
    "photographs of things. auto takes all where held-out images are surely likelier by them.",
)
@click.option("--dropout", type=float, help="Dense layers: part of the units left out.  [default: 0.5]")
@click.option("--learning-rate", type=float, help="Dense layers: Adam's.  [default: 0.001]")
@click.option("--batch-size", type=int, help="Dense layers: images a step.  [default: 32]")
@click.option("--epochs", type=int, help="Dense layers: at most.  [default: 100]")
@click.option("--patience", type=int, help="Dense layers: epochs without a lower validation loss.  [default: 10]")
@click.option(
    "--flip",
    is_flag=True,
    help="Train on the training images flipped left to right too; not where left and right differ, as in text.",
)
@click.option(
    "--fine-tune",
    is_flag=False,
    flag_value="last-stage",
    type=click.Choice(get_args(Part)),
    help="Train the last part of the network too, last-stage where none is named, or all of it, which takes many times "
    "as long; kept only if it is surely better.",
)
@click.option(
    "--views",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="With --fine-tune: augmented views of each image beside the plain one.",
)
@click.option("--balanced", is_flag=True, help="Weigh classes by their rarity.")
@click.option(
    "--test",
    "test_as",
    type=_TestAs(),
    default="auto",
    show_default=True,
    metavar="auto|FRACTION|cv",
    help="Where the data brings no test images: part of the images for testing; or cv, each image once by a top that "
    "learned from others (cross-validation). auto: cv below 1,000 images, else 0.2.",
)
@click.option(
    "--validation",
    "validation_fraction",
    type=float,
    default=0.1,
    show_default=True,
    help="Part of the rest for validation, where the data brings none.",
)
@data_options
@click.option(
    "--on-bad-image",
    type=click.Choice(get_args(OnBadImage)),
    default="skip",
    show_default=True,
    help="Skip and list images that can't be read, or stop at the first.",
)
@click.option(
    "--store",
    metavar="FOLDER|ADDRESS",
    help="Take features from where `topwork extract` keeps them, instead of reading all images.",
)
@click.option(
    "--sample",
    type=click.IntRange(100),
    metavar="N",
    help="Train on about N of the images, each class in proportion, where the features of all do not fit.",
)
@click.option("--no-check", is_flag=True, help="Don't look for copies, wrong labels and strange images.")
@click.option("--mlflow", is_flag=True, help="Log the run to MLflow too; MLFLOW_TRACKING_URI says where.")
@click.option("--tensorboard", is_flag=True, help="Log the run for TensorBoard too, in its folder.")
@click.option("--out", type=OutPath(), metavar="FOLDER", help="The run folder.  [default: runs/NAME-1, -2, …]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Random seed.")
@device_option
@output_options
def train(source: str, **options: Any) -> None:
    """Train a classifier on the images in SOURCE, test it, and write a run folder.

    SOURCE is a folder with a sub-folder per class (or train/, validation/, test/ above the classes), a CSV or
    Parquet table, a zip or tar, a folder or quoted pattern of tables or archives, an address such as
    s3://bucket/photos/, or one of digits, mnist, fashion_mnist, cifar10, cifar100.
    """
    top = _top(options)
    if options["features"] != "last":
        if options["pooling"]:
            raise click.UsageError("--features says how maps are pooled: leave --pooling out.")
        if options["features"] == "auto" and top:
            raise click.UsageError("--features auto is for --top linear; choose last or all-stages for Dense layers.")
        options["pooling"] = "stages"
    if options["fine_tune"]:
        _require_tunable(top, options)
    elif options["views"]:
        raise click.UsageError("--views goes with --fine-tune.")
    reporter = reporter_for(options["quiet"])
    from topwork.files import printable
    from topwork.runs.run import train as train_run
    from topwork.runs.trackers import TRACKERS

    dataset, backbone = load_dataset_and_backbone(
        source, options, reporter, device=options["device"], seed=options["seed"]
    )
    n_images = len(dataset)
    n_sample = options["sample"] or n_images
    if options["store"]:
        from topwork.features.sharded import with_extracted
        from topwork.objects import open_objects

        store = open_objects(options["store"])
        dataset = with_extracted(
            dataset, backbone, store, choose=lambda images: images.sample(n_sample), reporter=reporter
        )
    elif n_sample < n_images:
        dataset.read_digests(reporter)
        dataset = dataset.sample(n_sample)
    if options["sample"]:
        reporter.note(f"A sample of {len(dataset):,} of {counted(n_images, 'image')}")
    finished = train_run(
        dataset,
        backbone,
        top=_build_top(top, options, backbone),
        test=options["test_as"],
        validation=options["validation_fraction"],
        flip=options["flip"],
        fine_tune=options["fine_tune"],
        views=options["views"],
        seed=options["seed"],
        out=options["out"],
        on_bad_image=options["on_bad_image"],
        device=options["device"],
        check=not options["no_check"],
        trackers=[name for name in TRACKERS if options[name]],
        command=printable(shlex.join(["topwork", *sys.argv[1:]])),
        reporter=reporter,
    )
    if options["as_json"]:
        say_json(_as_dict(finished))
    else:
        say(_as_text(finished))


def _require_tunable(top: list[int], options: dict[str, Any]) -> None:
    """What doesn't go with fine-tuning is said; images for testing are held out."""
    if top or options["flip"]:
        raise click.UsageError(f"--fine-tune begins with a linear top: leave {'--top' if top else '--flip'} out.")
    if options["test_as"] == "auto":
        from topwork.data.splits import TEST_FRACTION

        options["test_as"] = TEST_FRACTION


def _top(options: dict[str, Any]) -> list[int]:
    """The hidden sizes that `--top` names; none for a linear top."""
    if options["top_spec"] == "linear":
        given = [name for name in _LAYER_OPTIONS if options[name] is not None]
        if given:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for Dense layers; add --top 256, for example.")
        return []
    try:
        sizes = [int(size) for size in options["top_spec"].split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise click.UsageError(
            f"Expected --top to be linear, or sizes such as 256 or 512,256; got {options['top_spec']!r}."
        )
    return sizes


def _build_top(sizes: list[int], options: dict[str, Any], backbone: Backbone) -> Any:
    from topwork.tops.linear import LinearTop
    from topwork.tops.mlp import MLPTop

    class_weight = "balanced" if options["balanced"] else None
    if not sizes:
        return LinearTop(
            class_weight=class_weight, last=backbone.card.n_features if options["features"] == "auto" else None
        )
    given = {name: options[name] for name in _LAYER_OPTIONS if options[name] is not None}
    return MLPTop(class_layers=sizes, class_weight=class_weight, **given)


def _as_text(run: Run) -> str:
    from topwork.files import printable
    from topwork.progress import duration

    training, accuracy = run.training, run.test.accuracy
    lines = [
        "",
        f"Test accuracy {100 * accuracy.value:.1f} % (95 % interval {100 * accuracy.low:.1f} to "
        f"{100 * accuracy.high:.1f}) on {run.test.tested_on}",
    ]
    lines += _choice_lines(training) + _tuning_lines(training)
    new, n = training.n_extracted, len(training.features.values) + training.n_flipped
    kind = "view" if training.n_flipped else "image"
    others = f", {n - new:,} {'was' if n - new == 1 else 'were'} there already" if n > new else ""
    lines.append(
        f"Features of {counted(new, kind)} computed in {duration(training.seconds_features)}{others}; "
        f"top trained in {duration(training.seconds_top)}"
    )
    lines += _bad_lines(run) + _check_lines(run)
    folder = shlex.quote(printable(str(run.folder)))
    return "\n".join(
        [
            *lines,
            f"Run folder: {folder}",
            f"Report: {folder}/report.html",
            *_findings_line(run, folder),
            f"Next: topwork predict {folder} IMAGE",
            *_step_up(run),
        ]
    )


def _choice_lines(training: Training) -> list[str]:
    """What was chosen, and on which images."""
    if training.best is None or training.held_out is None:
        return []
    row, n, n_train = training.history[training.best], training.n_validation, training.n_train
    flipped = " (each seen flipped too)" if training.n_flipped else ""
    if "epoch" in row:
        best = f"Best epoch {row['epoch']} of {len(training.history)}"
        return [f"{best} on {n:,} validation images; {n_train:,} trained on{flipped}"]
    if training.held_out.n_folds == 1:
        trained = f"trained on these and {n_train:,} others{flipped}"
        return [*_stages_line(training), f"L2 {row['l2']:.2g} chosen on {n:,} validation images; {trained}"]
    flipped = f" ({training.n_flipped:,} of them seen flipped too)" if training.n_flipped else ""
    return [
        *_stages_line(training),
        f"L2 {row['l2']:.2g} chosen by {training.held_out.n_folds}-fold cross-validation on "
        f"{len(training.held_out.rows):,} images, then trained on all of them{flipped}",
    ]


def _stages_line(training: Training) -> list[str]:
    """Which features were taken, where that was to be chosen."""
    if not hasattr(training.top, "takes_all_"):
        return []
    if training.top.takes_all_:
        return [
            "Features of all stages: with them held-out images are surely likelier than with the last stage's alone"
        ]
    return ["Features of the last stage: with those of all, held-out images are not surely likelier"]


def _tuning_lines(training: Training) -> list[str]:
    """What fine-tuning was compared with, and what was taken."""
    from topwork.evaluation.intervals import CROSS_VALIDATED, proportion

    tuning = training.fine_tuning
    if tuning is None:
        return []
    how = f"{tuning.n_folds}-fold cross-validated" if tuning.n_folds > 1 else "validated"
    widening = CROSS_VALIDATED if tuning.n_folds > 1 else 1.0
    rows = [
        f"  {one.name:<14} {proportion(one.n_right, one.n, inflation=widening)}"
        + ("  taken" if one.name == tuning.chosen else "")
        for one in tuning.candidates
    ]
    end = (
        f"Fine-tuning {tuned_part(tuning.part, tuning.cut)} is surely right more often than what is simpler"
        if tuning.is_better
        else "Fine-tuning did not beat the linear top; the linear top was kept"
    )
    return [f"Accuracy of the candidates, {how} on {counted(tuning.candidates[0].n, 'image')}:", *rows, end]


def _check_lines(run: Run) -> list[str]:
    if run.check is None:
        return []
    summary, parts = run.check.summary(), "folds" if run.test.n_folds else "splits"
    worst = [
        f"{summary[key]:,} {what}"
        for key, what in (("pairs_across_splits", f"across {parts}"), ("pairs_with_two_labels", "with two labels"))
        if summary[key]
    ]
    pairs = [
        f"{counted(summary[key], 'pair')} of {what}"
        for key, what in (("copies", "copies"), ("near_copies", "near copies"))
        if summary[key]
    ]
    found = [" and ".join(pairs) + (f" ({', '.join(worst)})" if worst else "")] if pairs else []
    found += [f"{counted(n, 'label')} probably wrong"] if (n := summary["probable_label_errors"]) else []
    found += [counted(n, "strange image")] if (n := summary["strange"]) else []
    return [
        f"Data: {', '.join(found)}; the report shows them" if found else "Data: nothing found wrong",
        *cut_remark(run.check.share_cut),
        *frames_remark(run.check),
    ]


def _findings_line(run: Run, folder: str) -> list[str]:
    if run.check is None or not run.check.findings():
        return []
    return [f"Findings: {folder}/findings.csv; fill in exclude or new_label, and train again with --exclude, --relabel"]


def _step_up(run: Run) -> list[str]:
    """What the next larger network would ask and give, after a training on the starter."""
    from topwork.backbones.cards import STARTER, find_card
    from topwork.backbones.weights import is_here
    from topwork.progress import duration

    if run.classifier.backbone.name != STARTER:
        return []
    card, training = find_card(STEP_UP), run.training
    fetches = "has its weights here" if is_here(card) else f"fetches {card.megabytes:.0f} MB once"
    cost = f"takes about {STEP_UP_TIMES} times as long for the features"
    if training.n_extracted >= ENOUGH_TO_FORETELL:
        n_views = len(training.features.values) + training.n_flipped
        seconds = STEP_UP_TIMES * training.seconds_features / training.n_extracted * n_views
        cost = f"takes about {duration(seconds)} here for the features"
    return [
        f"Step up: --backbone {card.name} {fetches} and {cost};",
        "  it usually gains on sharp photographs, and seldom on small or blurry images.",
    ]


def _bad_lines(run: Run) -> list[str]:
    bad = run.training.bad
    if not bad:
        return []
    shown = [f"  {image.name}: {image.reason}" for image in bad[:5]]
    more = [f"  … and {len(bad) - 5:,} more, in run.json"] if len(bad) > 5 else []
    were = "was" if len(bad) == 1 else "were"
    return [f"{counted(len(bad), 'image')} could not be read and {were} left out:", *shown, *more]


def _as_dict(run: Run) -> dict[str, Any]:
    training = run.training
    return {
        "run": str(run.folder),
        "test": run.test.as_dict(),
        "best": training.history[training.best] if training.best is not None else None,
        "n_train": training.n_train,
        "n_flipped": training.n_flipped,
        "n_validation": training.n_validation,
        "n_folds": training.held_out.n_folds if training.held_out else None,
        "n_extracted": training.n_extracted,
        "seconds_features": training.seconds_features,
        "seconds_top": training.seconds_top,
        "fine_tuning": training.fine_tuning.as_dict() if training.fine_tuning else None,
        "data": run.check.summary() if run.check else None,
        "bad_images": [{"image": image.name, "reason": image.reason} for image in training.bad],
    }
