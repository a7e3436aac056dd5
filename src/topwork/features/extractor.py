"""A frozen backbone as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from topwork.backbones.backbone import Backbone, as_backbone
from topwork.backbones.cards import STARTER
from topwork.data.dataset import as_payloads
from topwork.data.images import Images, UnlabelledImages
from topwork.data.sources import ArrayImages
from topwork.errors import BadImageError
from topwork.features.extraction import extract_features
from topwork.types import FloatArray


class FeatureExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images to features of a frozen backbone, for scikit-learn's pipelines; kept, so computed once an image.

    `make_pipeline(FeatureExtractor("densenet121"), LogisticRegression())` is a classifier of images.

    Args:
        backbone: a name, such as 'densenet121', for its own pretrained weights and input size; else as from
            `load_backbone`.
    """

    def __init__(self, backbone: str | Backbone = STARTER) -> None:
        self.backbone = backbone

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Find or fetch the weights; nothing is learned from the images."""
        self.backbone_ = as_backbone(self.backbone)
        return self

    def transform(self, X: NDArray[np.uint8] | Sequence[Any] | Images) -> FloatArray:
        """`(N, D)` float32 features of images.

        Args:
            X: paths or PIL images; `(N, H, W, 3)` uint8; or an `ImageDataset` or `UnlabelledImages`.

        Raises:
            BadImageError: an image can't be read.
        """
        if not hasattr(self, "backbone_"):
            self.fit(X)
        features = extract_features(_as_images(X), self.backbone_)
        if features.bad:
            raise BadImageError(features.bad[0].name, features.bad[0].reason)
        return features.values


def _as_images(images: NDArray[np.uint8] | Sequence[Any] | Images) -> Images:
    if isinstance(images, Images):
        return images
    return UnlabelledImages.from_source(ArrayImages(as_payloads(images)))
