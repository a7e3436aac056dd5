"""`topwork predict`: class, probability and runners-up of images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import device_option, reporter_for
from topwork.cli.sharding import make_as_asked, progress_text, require_one_way, sharding_options
from topwork.cli.words import say
from topwork.objects import is_address
from topwork.words import counted

if TYPE_CHECKING:
    from topwork.classifier.classifier import ImageClassifier
    from topwork.prediction.rows import Wording

EPILOG = """\b
Examples:
  topwork predict runs/photos-1 new/*.jpg
  topwork predict runs/photos-1 new/ --out answers.csv       # or .jsonl, .parquet; goes on where it stopped
  topwork predict runs/photos-1 table.parquet --format jsonl
  find new -name '*.jpg' -print0 | topwork predict runs/photos-1 -
  topwork predict runs/photos-1 inbox/ --watch --out log.csv
  topwork predict runs/photos-1 new/ --unknown
  topwork predict runs/photos-1 s3://bucket/images/ --out s3://bucket/answers/ --ray auto
"""


@click.command(epilog=EPILOG)
@click.argument("run")
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--format", "kind", type=click.Choice(["text", "csv", "jsonl"]), help="Of standard output.  [default: text]"
)
@click.option(
    "--out",
    metavar="FILE|FOLDER/|ADDRESS",
    help="Write .csv, .jsonl or .parquet; resumes where it stopped. Of a folder (with / at its end) or an address: a "
    "Parquet file for each --shard-size images, and manifest.json.",
)
@click.option("--replace", is_flag=True, help="With --out: replace the file even if it isn't of this classifier.")
@click.option("--watch", is_flag=True, help="Then answer images as they arrive in the folders, until Ctrl-C.")
@click.option("--runners-up", type=click.IntRange(0), default=2, show_default=True, help="How many to show.")
@click.option("--unknown", is_flag=True, help="Answer unknown for images unlike all that it was trained on.")
@click.option("--image-column", metavar="NAME", help="Table column with paths or encoded images.")
@click.option(
    "--image-root",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the paths of a table start.  [default: the table's folder]",
)
@sharding_options
@device_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def predict(
    run: str,
    images: tuple[str, ...],
    kind: str | None,
    out: str | None,
    replace: bool,
    watch: bool,
    runners_up: int,
    unknown: bool,
    image_column: str | None,
    image_root: Path | None,
    device: str,
    quiet: bool,
    **sharding: Any,
) -> int:
    """Say what is on IMAGES, by the classifier in RUN.

    IMAGES are files, folders, quoted patterns ('new/**/*.jpg'), tables (.csv, .tsv, .parquet), archives, addresses such
    as s3://bucket/new/, or - for standard input. RUN is a run folder, or its address. Images that can't be read are
    named among the answers; the exit status is then 1.
    """
    from topwork.classifier.loading import load_classifier
    from topwork.prediction.rows import Wording

    in_parts = out is not None and (is_address(out) or out.endswith("/"))
    file = None if out is None or in_parts else Path(out)
    if in_parts:
        if Path(str(out)).suffix in (".csv", ".jsonl", ".parquet"):
            raise click.UsageError("At an address, answers are a folder of files: give --out another name.")
        _require_parts(images, kind, watch or replace or image_column or image_root, sharding)
    elif sharding["part"] or sharding["ray"] or sharding["deadline"]:
        raise click.UsageError("--part and --ray write into a folder: give --out FOLDER/ or an address.")
    _require_fitting_options(file, kind, watch, images)
    if watch and (image_column or image_root):
        raise click.UsageError("--image-column and --image-root are for tables, and --watch for folders.")
    classifier = load_classifier(run, device=device)  # type: ignore[arg-type]
    if replace and (watch or out is None):
        raise click.UsageError("--replace is for a file that --out names, and that --watch does not add to.")
    if unknown:
        classifier.require_novelty()
        _require_no_class_of_that_name(classifier.class_names)
    wording = Wording(runners_up, unknown)
    try:
        if in_parts:
            return _answer_in_parts(
                run, classifier, images[0], str(out), wording, {**sharding, "device": device}, quiet
            )
        if watch:
            return _watch(classifier, images, kind or "text", file, wording, quiet)
        return _answer(classifier, images, kind or "text", file, replace, wording, (image_column, image_root), quiet)
    except KeyboardInterrupt:
        kept = " The answers so far are kept: run the same command again, and it goes on there." if out else ""
        say(f"\nInterrupted.{kept}", err=True)
        raise click.exceptions.Exit(130) from None


def _require_fitting_options(out: Path | None, kind: str | None, watch: bool, images: tuple[str, ...]) -> None:
    """What can't be is said before any work."""
    from topwork.prediction.watching import log_kind, require_folders
    from topwork.prediction.writers import file_kind

    if watch:
        require_folders(images)
    if out is None:
        return
    if kind is not None:
        raise click.UsageError("--format is for standard output. The suffix of --out says how the file is written.")
    if watch:
        log_kind(out)
    else:
        file_kind(out)


