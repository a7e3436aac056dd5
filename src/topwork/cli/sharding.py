"""Options of the commands whose work many machines share."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from topwork.words import counted

if TYPE_CHECKING:
    from topwork.features.sharded import Product, Progress, ShardedWork
    from topwork.progress import Reporter

SHOWN = 5


class _Part(click.ParamType):  # type: ignore[type-arg]
    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        k, _, n = str(value).partition("/")
        if not (k.isdecimal() and n.isdecimal() and int(k) < int(n)):
            self.fail(f"Expected K/N with K from 0 to N-1, such as 0/64; got {value!r}.", param, ctx)
        return int(k), int(n)


_OPTIONS = (
    click.option(
        "--part",
        type=_Part(),
        metavar="K/N",
        help="Compute the K-th of N equal parts only, K from 0: for array jobs. Any number of parts gives the same "
        "files.",
    ),
    click.option(
        "--ray",
        metavar="local|auto|HOST:PORT",
        help="Compute on a Ray cluster: one of this machine alone, the one that runs here, or that at an address.",
    ),
    click.option(
        "--deadline",
        type=click.FloatRange(1),
        metavar="SECONDS",
        help="With --ray: how long a shard may take before an image in it is taken for guilty.  [default: 600]",
    ),
    click.option(
        "--shard-size", type=click.IntRange(1), help="Images a file.  [default: as the last time, at first 2000]"
    ),
)


def sharding_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How work in shards is shared."""
    return reduce(lambda done, option: option(done), reversed(_OPTIONS), function)


def require_one_way(options: dict[str, Any]) -> None:
    """Raise a `UsageError` for ways to share work that do not go together."""
    if options["part"] and options["ray"]:
        raise click.UsageError("--ray shares the work by itself: leave --part out.")
    if options["deadline"] and not options["ray"]:
        raise click.UsageError("--deadline is for --ray.")


def make_as_asked(
    work: ShardedWork, load: Callable[[], Product], options: dict[str, Any], reporter: Reporter
) -> Progress:
    """Make what is not there yet: here, all or a part; or on a cluster, on whose nodes `load` gives the product."""
    if options["ray"]:
        from topwork.features.cluster import DEADLINE, make_on_ray

        deadline = options["deadline"] or DEADLINE
        return make_on_ray(
            work, load, address=options["ray"], deadline=deadline, device=options["device"], reporter=reporter
        )
    from topwork.features.sharded import make_shards

    return make_shards(work, part=options["part"] or (0, 1), device=options["device"], reporter=reporter)


def progress_text(progress: Progress) -> str:
    """How far work is, and which images can't be read."""
    lines = [
        f"{progress.n_shards_done:,} of {counted(progress.n_shards, 'shard')} in the store, with "
        f"{progress.n_images_done:,} of {counted(progress.n_images, 'image')}"
    ]
    if bad := progress.bad:
        lines.append(f"{counted(len(bad), 'image')} could not be read:")
        lines += [f"  {image.name}: {image.reason}" for image in bad[:SHOWN]]
        lines += [f"  … and {len(bad) - SHOWN:,} more; --json lists all"] if len(bad) > SHOWN else []
    return "\n".join(lines)
