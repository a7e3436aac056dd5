"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from topwork.classifier.answers import Answer

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one service, in a registry of its own: two in one process don't mix."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("topwork_requests", "Requests answered.", ("path", "status"), registry=registry)
        self._seconds = Histogram(
            "topwork_request_seconds",
            "From the head of a request to the end of its answer.",
            ("path",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._images = Counter("topwork_images", "Images classified.", registry=registry)
        self._classes = Counter("topwork_predictions", "Images by the class they got.", ("class",), registry=registry)
        self._unknown = Counter("topwork_unknown_images", "Images unlike all in training.", registry=registry)
        self._bad = Counter("topwork_bad_images", "Images that could not be read.", registry=registry)
        self._bugs = Counter("topwork_internal_errors", "Errors that should not be; see the log.", registry=registry)
        self._batches = Histogram(
            "topwork_batch_images", "Images computed together.", registry=registry, buckets=_SIZES
        )
        Gauge("topwork_waiting_images", "Images in the queue.", registry=registry).set_function(waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, answers: list[Answer]) -> None:
        """So many images were computed together."""
        self._batches.observe(len(answers))
        for answer in answers:
            if answer.error is not None:
                self._bad.inc()
                continue
            self._images.inc()
            self._classes.labels(answer.ranked[0][0]).inc()
            if answer.is_unknown:
                self._unknown.inc()

    def bug(self) -> None:
        """An error came up that should not be."""
        self._bugs.inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
