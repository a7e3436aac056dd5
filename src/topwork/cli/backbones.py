"""`topwork backbones`: the table of networks, and their weights for offline use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from topwork.cli.options import reporter_for
from topwork.cli.words import say, say_json, with_flags

EPILOG = """\b
Examples:
  topwork backbones
  topwork backbones --fetch densenet121     # for use without a network later
  topwork backbones --inspect model.onnx    # what is in a file, and what would be used of it
"""


@click.command(epilog=EPILOG)
@click.option("--fetch", metavar="NAME", multiple=True, help="Put a network's weights in place for offline use.")
@click.option(
    "--inspect", type=click.Path(path_type=Path), metavar="FILE", help="Say what a network in a file takes and gives."
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def backbones(fetch: tuple[str, ...], inspect: Path | None, as_json: bool) -> None:
    """List the networks: input size, features, weights, published ImageNet accuracy, what is on this machine."""
    from topwork.backbones.cards import find_card
    from topwork.backbones.weights import fetch_pretrained

    for card in [find_card(name) for name in fetch]:
        path = fetch_pretrained(card, offline=False, reporter=reporter_for(quiet=False))
        click.echo(f"{card.name}: {path}")
    if inspect is not None:
        from topwork.backbones.graph_file import inspection

        facts = inspection(inspect)
        if as_json:
            say_json(facts)
        else:
            say("\n".join(f"{key:<8}  {with_flags(text)}" for key, text in facts.items()))
    elif not fetch:
        rows = _rows()
        click.echo(json.dumps(rows, indent=2) if as_json else _as_text(rows))


def _rows() -> list[dict[str, Any]]:
    from topwork.backbones.cards import cards
    from topwork.backbones.weights import is_here

    return [
        {
            "name": card.name,
            "input_size": card.input_size,
            "smallest_size": card.smallest_size,
            "n_features": card.n_features,
            "parameters": card.parameters,
            "megabytes": round(card.megabytes, 1),
            "top1": card.top1,
            "top5": card.top5,
            "licence": card.licence,
            "paper": card.paper,
            "preprocessing": card.preprocessing.name,
            "weights_url": card.weights_url,
            "weights_hash": card.weights_hash,
            "here": is_here(card),
        }
        for card in cards().values()
    ]


def _as_text(rows: list[dict[str, Any]]) -> str:
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'name':<{width}}  input  least  features  weights MB  top-1 %  top-5 %  weights   licence"]
    for row in rows:
        top1, top5 = (f"{row[k]:.1f}" if row[k] is not None else "–" for k in ("top1", "top5"))
        where = "here" if row["here"] else "to fetch"
        lines.append(
            f"{row['name']:<{width}}  {row['input_size']:>5}  {row['smallest_size']:>5}  {row['n_features']:>8,}  "
            f"{row['megabytes']:>10,.1f}  {top1:>7}  {top5:>7}  {where:<8}  {row['licence']}"
        )
    lines += [
        "",
        "input: the side in pixels it was trained on; least: the smallest --size. top-1, top-5: ImageNet accuracy of",
        "the whole network as published. Weights are fetched when first used; --fetch NAME does it now.",
    ]
    return "\n".join(lines)
