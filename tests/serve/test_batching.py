"""The queue and its workers: shares, limits, clients that leave, and bugs that must not stop it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import COLOURS, make_photo, run_async
from topwork.backbones.engines import open_engine
from topwork.classifier.predictions import Predictions
from topwork.recipe import Recipe
from topwork.serve import batching
from topwork.serve.batching import Batcher
from topwork.serve.body import SentImage
from topwork.serve.limits import Limits
from topwork.types import FloatArray, ImageArray, IntArray
from topwork.web.refusal import Refusal


class StoppedEngine:
    """An engine that computes only once `go` is set, and notes the size of each batch."""

    n_features = 4
    batch_size = 8

    def __init__(self) -> None:
        self.go = threading.Event()
        self.sizes: list[int] = []
        self.fails = False

    def infer(self, batch: ImageArray) -> FloatArray:
        assert self.go.wait(20)
        self.sizes.append(len(batch))
        if self.fails:
            raise ZeroDivisionError("a bug")
        return np.ones((len(batch), 4), np.float32)


class StoppedClassifier:
    """Just enough of a classifier."""

    class_names = ("a", "b")

    def __init__(self) -> None:
        self.engine = StoppedEngine()
        self.backbone = type("Backbone", (), {"size": 16, "recipe": Recipe(16)})()

    def predict_features(self, features: FloatArray, names: tuple[str, ...], indices: IntArray) -> Predictions:
        return Predictions(names, indices, np.full((len(features), 2), 0.5), (), self.class_names)


def sent(n: int) -> list[SentImage]:
    from io import BytesIO

    file = BytesIO()
    make_photo(COLOURS["ash"], 0).save(file, "PNG")
    return [SentImage(f"{i}", file.getvalue()) for i in range(n)]


@asynccontextmanager
async def working(classifier: Any, limits: Limits = Limits(images=4, waiting=8)) -> AsyncIterator[Batcher]:  # noqa: B008
    batcher = Batcher(classifier, limits)
    batcher.start()
    yield batcher
    classifier.engine.go.set()
    await asyncio.to_thread(batcher.stop)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(test(), 30)

    run_async(in_time())


async def all_workers_busy(batcher: Batcher) -> list[Any]:
    """One image in the hands of each worker."""
    first = []
    for _ in batcher._workers:
        first.append(batcher.submit(sent(1), 1))
        while batcher._queue:
            await asyncio.sleep(0.005)
    return first


def test_what_waits_is_taken_together_and_the_queue_is_bounded() -> None:
    async def test() -> None:
        classifier = StoppedClassifier()
        async with working(classifier) as batcher:
            first = await all_workers_busy(batcher)
            second = [batcher.submit(sent(4), 1), batcher.submit(sent(4), 1)]
            with pytest.raises(Refusal, match="wait already") as refused:
                batcher.submit(sent(1), 1)
            assert refused.value.status == 503
            assert refused.value.retry_after is not None
            assert refused.value.retry_after >= 1
            classifier.engine.go.set()
            for request in first + second:
                answers = await request.done
                assert [answer.image for answer in answers] == [image.name for image in request.images]
            assert sum(classifier.engine.sizes) == len(first) + 8
            assert max(classifier.engine.sizes) > 1

    run(test)


def test_images_of_a_client_that_left_are_not_computed() -> None:
    async def test() -> None:
        classifier = StoppedClassifier()
        async with working(classifier) as batcher:
            first = await all_workers_busy(batcher)
            left = batcher.submit(sent(4), 1)
            kept = batcher.submit(sent(2), 1)
            batcher.drop(left)
            classifier.engine.go.set()
            assert len(await kept.done) == 2
            await asyncio.gather(*(request.done for request in first))
            assert sum(classifier.engine.sizes) == len(first) + 2
            assert left.done.cancelled()

    run(test)


def test_a_bug_costs_one_batch_and_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        classifier = StoppedClassifier()
        async with working(classifier) as batcher:
            classifier.engine.go.set()
            classifier.engine.fails = True
            for _ in range(5):
                with pytest.raises(ZeroDivisionError):
                    await batcher.submit(sent(1), 1).done
            classifier.engine.fails = False
            assert len(await batcher.submit(sent(4), 1).done) == 4
            assert b"topwork_internal_errors_total 5.0" in batcher.metrics.text()

    run(test)
    assert "a bug" in caplog.text


def test_an_unforeseen_error_of_a_decoder_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read(*args: object, **options: object) -> None:
        raise KeyError("a decoder's bug")

    async def test() -> None:
        classifier = StoppedClassifier()
        classifier.engine.go.set()
        async with working(classifier) as batcher:
            monkeypatch.setattr(batching, "read_square", read)
            [answer] = await batcher.submit(sent(1), 1).done
            assert answer.error == "it can't be read (KeyError)"

    run(test)
    assert "a decoder's bug" in caplog.text


def test_stopping_finishes_what_waits() -> None:
    async def test() -> None:
        classifier = StoppedClassifier()
        batcher = Batcher(classifier, Limits())  # type: ignore[arg-type]
        batcher.start()
        requests = [batcher.submit(sent(4), 1) for _ in range(6)]
        stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
        classifier.engine.go.set()
        await stopping
        for request in requests:
            assert len(await request.done) == 4

    run(test)


def test_engine_computes_the_same_at_once_from_many_threads() -> None:
    engine = open_engine(tw.load_backbone("starter"), "cpu")
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (40, 64, 64, 3)).astype(np.uint8)
    tags = range(0, 40, 5)
    expected = dict(engine.run((i, images[i : i + 5]) for i in tags))
    found: dict[int, FloatArray] = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: engine.infer(images[i : i + 5])})) for i in tags]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in tags:
        np.testing.assert_allclose(found[i], expected[i], rtol=1e-5, atol=1e-6)
