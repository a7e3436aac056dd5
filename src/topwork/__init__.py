"""Topwork: put a new top on a proven network.

>>> import topwork as tw
>>> dataset = tw.ImageDataset.from_name("digits")
>>> classifier = tw.fit_classifier(dataset, verbose=False)
>>> tw.evaluate(classifier, dataset.test).accuracy.value > 0.9
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from topwork.version import VERSION as __version__

if TYPE_CHECKING:
    from topwork.backbones.backbone import Backbone, load_backbone
    from topwork.backbones.cards import Card, cards
    from topwork.checks.check import DataCheck, check_dataset
    from topwork.classifier.classifier import ImageClassifier
    from topwork.classifier.fine_tuning import fine_tune
    from topwork.classifier.loading import load_classifier
    from topwork.classifier.precision import choose_precision
    from topwork.classifier.training import fit_classifier
    from topwork.data.dataset import ImageDataset
    from topwork.errors import TopworkError
    from topwork.evaluation.evaluate import evaluate
    from topwork.evaluation.metrics import Evaluation
    from topwork.export.export import Export, export_classifier
    from topwork.features.extraction import Features, extract_features
    from topwork.features.extractor import FeatureExtractor
    from topwork.runs.run import Run, train
    from topwork.tops.final_model import get_final_model
    from topwork.tops.linear import LinearTop
    from topwork.tops.mlp import MLPTop

_HOMES = {
    "Backbone": "topwork.backbones.backbone",
    "Card": "topwork.backbones.cards",
    "DataCheck": "topwork.checks.check",
    "Evaluation": "topwork.evaluation.metrics",
    "Export": "topwork.export.export",
    "FeatureExtractor": "topwork.features.extractor",
    "Features": "topwork.features.extraction",
    "ImageClassifier": "topwork.classifier.classifier",
    "ImageDataset": "topwork.data.dataset",
    "LinearTop": "topwork.tops.linear",
    "MLPTop": "topwork.tops.mlp",
    "Run": "topwork.runs.run",
    "TopworkError": "topwork.errors",
    "cards": "topwork.backbones.cards",
    "check_dataset": "topwork.checks.check",
    "choose_precision": "topwork.classifier.precision",
    "evaluate": "topwork.evaluation.evaluate",
    "export_classifier": "topwork.export.export",
    "extract_features": "topwork.features.extraction",
    "fine_tune": "topwork.classifier.fine_tuning",
    "fit_classifier": "topwork.classifier.training",
    "get_final_model": "topwork.tops.final_model",
    "load_backbone": "topwork.backbones.backbone",
    "load_classifier": "topwork.classifier.loading",
    "train": "topwork.runs.run",
}

__all__ = [
    "Backbone",
    "Card",
    "DataCheck",
    "Evaluation",
    "Export",
    "FeatureExtractor",
    "Features",
    "ImageClassifier",
    "ImageDataset",
    "LinearTop",
    "MLPTop",
    "Run",
    "TopworkError",
    "__version__",
    "cards",
    "check_dataset",
    "choose_precision",
    "evaluate",
    "export_classifier",
    "extract_features",
    "fine_tune",
    "fit_classifier",
    "get_final_model",
    "load_backbone",
    "load_classifier",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import topwork` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'topwork' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
