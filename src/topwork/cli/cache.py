"""`topwork cache`: what is kept on disk, and pruning it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from topwork.features.store import KeptSummary

EPILOG = """\b
Examples:
  topwork cache
  topwork cache --prune --older-than 30
  topwork cache --prune --backbone densenet121
"""


@click.command(epilog=EPILOG)
@click.option("--prune", is_flag=True, help="Delete kept features and graphs; they are made again when needed.")
@click.option("--backbone", metavar="NAME", help="With --prune: only those of one network.")
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="With --prune: only those unused so long.")
def cache(prune: bool, backbone: str | None, older_than: float | None) -> None:
    """Show what the feature store holds, and where; prune it."""
    from topwork.backbones.backbone import prune_graphs
    from topwork.backbones.cards import find_card
    from topwork.features import store
    from topwork.files import cache_dir, folder_bytes, prune_copies

    if not prune and (backbone or older_than is not None):
        raise click.UsageError("--backbone and --older-than go with --prune.")
    if prune:
        name = find_card(backbone).name if backbone else None
        deleted = store.prune(backbone=name, older_than_days=older_than or 0.0)
        n_bytes = sum(summary.n_bytes for summary in deleted)
        click.echo(
            f"Deleted {sum(s.n_images for s in deleted):,} vectors of features and thumbnails, {n_bytes / 1e6:,.1f} MB"
        )
        n_bytes = prune_graphs(backbone=name, older_than_days=older_than or 0.0)
        click.echo(f"Deleted graphs of {n_bytes / 1e6:,.1f} MB.")
        if name is None:
            n_bytes = prune_copies(older_than_days=older_than or 0.0)
            click.echo(f"Deleted copies from object stores of {n_bytes / 1e6:,.1f} MB.")
        return
    summaries = store.summaries()
    click.echo(_as_text(summaries) if summaries else "No features are kept yet.")
    for kind in ("weights", "graphs", "classifiers", "fetched"):
        folder = cache_dir() / kind
        click.echo(f"{kind}: {folder_bytes(folder) / 1e6:,.1f} MB in {folder}")
    click.echo(f"features: {sum(s.n_bytes for s in summaries) / 1e6:,.1f} MB in {store.store_dir()}")


def _as_text(summaries: list[KeptSummary]) -> str:
    lines = [
        f"{'backbone':<20} {'weights':<9} {'size':>4}  {'pooling':<8} {'view':<9} {'images':>10} {'MB':>9}  last used"
    ]
    for summary in summaries:
        facts, day = summary.facts, time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.last_used))
        lines.append(
            f"{facts['backbone']:<20} {facts['weights'][:8]:<9} {facts['size']:>4}  {facts['pooling']:<8} "
            f"{facts['view']:<9} {summary.n_images:>10,} {summary.n_bytes / 1e6:>9,.1f}  {day}"
        )
    return "\n".join([*lines, ""])
