"""Keras on JAX runs a backbone: the way on an accelerator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.backbones.network import assign_tensors, build_base, build_network, filled
from topwork.errors import EnvironmentProblem
from topwork.keras_door import import_keras
from topwork.types import FloatArray, ImageArray

if TYPE_CHECKING:
    import jax

Tag = TypeVar("Tag")

_PIXELS_AT_A_TIME = 128 * 224**2
"""Of a batch, which keeps the memory that large inputs want in bounds: 128 images of 224 pixels, 17 of 600."""


class KerasEngine:
    """A backbone jitted by JAX. See `Engine` for the contract."""

    def __init__(self, backbone: Backbone) -> None:
        keras = import_keras()
        if keras.backend.backend() != "jax":
            raise EnvironmentProblem(
                f"Keras runs on {keras.backend.backend()!r} in this process. Extraction on an accelerator needs JAX: "
                "set KERAS_BACKEND=jax before the first `import keras`, or use `device=cpu`."
            )
        import jax

        policy = keras.config.dtype_policy()
        try:
            keras.config.set_dtype_policy("mixed_bfloat16" if backbone.precision == "bf16" else "float32")
            base = build_base(backbone.spec)
            assign_tensors(base, backbone.weights.tensors)
            network = build_network(backbone.spec, base)
        finally:
            keras.config.set_dtype_policy(policy)
        self._state = (
            [v.value for v in network.trainable_variables],
            [v.value for v in network.non_trainable_variables],
        )

        products = "float32" if backbone.precision == "f32" else None  # else a GPU computes them in tf32, in silence

        def forward(state: tuple[list[jax.Array], list[jax.Array]], pixels: jax.Array) -> jax.Array:
            with jax.default_matmul_precision(products):
                return network.stateless_call(*state, pixels, training=False)[0]

        self._forward = jax.jit(forward)
        self.batch_size = max(1, min(128, _PIXELS_AT_A_TIME // backbone.size**2))
        self.n_features = int(network.output_shape[-1])

    def start(self, batch: ImageArray | jax.Array) -> jax.Array:
        """Begin to compute one batch and don't wait: `(B, size, size, 3)` uint8 -> `(batch_size, D)` float32.

        Rows from B on are of no image. Pixels travel as bytes, and are scaled on the device.
        """
        return self._forward(self._state, filled(batch, self.batch_size))

    def run(self, batches: Iterable[tuple[Tag, ImageArray]]) -> Iterator[tuple[Tag, FloatArray]]:
        """Features of each batch: `(B, size, size, 3)` uint8 -> `(B, D)` float32, by their tag."""
        waiting = None  # JAX computes one batch while the next is decoded
        for tag, batch in batches:
            started = tag, len(batch), self.start(batch)
            if waiting is not None:
                yield waiting[0], np.asarray(waiting[2])[: waiting[1]]
            waiting = started
        if waiting is not None:
            yield waiting[0], np.asarray(waiting[2])[: waiting[1]]

    def infer(self, batch: ImageArray) -> FloatArray:
        """Features of one batch: `(B, size, size, 3)` uint8 -> `(B, D)` float32; B is at most `batch_size`."""
        return np.asarray(self.start(batch))[: len(batch)]
