"""Images of many requests, classified together by a few threads.

A worker takes what waits, up to what suits the engine, and never waits for more: while all are busy, the queue fills by
itself, so batches grow with the load and a lone image is answered at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from topwork.classifier.answers import Answer, make_answer
from topwork.classifier.classifier import ImageClassifier
from topwork.data.decoding import read_square
from topwork.errors import BadImageError
from topwork.memory import available_processors
from topwork.serve.body import SentImage
from topwork.serve.limits import Limits
from topwork.serve.metrics import Metrics
from topwork.types import ImageArray
from topwork.web.refusal import Refusal

_LOG = logging.getLogger("topwork.serve")


@dataclass(eq=False)
class Request:
    """The images of one request, and its answers as they come; `done` is settled in the event loop with the last."""

    images: Sequence[SentImage]
    runners_up: int
    done: asyncio.Future[list[Answer]]
    answers: dict[int, Answer] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Waiting:
    request: Request
    place: int

    @property
    def image(self) -> SentImage:
        return self.request.images[self.place]


class Batcher:
    """The queue and its workers. `submit` and `drop` are for the event loop's thread."""

    def __init__(self, classifier: ImageClassifier, limits: Limits) -> None:
        self.metrics = Metrics(lambda: len(self._queue))
        self._classifier = classifier
        self._limits = limits
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._n_idle = 0
        self._stopping = False
        self._seconds_an_image = 0.0
        # one more than processors, so that one decodes while the others compute
        self._workers = [
            threading.Thread(target=self._work, name=f"topwork-{i}", daemon=True)
            for i in range(available_processors() + 1)
        ]

    def warm_up(self) -> None:
        """Compile the network and run it once; the first request then waits for nothing."""
        size, engine = self._classifier.backbone.size, self._classifier.engine
        self._classifier.predict_features(engine.infer(np.zeros((1, size, size, 3), np.uint8)))

    def start(self) -> None:
        """Begin to work."""
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End when nothing waits any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            if worker.ident is not None:
                worker.join()

    def submit(self, images: Sequence[SentImage], runners_up: int) -> Request:
        """Put the images of a request into the queue, all or none.

        Raises:
            Refusal: the queue is full.
        """
        request = Request(images, runners_up, asyncio.get_running_loop().create_future())
        with self._changed:
            if len(self._queue) + len(images) > self._limits.waiting:
                raise Refusal(503, "Too many images wait already. Try again.", retry_after=self._seconds_to_wait())
            self._queue.extend(_Waiting(request, place) for place in range(len(images)))
            self._changed.notify(len(images))
        return request

    def drop(self, request: Request) -> None:
        """Take out what still waits of a request whose client went away."""
        request.done.cancel()
        with self._changed:
            kept = [item for item in self._queue if item.request is not request]
            self._queue.clear()
            self._queue.extend(kept)

    def _seconds_to_wait(self) -> int:
        seconds = len(self._queue) * self._seconds_an_image / len(self._workers)
        return min(60, max(1, math.ceil(seconds)))

    def _work(self) -> None:
        while batch := self._take():
            began = time.perf_counter()
            try:
                answers = self._classify(batch)
            except Exception as error:  # a bug must cost these requests only, not the worker
                _LOG.exception("A batch of %d images failed.", len(batch))
                self.metrics.bug()
                self._deliver(batch, error)
            else:
                self._deliver(batch, answers)
                self.metrics.batch(answers)
            seconds = (time.perf_counter() - began) / len(batch)
            self._seconds_an_image += 0.1 * (seconds - self._seconds_an_image)

    def _take(self) -> list[_Waiting]:
        """The images to do next, this worker's share of what waits; none when it is time to end."""
        with self._changed:
            self._n_idle += 1
            while not self._queue and not self._stopping:
                self._changed.wait()
            share = math.ceil(len(self._queue) / self._n_idle)
            self._n_idle -= 1
            return [self._queue.popleft() for _ in range(min(share, self._classifier.engine.batch_size))]

    def _classify(self, batch: list[_Waiting]) -> list[Answer]:
        """One answer for each of `batch`, in order."""
        pixels: list[ImageArray] = []
        answers: list[Answer | None] = []
        for item in batch:
            found = self._decode(item.image)
            if isinstance(found, Answer):
                answers.append(found)
            else:
                answers.append(None)
                pixels.append(found)
        rest = iter(self._answers([item for item, answer in zip(batch, answers, strict=True) if not answer], pixels))
        return [answer or next(rest) for answer in answers]

    def _decode(self, image: SentImage) -> ImageArray | Answer:
        """What the backbone sees of it, or why it can't be read."""
        backbone, max_pixels = self._classifier.backbone, self._limits.image_pixels
        try:
            return read_square(image.content, backbone.recipe, image.name, max_pixels=max_pixels)
        except BadImageError as error:
            return Answer(image.name, error=error.reason)
        except Exception as error:  # no image may stop the others
            _LOG.exception("Decoding an image failed in a way that is not known.")
            self.metrics.bug()
            return Answer(image.name, error=f"it can't be read ({type(error).__name__})")

    def _answers(self, items: list[_Waiting], pixels: list[ImageArray]) -> list[Answer]:
        if not pixels:
            return []
        classifier, step = self._classifier, self._classifier.engine.batch_size
        parts = [classifier.engine.infer(np.stack(pixels[i : i + step])) for i in range(0, len(pixels), step)]
        names = tuple(item.image.name for item in items)
        found = classifier.predict_features(np.concatenate(parts), names, np.arange(len(items)))
        unknown = [None] * len(items) if found.is_unknown is None else found.is_unknown.tolist()
        return [
            make_answer(name, classifier.class_names, row, is_unknown, item.request.runners_up)
            for item, name, row, is_unknown in zip(items, names, found.probabilities, unknown, strict=True)
        ]

    def _deliver(self, batch: list[_Waiting], found: list[Answer] | Exception) -> None:
        try:
            batch[0].request.done.get_loop().call_soon_threadsafe(_settle, batch, found)
        except RuntimeError:  # the loop was closed: nobody waits any more
            _LOG.debug("Answers came after the end.")


def _settle(batch: list[_Waiting], found: list[Answer] | Exception) -> None:
    for i, item in enumerate(batch):
        request = item.request
        if request.done.done():
            continue
        if isinstance(found, Exception):
            request.done.set_exception(found)
            continue
        request.answers[item.place] = found[i]
        if len(request.answers) == len(request.images):
            request.done.set_result([request.answers[place] for place in range(len(request.images))])
