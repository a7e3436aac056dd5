"""`topwork compare`: which network suits these images?"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from topwork.cli.options import OutPath, data_options, device_option, load_dataset, output_options, reporter_for
from topwork.cli.words import say, say_json

if TYPE_CHECKING:
    from topwork.data.dataset import ImageDataset
    from topwork.evaluation.comparison import ComparedBackbone, Comparison

EPILOG = """\b
Examples:
  topwork compare photos/                                      # networks whose weights are here
  topwork compare photos/ --backbones eleven --budget 30m
  topwork compare photos/ --backbones starter,mobilenet_v2@160,resnet50v2=my-weights.h5
  topwork compare photos/ --backbones efficientnet_lite0,model.onnx=last_hidden_state:token
"""


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", str(value).replace(" ", ""))
        if not match or not any(match.groups()):
            self.fail(f"Expected a time such as 90s, 10m or 1h30m; got {value!r}.", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return 3600.0 * hours + 60 * minutes + seconds


@click.command(epilog=EPILOG)
@click.argument("source")
@click.option(
    "--backbones",
    default="here",
    show_default=True,
    metavar="here|eleven|all|NAME[@SIZE][=WEIGHTS]|FILE[@SIZE][=OUTPUT[:POOLING]],…",
    help="here: those whose weights are on this machine; eleven: those of the course.",
)
@click.option("--budget", type=_Duration(), help="How long it may take, such as 10m.  [default: until it is done]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of images held out to choose L2.")
@click.option("--out", type=OutPath(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it on an HTML page.")
@click.option("--offline", is_flag=True, help="Never use the network.")
@data_options
@device_option
@output_options
def compare(
    source: str,
    backbones: str,
    budget: float | None,
    seed: int,
    out: Path | None,
    device: str,
    offline: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare networks on the images in SOURCE: accuracy against milliseconds and megabytes on this machine.

    Linear tops, cross-validated; test images are not looked at. Features are kept, so `train` is quick afterwards.
    """
    from topwork.evaluation.rounds import compare_backbones

    reporter = reporter_for(quiet)
    dataset = load_dataset(source, options, reporter, offline=offline)
    comparison = compare_backbones(
        dataset,
        _candidates(backbones),
        budget=budget,
        seed=seed,
        device=device,  # type: ignore[arg-type]
        offline=offline,
        reporter=reporter,
    )
    following = _following(source, comparison.recommended, dataset)
    if out is not None:
        from topwork.files import write_text
        from topwork.report.comparison import comparison_html

        write_text(out, comparison_html(comparison, dataset.origin, following))
    if as_json:
        say_json(comparison.as_dict())
    else:
        say(_as_text(comparison, following, out))


def _candidates(text: str) -> list[str]:
    from topwork.backbones.cards import COURSE, cards
    from topwork.backbones.weights import is_here

    named = {
        "here": [card.name for card in cards().values() if is_here(card)],
        "eleven": list(COURSE),
        "all": list(cards()),
    }
    return [name for part in text.split(",") if part for name in named.get(part, [part])]


def _following(source: str, backbone: ComparedBackbone, dataset: ImageDataset) -> str:
    """The training with the network to take, tested on images that the comparison did not look at."""
    from topwork.data.splits import TEST, TEST_FRACTION
    from topwork.evaluation.candidates import NamedNetwork

    brings_test = dataset.splits is not None and TEST in dataset.splits
    options = ["--backbone", backbone.name, "--size", str(backbone.size)]
    candidate = NamedNetwork.read(backbone.title)
    options += ["--weights", backbone.weights] if candidate.weights else []
    options += ["--output", candidate.output] if candidate.output else []
    options += ["--pooling", candidate.pooling] if candidate.pooling else []
    options += [] if brings_test else ["--test", str(TEST_FRACTION)]
    return shlex.join(["topwork", "train", source, *options])


def _as_text(comparison: Comparison, following: str, out: Path | None) -> str:
    from topwork.progress import duration

    width = max(len(backbone.title) for backbone in comparison.backbones)
    lines = ["", f"{'network':<{width}}  accuracy  95 % interval  images  ms/image  weights MB"]
    lines += [_line(backbone, width, comparison) for backbone in comparison.backbones]
    if comparison.left_out:
        lines.append(f"Left out: {', '.join(comparison.left_out)}; the warnings say why")
    lines += ["* nothing measured is both faster and more accurate", "", comparison.advice]
    if comparison.n_images < comparison.n_available:
        lines.append(f"Measured on {comparison.n_images:,} of {comparison.n_available:,} images: the time was up.")
    saved = f"; dropping early saved about {duration(comparison.seconds_saved)}" if comparison.seconds_saved else ""
    lines.append(f"It took {duration(comparison.seconds)}{saved}")
    return "\n".join([*lines, *([f"Drawn in {out}"] if out else []), f"Next: {following}"])


def _line(backbone: ComparedBackbone, width: int, comparison: Comparison) -> str:
    accuracy = backbone.accuracy
    remark = "*" if backbone.is_on_front else ""
    if backbone is comparison.recommended:
        remark += " recommended"
    if backbone.dropped_for:
        remark = f"dropped for {backbone.dropped_for}"
    return (
        f"{backbone.title:<{width}}  {100 * accuracy.value:>6.1f} %  {f'{100 * accuracy.low:.1f} to':>7} "
        f"{100 * accuracy.high:>5.1f}  {accuracy.n:>6,}  {backbone.milliseconds:>8.2f}  {backbone.megabytes:>10.1f}  "
        f"{remark}"
    ).rstrip()
