"""Evaluation of a classifier on labelled images."""

from __future__ import annotations

import numpy as np

from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.predictions import Predictions
from topwork.data.dataset import ImageDataset
from topwork.errors import DataError, did_you_mean
from topwork.evaluation.metrics import Evaluation, evaluate_probabilities
from topwork.types import IntArray
from topwork.words import listed, without


def evaluate(classifier: ImageClassifier, dataset: ImageDataset) -> Evaluation:
    """How good `classifier` is on the images of `dataset`, such as `dataset.test`.

    Images that can't be read are left out and counted. Whether the classifier was trained on some of these images is
    not checked: on them it looks better than it is. `topwork evaluate` does check.

    Raises:
        DataError: no readable images, or a class that the classifier does not know.
    """
    return evaluate_predictions(dataset, classifier.predict_dataset(dataset))


def evaluate_predictions(dataset: ImageDataset, predictions: Predictions) -> Evaluation:
    """The evaluation of `predictions` made for `dataset`."""
    labels = labels_for(dataset, predictions.class_names)[predictions.indices]
    return evaluate_probabilities(
        labels, predictions.probabilities, predictions.class_names, n_bad=len(predictions.bad)
    )


def labels_for(dataset: ImageDataset, class_names: tuple[str, ...]) -> IntArray:
    """`(N,)`, the labels of `dataset` as indices into `class_names`.

    Raises:
        DataError: a class that `class_names` lacks.
    """
    place = {name: i for i, name in enumerate(class_names)}
    unknown = [dataset.class_names[label] for label in np.unique(dataset.labels)]
    unknown = [name for name in unknown if name not in place]
    if unknown:
        raise DataError(
            f"{dataset.origin!r} has the {listed(unknown)} that the classifier does not know."
            f"{did_you_mean(unknown[0], class_names)} It knows {', '.join(class_names[:20])}. Rename the "
            f"{'class' if len(unknown) == 1 else 'classes'}, or leave out what it does not know: "
            f"{without(unknown)}."
        )
    mapping = np.array([place.get(name, -1) for name in dataset.class_names])
    return mapping[dataset.labels]
