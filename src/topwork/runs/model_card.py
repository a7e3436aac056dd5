"""The run folder's README: a model card in Hugging Face's format."""

from __future__ import annotations

import json
from html import escape

from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.record import Training
from topwork.data.corrections import UNCORRECTED, Corrections
from topwork.evaluation.metrics import Evaluation
from topwork.words import counted, tuned_part


def model_card(classifier: ImageClassifier, training: Training, test: Evaluation, command: str) -> str:
    """Markdown with a YAML head: what the classifier is, how good it is, how to use it, how it was made."""
    backbone, dataset = classifier.backbone, training.dataset
    split, for_testing = ("train", "") if test.n_folds else ("test", f", {test.n:,} for testing")
    frozen = "" if "fine_tuned" in classifier.record else ", frozen"
    head = [
        "---",
        "library_name: topwork",
        "pipeline_tag: image-classification",
        "tags: [image-classification, transfer-learning, frozen-features]",
        "model-index:",
        f"- name: {json.dumps(f'{backbone.name} with a new top')}",
        "  results:",
        "  - task: {type: image-classification}",
        f"    dataset: {{name: {json.dumps(dataset.origin)}, type: {json.dumps(dataset.origin)}, split: {split}}}",
        "    metrics:",
        f"    - {{type: accuracy, value: {test.accuracy.value:.4f}}}",
        "---",
    ]
    rows = [
        f"| {_cell(result.name)} | {result.n} | {100 * result.recall.value:.1f} % "
        f"| {f'{100 * result.precision.value:.1f} %' if result.precision else '–'} | {result.f1:.3f} |"
        for result in test.classes
    ]
    body = [
        "",
        f"# {len(classifier.class_names)} classes on {backbone.name}",
        "",
        f"Right on {test.accuracy} of {test.tested_on}. In brackets stands the 95 % interval, which holds for "
        "images like these.",
        "",
        f"| class | {'images' if test.n_folds else 'test images'} | recall | precision | F1 |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "## Use",
        "```python",
        "import topwork as tw",
        'classifier = tw.load_classifier(".")  # this folder',
        'classifier.predict(["image.jpg"])',
        "```",
        "",
        "## How it was made",
        f"- Backbone: {backbone.name}{frozen}, weights {backbone.weights.origin}, input {backbone.size} pixels, "
        f"{backbone.pooling} pooling, {backbone.precision}. Licence of its weights: {backbone.card.licence}.",
        *_fine_tuned(classifier),
        f"- Top: {json.dumps(classifier.record['top'])}",
        f"- Images: {_learned(training)}{for_testing}; {len(training.bad):,} could not be read (`run.json` lists "
        "them).",
        *_torn_groups(len(dataset.torn_groups)),
        *_corrections(dataset.corrections),
        f"- Command: `{command}`" if command else "- Made from Python.",
        "",
    ]
    return "\n".join(head + body)


def _fine_tuned(classifier: ImageClassifier) -> list[str]:
    facts = classifier.record.get("fine_tuned")
    if facts is None:
        return []
    return [
        f"- Fine-tuned: {tuned_part(facts['part'], facts['cut'])}, {counted(facts['n_layers'], 'layer')} with "
        f"{facts['n_parameters']:,} parameters; {facts['epochs']} epochs, learning rate {facts['rate']:g}, seed "
        f"{facts['seed']}, {counted(facts['views'], 'augmented view')} of each image, {facts['chosen']} weights; from "
        f"weights with the digest {facts['parent']}."
    ]


def _torn_groups(n: int) -> list[str]:
    if n == 0:
        return []
    return [
        f"- {counted(n, 'group')} {'has' if n == 1 else 'have'} images in several splits of the data: the accuracy "
        "above may be too high."
    ]


def _corrections(corrections: Corrections) -> list[str]:
    """What a person changed of the data, if anything."""
    if corrections == UNCORRECTED:
        return []
    n_excluded, n_relabelled = len(corrections.excluded), len(corrections.relabelled)
    return [
        f"- Corrected by a person: {counted(n_excluded, 'image')} left out, {counted(n_relabelled, 'label')} changed "
        "(`run.json` lists them)."
    ]


def _learned(training: Training) -> str:
    flipped = f" ({training.n_flipped:,} of them seen flipped too)" if training.n_flipped else ""
    held_out = training.held_out
    if held_out and held_out.n_folds > 1:
        n = training.n_train + training.n_validation
        return f"{n:,} for training{flipped}, {held_out.n_folds}-fold cross-validated"
    return f"{training.n_train:,} for training{flipped}, {training.n_validation:,} for validation"


def _cell(text: str) -> str:
    """`text` in a Markdown table, where neither it nor HTML in it is taken for markup."""
    return " ".join(escape(text).replace("|", "&#124;").split())
