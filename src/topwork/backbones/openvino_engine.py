"""OpenVINO runs a backbone: the way on a processor."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.backbones.network import filled
from topwork.errors import OptionError, StorageError
from topwork.files import fingerprint
from topwork.kept import read_kept, write_kept
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
        core = import_openvino().Core()
        if backbone.precision == "bf16" and not processor_has_bf16():
            raise OptionError(
                "This processor has no bf16 arithmetic, in which the backbone is to compute. Train with "
                "`precision=f32`, or use a machine that has bf16."
            )
        # one batch size, which runs a fifth faster than an open one
        self.batch_size = max(1, min(32, _PIXELS_AT_A_TIME // backbone.size**2))
        self._compiled, self._blob = _compiled(core, backbone, self.batch_size)
        # twice as many as run at once, so that the next is ready when one ends
        self._n_requests = 2 * int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._idle: deque[Any] = deque()  # requests that `infer` may take
        self.n_features = int(self._compiled.output(0).partial_shape[1].get_length())

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


def _compiled(core: ov.Core, backbone: Backbone, batch_size: int) -> tuple[ov.CompiledModel, object]:
    """The graph compiled for this processor, as it was kept or now; and the memory that it must not outlive.

    OpenVINO's own cache is not used: it writes where other processes have the same file mapped, which kills them, and
    believes whatever it reads.
    """
    config = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": backbone.precision}  # else bf16 in silence
    path = backbone.graph_folder / f"compiled-{_compiled_for(core, backbone, batch_size)}.blob"
    blob = read_kept(path)
    if blob is not None:
        with contextlib.suppress(RuntimeError):  # OpenVINO has reasons of its own to refuse one
            tensor = import_openvino().Tensor(blob, shared_memory=True)
            return core.import_model(tensor, "CPU", config), blob
    model = core.read_model(backbone.graph())
    model.reshape([batch_size, backbone.size, backbone.size, 3])
    compiled = core.compile_model(model, "CPU", config)
    with contextlib.suppress(StorageError):  # the next start takes longer, no more
        write_kept(path, compiled.export_model().getbuffer())
    return compiled, None


def _compiled_for(core: ov.Core, backbone: Backbone, batch_size: int) -> str:
    """What a compiled graph depends on beside the graph."""
    facts = {
        "openvino": import_openvino().get_version(),
        "processor": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "precision": backbone.precision,
        "batch": batch_size,
    }
    return fingerprint(facts)
