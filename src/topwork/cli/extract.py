"""`topwork extract`: features of very many images, in shards that any number of machines compute."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import click

from topwork.cli.options import backbone_options, device_option, load_with, output_options, reporter_for
from topwork.cli.sharding import make_as_asked, progress_text, require_one_way, sharding_options
from topwork.cli.words import say, say_json
from topwork.words import counted

EPILOG = """\b
Examples:
  topwork extract s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small
  topwork extract s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small --part $INDEX/64
  topwork extract s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small --status
  topwork train s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small
"""


@click.command(epilog=EPILOG)
@click.argument("source")
@click.option(
    "--store",
    required=True,
    metavar="FOLDER|ADDRESS",
    help="Where features are kept: a folder that all machines see, or an address such as s3://bucket/features.",
)
@sharding_options
@click.option("--status", is_flag=True, help="Compute nothing; say how far it is, and which images can't be read.")
@backbone_options
@device_option
@output_options
def extract(source: str, **options: Any) -> None:
    """Compute features of all images in SOURCE, in shards, and keep them in a store that `topwork train` reads.

    SOURCE is a folder, or an address such as s3://bucket/photos/. Images are listed once, and the list is kept in the
    store: with --part and --status it is taken as it is there. What is there already is not computed again.
    """
    from topwork.backbones.backbone import load_backbone
    from topwork.backbones.cards import AUTO
    from topwork.errors import DataError
    from topwork.features.plan import find_plan, make_plan
    from topwork.features.sharded import KeptVectors, ShardedWork, progress_of, require_range
    from topwork.objects import open_objects
    from topwork.progress import Reporter

    if options["backbone"] == AUTO or options["precision"] == "auto":
        raise click.UsageError(
            "Name a --backbone, and a --precision that is not auto: all machines must take the same."
        )
    require_one_way(options)
    for name in ("backbone", "weights"):
        if options[name] and os.path.exists(options[name]):
            options[name] = os.path.abspath(options[name])  # workers elsewhere may begin in another folder
    reporter = reporter_for(options["quiet"])
    store = open_objects(options["store"])
    plan = find_plan(source, store) if options["status"] or options["part"] else None
    if options["status"] and plan is None:
        raise DataError(f"{options['store']!r} has no list of the images in {source!r}: nothing was extracted so far.")
    plan = plan or make_plan(source, store, images_of_shard=options["shard_size"])
    reporter.note(f"{counted(plan.n_images, 'image')} in {counted(len(plan), 'shard')}")

    def load(reporter: Reporter) -> KeptVectors:
        return KeptVectors(load_with(partial(load_backbone, options["backbone"]), options, reporter))

    work = ShardedWork(plan, store, load(reporter))
    if options["status"]:
        progress = progress_of(work)
    else:
        if not work.is_finished(options["part"] or (0, 1)):
            require_range(plan, work.product.backbone)
        progress = make_as_asked(work, partial(load, Reporter()), options, reporter)
    if options["as_json"]:
        say_json(progress.as_dict())
    else:
        say(progress_text(progress))
