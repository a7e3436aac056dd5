"""OpenVINO runs a backbone: the way on a processor."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.backbones.network import filled
from topwork.errors import OptionError
from topwork.openvino_door import import_openvino
from topwork.types import FloatArray, ImageArray

if TYPE_CHECKING:
    import openvino as ov

Tag = TypeVar("Tag")


_PIXELS_AT_A_TIME = 65_536
"""Of a batch: more gains nothing on a processor (64-pixel images: 16 at a time; 224: one), fewer wastes calls."""


def processor_has_bf16() -> bool:
    """Whether OpenVINO can compute in bf16 here."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOEngine:
    """A backbone compiled by OpenVINO, run by asynchronous requests. See `Engine` for the contract."""

    def __init__(self, backbone: Backbone) -> None:
        graph = backbone.graph()
        ov = import_openvino()
        core = ov.Core()
        if backbone.precision == "bf16" and not processor_has_bf16():
            raise OptionError(
                "This processor has no bf16 arithmetic, in which the backbone is to compute. Train with --precision "
                "f32, or use a machine that has bf16."
            )
        model = core.read_model(graph)
        self.batch_size = self._fix_batch(model, backbone.size)
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": backbone.precision,  # else OpenVINO takes bf16 in silence
                "CACHE_DIR": os.fspath(graph.parent / "compiled"),
            },
        )
        # twice as many as run at once, so that the next is ready when one ends
        self._n_requests = 2 * int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._idle: deque[Any] = deque()  # requests that `infer` may take
        self.n_features = int(self._compiled.output(0).partial_shape[1].get_length())

    @staticmethod
    def _fix_batch(model: ov.Model, size: int) -> int:
        """Give the graph one batch size, which runs a fifth faster than an open one; returns it."""
        batch_size = max(1, min(32, _PIXELS_AT_A_TIME // size**2))
        model.reshape([batch_size, size, size, 3])
        return batch_size

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        """Features of each batch: `(B, size, size, 3)` uint8 -> `(B, D)` float32, in any order, by their tag.

        B is at most `batch_size`.
        """
        requests = [self._compiled.create_infer_request() for _ in range(self._n_requests)]
        running: deque[tuple[ov.InferRequest, Tag, int]] = deque()
        try:
            for tag, batch in batches:
                if not requests:
                    yield self._finish(running, requests)
                request = requests.pop()
                request.start_async({0: filled(batch, self.batch_size)})
                running.append((request, tag, len(batch)))
            while running:
                yield self._finish(running, requests)
        finally:
            for request, _, _ in running:  # a request must not outlive the buffers it reads
                request.wait()

    def infer(self, batch: ImageArray) -> FloatArray:
        """Features of one batch: `(B, size, size, 3)` uint8 -> `(B, D)` float32; B is at most `batch_size`."""
        try:
            request = self._idle.pop()  # a deque's pop and append are atomic
        except IndexError:
            request = self._compiled.create_infer_request()
        request.start_async({0: filled(batch, self.batch_size)})
        request.wait()
        features = np.array(request.get_output_tensor().data[: len(batch)])
        self._idle.append(request)
        return features

    @staticmethod
    def _finish(
        running: deque[tuple[ov.InferRequest, Tag, int]], requests: list[ov.InferRequest]
    ) -> tuple[Tag, FloatArray]:
        """Wait for the oldest request, take its features, and free it.

        No callbacks: a thread of OpenVINO's that waits for Python's lock at the end of one, while the queue it belongs
        to is being taken down under that lock, hangs the process.
        """
        request, tag, n = running.popleft()
        request.wait()
        features = np.array(request.get_output_tensor().data[:n])
        requests.append(request)
        return tag, features
