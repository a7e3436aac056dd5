"""`topwork extract`: features of very many images, in shards that any number of machines compute."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import backbone_options, device_option, load_with, output_options, reporter_for
from topwork.cli.words import say, say_json
from topwork.words import counted

if TYPE_CHECKING:
    from topwork.features.sharded import Progress

EPILOG = """\b
Examples:
  topwork extract s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small
  topwork extract s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small --part $INDEX/64
  topwork extract s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small --status
  topwork train s3://bucket/photos/ --store s3://bucket/features --backbone dinov2-small
"""
SHOWN = 5


class _Part(click.ParamType):  # type: ignore[type-arg]
    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        k, _, n = str(value).partition("/")
        if not (k.isdecimal() and n.isdecimal() and int(k) < int(n)):
            self.fail(f"Expected K/N with K from 0 to N-1, such as 0/64; got {value!r}.", param, ctx)
        return int(k), int(n)


@click.command(epilog=EPILOG)
@click.argument("source")
@click.option(
    "--store",
    required=True,
    metavar="FOLDER|ADDRESS",
    help="Where features are kept: a folder that all machines see, or an address such as s3://bucket/features.",
)
@click.option(
    "--part",
    type=_Part(),
    metavar="K/N",
    help="Compute the K-th of N equal parts only, K from 0: for array jobs. Any number of parts gives the same files.",
)
@click.option(
    "--ray",
    metavar="local|auto|HOST:PORT",
    help="Compute on a Ray cluster: one of this machine alone, the one that runs here, or that at an address.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="With --ray: how long a shard may take before an image in it is taken for guilty.  [default: 600]",
)
@click.option("--status", is_flag=True, help="Compute nothing; say how far it is, and which images can't be read.")
@click.option(
    "--shard-size", type=click.IntRange(1), default=2000, show_default=True, help="Images a file in the store."
)
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
    from topwork.features.sharded import Extraction, extract_shards, progress_of, require_range
    from topwork.objects import open_objects
    from topwork.progress import Reporter

    if options["backbone"] == AUTO or options["precision"] == "auto":
        raise click.UsageError(
            "Name a --backbone, and a --precision that is not auto: all machines must take the same."
        )
    if options["part"] and options["ray"]:
        raise click.UsageError("--ray shares the work by itself: leave --part out.")
    if options["deadline"] and not options["ray"]:
        raise click.UsageError("--deadline is for --ray.")
    reporter = reporter_for(options["quiet"])
    store = open_objects(options["store"])
    plan = find_plan(source, store) if options["status"] or options["part"] else None
    if options["status"] and plan is None:
        raise DataError(f"{options['store']!r} has no list of the images in {source!r}: nothing was extracted so far.")
    plan = plan or make_plan(source, store, images_of_shard=options["shard_size"])
    reporter.note(f"{counted(plan.n_images, 'image')} in {counted(len(plan), 'shard')}")
    load = partial(load_with, partial(load_backbone, options["backbone"]), options)
    extraction = Extraction(plan, store, load(reporter))
    if options["status"]:
        progress = progress_of(extraction)
    elif options["ray"]:
        from topwork.features.cluster import DEADLINE, extract_on_ray

        require_range(extraction)
        progress = extract_on_ray(
            extraction,
            partial(load, Reporter()),
            address=options["ray"],
            deadline=options["deadline"] or DEADLINE,
            device=options["device"],
            reporter=reporter,
        )
    else:
        require_range(extraction)
        progress = extract_shards(
            extraction, part=options["part"] or (0, 1), device=options["device"], reporter=reporter
        )
    if options["as_json"]:
        say_json(progress.as_dict())
    else:
        say(_as_text(progress))


def _as_text(progress: Progress) -> str:
    lines = [
        f"{progress.n_shards_done:,} of {counted(progress.n_shards, 'shard')} in the store, with "
        f"{progress.n_images_done:,} of {counted(progress.n_images, 'image')}"
    ]
    if bad := progress.bad:
        lines.append(f"{counted(len(bad), 'image')} could not be read:")
        lines += [f"  {image.name}: {image.reason}" for image in bad[:SHOWN]]
        lines += [f"  … and {len(bad) - SHOWN:,} more; --json lists all"] if len(bad) > SHOWN else []
    return "\n".join(lines)
