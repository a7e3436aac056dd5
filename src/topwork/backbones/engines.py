"""What runs a backbone: OpenVINO on the processor, Keras on JAX on an accelerator; one contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from topwork.backbones.backbone import Backbone
from topwork.errors import OptionError
from topwork.keras_door import has_accelerator
from topwork.types import Device, FloatArray, ImageArray

Tag = TypeVar("Tag")


class Engine(Protocol):
    """Runs one backbone over batches of images."""

    @property
    def n_features(self) -> int:
        """D."""

    @property
    def batch_size(self) -> int:
        """How many images at a time suit it."""

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        """Features of each batch: `(B, size, size, 3)` uint8 -> `(B, D)` float32, in any order, by their tag."""


class DirectEngine(Engine, Protocol):
    """An engine that a service can use too, whose batches come when they come."""

    def infer(self, batch: ImageArray) -> FloatArray:
        """Features of one batch of at most `batch_size` images, at once. Any number of threads may call it."""


def has_bf16(device: Device = "auto") -> bool:
    """Whether bf16 can be asked for on 'cpu' or 'gpu', or on whichever JAX finds."""
    if device != "cpu" and has_accelerator():
        return True
    from topwork.backbones.openvino_engine import processor_has_bf16

    return processor_has_bf16()


def open_engine(backbone: Backbone, device: Device = "auto") -> DirectEngine:
    """An engine for `backbone` on 'cpu' or 'gpu', or on whichever JAX finds.

    Raises:
        OptionError: 'gpu' where JAX sees no accelerator.
    """
    if device == "gpu" and not backbone.is_keras:
        raise OptionError(f"Keras does not build {backbone.name}, so it runs on the processor. Use `device=cpu`.")
    if device != "cpu" and backbone.is_keras and has_accelerator():
        from topwork.backbones.keras_engine import KerasEngine

        return KerasEngine(backbone)
    if device == "gpu":
        raise OptionError("JAX sees no accelerator here. Install topwork[cuda] on a CUDA machine, or use `device=cpu`.")
    from topwork.backbones.openvino_engine import OpenVINOEngine

    return OpenVINOEngine(backbone)
