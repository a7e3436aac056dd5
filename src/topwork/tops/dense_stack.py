"""A fitted top as plain arrays, and its prediction in NumPy: all that using a classifier needs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from topwork.errors import ShapeError
from topwork.types import FloatArray

_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True, eq=False)
class DenseStack:
    """Dense layers, relu between them, softmax at the end.

    Attributes:
        kernels: one `(fan_in, fan_out)` float32 matrix a layer; the first has D rows, the last K columns.
        biases: one `(fan_out,)` float32 vector a layer.
    """

    kernels: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.kernels[0].shape[0])

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.kernels[-1].shape[1])

    def logits(self, features: FloatArray) -> FloatArray:
        """`(N, K)` float64, before the softmax, of `(N, D)` features.

        Computed in float64, so that a row's result does not depend on the rows beside it beyond 1e-12.
        """
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise ShapeError(f"Expected features of shape (N, {self.n_features}), got {features.shape}.")
        result = np.empty((len(features), self.n_classes))
        for start in range(0, len(features), _ROWS_AT_A_TIME):
            x = features[start : start + _ROWS_AT_A_TIME].astype(np.float64)
            for layer, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
                x = (np.maximum(x, 0.0) if layer else x) @ kernel.astype(np.float64) + bias
            result[start : start + len(x)] = x
        return result

    def probabilities(self, features: FloatArray) -> FloatArray:
        """`(N, K)` float64, rows sum to 1, of `(N, D)` features."""
        return softmax(self.logits(features))

    def divided_by(self, temperature: float) -> DenseStack:
        """The stack whose logits are these divided by `temperature`."""
        return DenseStack(
            (*self.kernels[:-1], np.asarray(self.kernels[-1] / temperature, np.float32)),
            (*self.biases[:-1], np.asarray(self.biases[-1] / temperature, np.float32)),
        )

    def tensors(self) -> dict[str, FloatArray]:
        """The arrays by name, as `from_tensors` takes them."""
        named = {f"dense_{i}/kernel": kernel for i, kernel in enumerate(self.kernels)}
        return {**named, **{f"dense_{i}/bias": bias for i, bias in enumerate(self.biases)}}

    @classmethod
    def from_tensors(cls, tensors: dict[str, FloatArray]) -> DenseStack:
        """The stack that `tensors` describes.

        Raises:
            ShapeError: a layer is missing or of another dtype than float32, or they don't fit one on another.
        """
        layers = range(len(tensors) // 2)
        names = {f"dense_{i}/{part}" for i in layers for part in ("kernel", "bias")}
        if not layers or names != set(tensors):
            raise ShapeError(f"Expected a kernel and a bias for each dense layer; got {', '.join(sorted(tensors))}.")
        if any(values.dtype != np.float32 for values in tensors.values()):
            raise ShapeError("Expected dense layers in float32.")
        kernels = tuple(tensors[f"dense_{i}/kernel"] for i in layers)
        biases = tuple(tensors[f"dense_{i}/bias"] for i in layers)
        widths = [kernel.shape for kernel in kernels]
        fits = all(len(shape) == 2 and min(shape) > 0 for shape in widths) and all(
            below[1] == above[0] for below, above in pairwise(widths)
        )
        if not (fits and all(b.shape == k.shape[1:] for k, b in zip(kernels, biases, strict=True))):
            raise ShapeError(f"Layers of shapes {widths} don't fit one on another.")
        return cls(kernels, biases)


def softmax(logits: FloatArray) -> FloatArray:
    """`(N, K)` probabilities, rows sum to 1, of `(N, K)` logits."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
