"""`topwork check`: is the data sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from topwork.types import Device

if TYPE_CHECKING:
    from topwork.checks.check import DataCheck

EPILOG = """\b
Examples:
  topwork check photos/
  topwork check photos/ --out findings.csv
  topwork check photos/ --exclude findings.csv --relabel findings.csv    # filled in: what is left?
  topwork check table.parquet --backbone densenet121
"""

SHOWN = 5


@click.command(epilog=EPILOG)
@click.argument("source")
@backbone_options
@click.option("--out", type=OutPath(dir_okay=False, path_type=Path), metavar="FILE", help="Write all findings as CSV.")
@data_options
@device_option
@output_options
def check(source: str, out: Path | None, device: Device, quiet: bool, as_json: bool, **options: Any) -> None:
    """Look for what may be wrong with the images in SOURCE: copies, wrong labels, strange and unreadable images.

    SOURCE is what `topwork train` takes. Nothing is changed: you decide about each finding, in the file that --out
    writes (columns exclude and new_label), and give that file to `topwork train` with --exclude and --relabel.
    """
    from topwork.checks.check import check_dataset

    reporter = reporter_for(quiet)
    dataset, backbone = load_dataset_and_backbone(source, options, reporter, device=device)
    found = check_dataset(dataset, backbone, device=device, reporter=reporter)
    if out is not None:
        from topwork.files import write_text

        write_text(out, found.as_csv())
    if as_json:
        say_json({**found.summary(), "findings": found.findings()})
    else:
        say(_as_text(found, out))


def _as_text(found: DataCheck, out: Path | None) -> str:
    summary, rows = found.summary(), found.findings()
    lines = [""]

    def section(title: str, kind: str) -> None:
        chosen = [row for row in rows if row["finding"] == kind]
        lines.append(f"{title}: {len(chosen):,}")
        lines.extend(f"  {row['image']} ({row['label']}): {row['detail']}" for row in chosen[:SHOWN])
        if len(chosen) > SHOWN:
            lines.append(f"  … and {len(chosen) - SHOWN:,} more" + ("" if out else "; --out FILE lists all"))

    section("Unreadable images", "unreadable")
    section("Pairs of copies (equal bytes, or equal pixels)", "copy")
    section("Pairs of near copies (re-encoded, resized, mirrored, or one scene taken twice)", "near copy")
    if found.splits is not None:
        lines.append(f"Of these pairs, with one image on test and one elsewhere: {summary['pairs_across_splits']:,}")
    lines.append(f"Of these pairs, with two labels: {summary['pairs_with_two_labels']:,}")
    section("Labels that are probably wrong", "label")
    section("Strange images", "strange")
    if found.torn_groups:
        lines.append(
            f"Groups with images in several splits: {len(found.torn_groups):,}, such as {found.torn_groups[0]!r}"
        )
    lines += _remarks(found)
    return "\n".join([*lines, f"All findings: {out}"] if out else lines)


def _remarks(found: DataCheck) -> list[str]:
    from topwork.checks.check import IMBALANCE

    largest, smallest = int(found.sizes.argmax()), int(found.sizes.argmin())
    text = (
        f"Classes: {found.class_names[smallest]} has {found.sizes[smallest]:,} images, "
        f"{found.class_names[largest]} {found.sizes[largest]:,}"
    )
    if found.sizes[largest] == found.sizes[smallest]:
        text = f"Classes: each has {found.sizes[smallest]:,} images"
    if found.imbalance >= IMBALANCE:
        text += "; train with --balanced, and look at balanced accuracy"
    lines = [text]
    if found.share_small > 0.5:
        lines.append(
            f"Small images: {100 * found.share_small:.0f} % are less than half as large as the {found.input_size} "
            "pixels the backbone is given; a smaller --size may be as good, and quicker"
        )
    lines += cut_remark(found.share_cut) + frames_remark(found)
    return lines
