"""One classifier as it is served: its parts, and the phase it is in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from topwork.classifier.classifier import ImageClassifier
from topwork.serve.batching import Batcher
from topwork.serve.explaining import Explainer
from topwork.serve.limits import BytesHeld, Limits
from topwork.version import VERSION
from topwork.web.refusal import Refusal

Phase: TypeAlias = Literal["starting", "ready", "stopping"]


class Service:
    """What the routes work with.

    Attributes:
        classifier: what answers.
        limits: how much clients may ask for.
        batcher: classifies.
        explainer: explains.
        memory: how many bytes requests hold.
        metrics: what is counted.
        phase: 'starting' until the network is compiled and has run once.
        failure: why it could not start.
        on_phase: called, in a thread of its own, once it is ready or has failed.
    """

    def __init__(self, classifier: ImageClassifier, limits: Limits | None = None) -> None:
        self.classifier = classifier
        self.limits = limits or Limits()
        self.batcher = Batcher(classifier, self.limits)
        self.explainer = Explainer(classifier, self.limits)
        self.memory = BytesHeld(self.limits.bytes_in_memory)
        self.metrics = self.batcher.metrics
        self.phase: Phase = "starting"
        self.failure: Exception | None = None
        self.on_phase: Callable[[], None] = lambda: None
        self._warming = threading.Thread(target=self._warm_up, name="topwork-start", daemon=True)

    def start(self) -> None:
        """Get ready, in the background: `/health` answers meanwhile."""
        self._warming.start()

    def stop(self) -> None:
        """Finish what was begun."""
        self.phase = "stopping"
        self._warming.join()
        self.batcher.stop()

    def require_ready(self) -> None:
        """Raise a `Refusal` unless it can classify now."""
        if self.phase == "starting":
            raise Refusal(503, "The service is starting. Try again.", retry_after=1)

    def metadata(self) -> dict[str, Any]:
        """The classifier and the limits, as JSON has them."""
        classifier, backbone = self.classifier, self.classifier.backbone
        return {
            "topwork": VERSION,
            "class_names": list(classifier.class_names),
            "backbone": {
                "name": backbone.name,
                "size": backbone.size,
                "pooling": backbone.pooling,
                "precision": backbone.precision,
            },
            "tells_unknown": classifier.novelty is not None,
            "training": classifier.record,
            "limits": self.limits.as_dict(),
        }

    def _warm_up(self) -> None:
        try:
            self.batcher.warm_up()
        except Exception as error:  # told by whoever runs the service
            self.failure = error
        else:
            self.batcher.start()
            if self.phase == "starting":
                self.phase = "ready"
        self.on_phase()
