"""Explanations for the page: one at a time, since each may run the backbone a hundred times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from topwork.classifier.classifier import ImageClassifier
from topwork.classifier.explanation import explain_pixels
from topwork.data.decoding import read_square
from topwork.serve.body import SentImage
from topwork.serve.limits import Limits
from topwork.web.refusal import Refusal

_MOST_WAITING = 8


class Explainer:
    """Explains images one after another; a few may wait. To be used from one event loop."""

    def __init__(self, classifier: ImageClassifier, limits: Limits) -> None:
        self._classifier = classifier
        self._limits = limits
        self._turn = asyncio.Lock()
        self._n_waiting = 0
        self._seconds = 1.0

    async def explain(
        self, image: SentImage, class_name: str | None, is_gone: Callable[[], Awaitable[bool]]
    ) -> dict[str, Any] | None:
        """Class, probability, method and heat, as JSON has them; None where the client went away while it waited.

        Raises:
            BadImageError: the image can't be read.
            OptionError: no such class.
            Refusal: too many wait already.
        """
        if self._n_waiting >= _MOST_WAITING:
            seconds = max(1, round(self._n_waiting * self._seconds))
            raise Refusal(503, "Too many explanations wait already. Try again.", retry_after=min(60, seconds))
        self._n_waiting += 1
        try:
            async with self._turn:
                if await is_gone():
                    return None
                return await asyncio.to_thread(self._explain, image, class_name)
        finally:
            self._n_waiting -= 1

    def _explain(self, image: SentImage, class_name: str | None) -> dict[str, Any]:
        began = time.perf_counter()
        backbone, max_pixels = self._classifier.backbone, self._limits.image_pixels
        pixels = read_square(image.content, backbone.recipe, image.name, max_pixels=max_pixels)
        found = explain_pixels(self._classifier, pixels, class_name=class_name)
        self._seconds = time.perf_counter() - began
        return {
            "image": image.name,
            "class": found.class_name,
            "probability": round(found.probability, 6),
            "method": found.method,
            "heat": [[float(f"{value:.4g}") for value in row] for row in found.heat],
        }