def _require_parts(images: tuple[str, ...], kind: str | None, other: object, sharding: dict[str, Any]) -> None:
    """What doesn't go with answers in parts is said before any work."""
    require_one_way(sharding)
    if len(images) > 1 or kind is not None or other:
        raise click.UsageError(
            "Answers in parts are of one folder or address of images, always in Parquet: leave --format, --watch, "
            "--replace, --image-column, --image-root and other images out."
        )


def _answer_in_parts(
    run: str,
    classifier: ImageClassifier,
    images: str,
    out: str,
    wording: Wording,
    options: dict[str, Any],
    quiet: bool,
) -> int:
    from topwork.classifier.loading import load_classifier
    from topwork.features.plan import find_plan, make_plan
    from topwork.features.sharded import ShardedWork, progress_of
    from topwork.files import printable
    from topwork.objects import open_objects
    from topwork.prediction.parts import MANIFEST, AnswerParts, write_manifest

    reporter, store = reporter_for(quiet), open_objects(out)
    plan = find_plan(images, store) if options["part"] else None
    plan = plan or make_plan(images, store, images_of_shard=options["shard_size"])
    reporter.note(f"{counted(plan.n_images, 'image')} in {counted(len(plan), 'shard')}")
    work = ShardedWork(plan, store, AnswerParts(classifier, wording))

    place = run if is_address(run) else os.path.abspath(run)  # workers elsewhere may begin in another folder

    def load() -> AnswerParts:
        return AnswerParts(load_classifier(place, device=options["device"]), wording)

    progress = make_as_asked(work, load, options, reporter)
    whole = progress_of(work) if options["part"] else progress
    is_whole = whole.n_shards_done == whole.n_shards
    if is_whole:
        write_manifest(work, whole)
    end = f"All answers: {MANIFEST} in {printable(out)} lists the files" if is_whole else "Other parts are to come"
    say(f"{progress_text(progress)}\n{end}", err=True)
    return 0  # an array job that is finished must not be run again for images that nobody can read


def _require_no_class_of_that_name(class_names: tuple[str, ...]) -> None:
    from topwork.classifier.answers import UNKNOWN

    if UNKNOWN in class_names:
        raise click.UsageError(
            f"The classifier has a class called {UNKNOWN!r}: with --unknown, one answer would mean two things. "
            "Leave it out; text marks images unlike the training images, and .csv, .jsonl and .parquet have a column "
            "for it."
        )


def _answer(
    classifier: ImageClassifier,
    images: tuple[str, ...],
    kind: str,
    out: Path | None,
    replace: bool,
    wording: Wording,
    table: tuple[str | None, Path | None],
    quiet: bool,
) -> int:
    from topwork.files import printable
    from topwork.prediction.images import STANDARD_INPUT, find_images
    from topwork.prediction.predict import predict_file, predict_rows
    from topwork.prediction.watching import MANY

    source = find_images(
        images,
        image_column=table[0],
        image_root=table[1],
        stdin=sys.stdin.buffer if STANDARD_INPUT in images else None,
        reporter=reporter_for(quiet),
    )
    is_many = len(source) >= MANY
    reporter = reporter_for(quiet or (out is None and not is_many))
    if out is None:
        n_bad = predict_rows(classifier, source, _say, kind=kind, wording=wording, reporter=reporter)  # type: ignore[arg-type]
    else:
        n_bad = predict_file(classifier, source, out, wording=wording, replace=replace, reporter=reporter)
        if not quiet:
            say(f"{len(source):,} answers: {printable(str(out))}", err=True)
    if n_bad and (out is not None or is_many):
        they = "it is" if n_bad == 1 else "they are"
        say(f"{n_bad:,} of {len(source):,} images can't be read; {they} named among the answers.", err=True)
    return 1 if n_bad else 0


def _watch(
    classifier: ImageClassifier, folders: tuple[str, ...], kind: str, out: Path | None, wording: Wording, quiet: bool
) -> int:
    from topwork.files import printable
    from topwork.prediction.rows import row_form
    from topwork.prediction.watching import AnswerLog, WatchCount, open_log, watch_folders

    reporter, count = reporter_for(quiet), WatchCount()
    reporter.note(f"Watching {', '.join(map(printable, folders))}; Ctrl-C ends it.")
    try:
        if out is None:
            form = row_form(kind, None, classifier.class_names, wording)  # type: ignore[arg-type]
            _say(form.head())
            watch_folders(classifier, folders, AnswerLog(form, _say), count, reporter=reporter)
        else:
            with open_log(out, classifier.class_names, wording) as log:
                watch_folders(classifier, folders, log, count, reporter=reporter)
    except KeyboardInterrupt:
        bad = f", {count.n_bad:,} of them can't be read" if count.n_bad else ""
        images = "image" if count.n == 1 else "images"
        say(f"\nEnded: {count.n:,} {images} answered{bad}.", err=True)
    return 0


def _say(text: str) -> None:
    """Rows on standard output, seen at once; a bar on the same terminal stays below them."""
    click.echo(text, nl=False, color=True)  # or click would take escape sequences out of names in CSV
