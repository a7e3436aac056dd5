"""`topwork info`: what a classifier is, and whether its files are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from topwork.cli.words import say, say_json
from topwork.words import first, tuned_part

if TYPE_CHECKING:
    from topwork.classifier.information import ClassifierInformation

EPILOG = """\b
Examples:
  topwork info runs/photos-1
  topwork info runs/photos-1/classifier       # all that another person needs
  topwork info oak --json
"""

SHOWN = 12
"""Class names; of more, so many are shown."""


@click.command(epilog=EPILOG)
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(run: str, as_json: bool) -> int:
    """Say what the classifier in RUN is and how good, and verify its checksums.

    RUN is a run folder, or a classifier's folder alone. Nothing is computed. The exit status is 1 if a file is damaged
    or missing.
    """
    from topwork.classifier.information import classifier_information

    found = classifier_information(run)
    if as_json:
        say_json(found.as_dict())
    else:
        say(_as_text(found))
    return 0 if found.is_intact else 1


def _as_text(found: ClassifierInformation) -> str:
    backbone = found.backbone
    rows = {
        "Classes": _classes(found.class_names),
        "Backbone": f"{backbone['name']}, {backbone['size']}×{backbone['size']} pixels, {backbone['pooling']} pooling, "
        f"{backbone['precision']}",
        "Weights": f"{found.weights or 'unknown origin'}; licence {found.licence or 'unknown'}",
        **({"Tuned": _tuned(found.fine_tuned)} if found.fine_tuned else {}),
        "Top": _top(found.top),
        "Trained": _training(found),
        "Accuracy": _accuracy(found),
        "Unknown": "tells images unlike all that it was trained on (--unknown)"
        if found.tells_unknown
        else "can't tell images unlike all that it was trained on",
        "Written": f"by Topwork {found.topwork}, {found.megabytes:,.1f} MB in {found.folder}",
    }
    lines = [f"{title:<9} {text}" for title, text in rows.items()]
    lines += [f"{'Files' if i == 0 else '':<9} {name}: {state}" for i, (name, state) in enumerate(found.files.items())]
    if found.is_intact:
        return "\n".join([*lines, f"{'Use':<9} topwork predict {found.folder} IMAGE"])
    return "\n".join([*lines, "Not all of it is the classifier that was saved: copy the folder again, or train anew."])


def _classes(names: tuple[str, ...]) -> str:
    return f"{len(names):,}: {first(names, most=SHOWN)}"


def _tuned(facts: dict[str, Any]) -> str:
    return f"{tuned_part(facts['part'], facts['cut'])}, from weights {facts['parent'][:8]}"


def _top(facts: dict[str, Any]) -> str:
    named = [f"{name} {_value(value)}" for name, value in facts.items() if name != "kind" and value is not None]
    return ", ".join([str(facts.get("kind", "of unknown kind")), *named])


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]" if len(value) <= 5 else f"{len(value)} values"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _training(found: ClassifierInformation) -> str:
    if found.n_train is None or found.n_validation is None:
        return "no record of it"
    if (found.n_folds or 0) > 1:
        n = found.n_train + found.n_validation
        return f"on {found.data}: {n:,} images, {found.n_folds}-fold cross-validated"
    return f"on {found.data}: {found.n_train:,} images for training, {found.n_validation:,} for validation"


def _accuracy(found: ClassifierInformation) -> str:
    if found.test is None:
        return "not recorded: it was saved without a test"
    low, high = 100 * found.test.low, 100 * found.test.high
    images = f"{found.test.n:,} {'' if found.test_folds else 'test '}images of the same data"
    folds = f", by {found.test_folds}-fold cross-validation" if found.test_folds else ""
    return f"{100 * found.test.value:.1f} % (95 % interval {low:.1f} to {high:.1f}) on {images}{folds}"
