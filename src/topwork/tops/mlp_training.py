"""Training Dense layers in JAX: an epoch is one compiled loop over the batches, the features stay where they are.

The same as Keras's `fit` with Adam does (Glorot uniform kernels, dropout after each hidden layer, the loss from
logits), without its work between the steps: at batches of 32 that is nearly half of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from topwork.keras_door import import_jax
from topwork.types import FloatArray, IntArray

_BETAS, _EPSILON = (0.9, 0.999), 1e-7
"""Adam's (Kingma & Ba 2014, arXiv 1412.6980), with the epsilon that Keras has."""


@dataclass(frozen=True)
class Examples:
    """Features `(N, D)` float32, labels `(N,)` in 0..K-1, and a weight `(N,)` for each."""

    X: FloatArray
    y: IntArray
    weights: FloatArray

    def __getitem__(self, rows: slice) -> Examples:
        return Examples(self.X[rows], self.y[rows], self.weights[rows])


class MLPTrainer:
    """Dense layers in training.

    Args:
        widths: D, the hidden widths, K.
        train: what it learns from.
        validation: what judges it.
        dropout: the part of the hidden units left out at each step.
        learning_rate: Adam's.
        batch_size: examples a step; the last step of an epoch has what is left.
        seed: of initial weights, dropout and the order of examples.
    """

    def __init__(
        self,
        widths: Sequence[int],
        train: Examples,
        validation: Examples,
        *,
        dropout: float,
        learning_rate: float,
        batch_size: int,
        seed: int,
    ) -> None:
        jax = import_jax()
        self._key = jax.random.key(seed, impl="rbg")
        self._random = np.random.default_rng(seed)
        parameters = _initial(widths, self._random)
        zeros = jax.tree.map(np.zeros_like, parameters)
        self._state = parameters, zeros, zeros, np.zeros((), np.float32)
        self._batch_size = min(batch_size, len(train.y))
        self._epoch = _epoch_function(dropout, learning_rate)
        self._data = jax.device_put((_fields(train), _fields(validation)))

    def run_epoch(self) -> dict[str, float]:
        """Go once through the examples; returns loss, accuracy, val_loss, val_accuracy."""
        self._key, self._state, row = self._epoch(self._key, self._state, self._batches(), *self._data)
        return {name: float(value) for name, value in row.items()}

    def _batches(self) -> tuple[IntArray, FloatArray]:
        """A new order of the examples, `(n_steps, batch_size)`, and 1 where there is one: the last step is padded."""
        n = len(self._data[0][1])
        n_steps = -(-n // self._batch_size)
        order = np.resize(self._random.permutation(n).astype(np.int32), n_steps * self._batch_size)
        there = (np.arange(len(order)) < n).astype(np.float32)
        return order.reshape(n_steps, -1), there.reshape(n_steps, -1)

    def layers(self) -> tuple[tuple[FloatArray, FloatArray], ...]:
        """Kernel `(fan_in, fan_out)` and bias `(fan_out,)` of each layer, as they are now."""
        return tuple((np.asarray(kernel), np.asarray(bias)) for kernel, bias in self._state[0])


def _fields(examples: Examples) -> tuple[FloatArray, IntArray, FloatArray]:
    return examples.X, examples.y.astype(np.int32), examples.weights.astype(np.float32)


def _initial(widths: Sequence[int], random: np.random.Generator) -> list[tuple[FloatArray, FloatArray]]:
    """Glorot & Bengio's uniform kernels (2010), and biases of zero."""
    layers = []
    for fan_in, fan_out in pairwise(widths):
        limit = (6 / (fan_in + fan_out)) ** 0.5
        kernel = random.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32)
        layers.append((kernel, np.zeros(fan_out, np.float32)))
    return layers


@cache
def _epoch_function(dropout: float, learning_rate: float) -> Callable[..., Any]:
    """An epoch, compiled once for each size of the data: folds of one size share it (a second or more each)."""
    jax = import_jax()
    jnp, lax = jax.numpy, jax.lax
    left_out = min(round(dropout * 2**16), 2**16 - 1)  # of 16 random bits: half the cost of a random float

    def logits_of(parameters: Any, x: Any, key: Any) -> Any:
        *hidden, last = parameters
        for kernel, bias in hidden:
            x = jax.nn.relu(x @ kernel + bias)
            if key is not None and dropout:
                key, own = jax.random.split(key)
                x = jnp.where(_random_16_bits(own, x.shape) >= left_out, x / (1 - dropout), 0)
        return x @ last[0] + last[1]

    def sums(parameters: Any, x: Any, y: Any, w: Any, key: Any) -> Any:
        """Weighted losses and hits, added up."""
        logits = logits_of(parameters, x, key)
        losses = jax.nn.logsumexp(logits, axis=1) - jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
        return jnp.sum(w * losses), jnp.sum(w * (logits.argmax(axis=1) == y))

    def run(key: Any, state: Any, batches: Any, train: Any, validation: Any) -> Any:
        X, y, weights = train
        key, masks = jax.random.split(key)

        def step(state: Any, batch: Any) -> Any:
            rows, there, key = batch
            w = weights[rows] * there

            def loss(parameters: Any) -> Any:
                total, hits = sums(parameters, X[rows], y[rows], w, key)
                return total / jnp.sum(there), (total, hits)

            gradients, seen = jax.grad(loss, has_aux=True)(state[0])
            return _adam(state, gradients, learning_rate), seen

        state, (losses, hits) = lax.scan(step, state, (*batches, jax.random.split(masks, len(batches[0]))))
        X_val, y_val, w_val = validation
        val_loss, val_hits = sums(state[0], X_val, y_val, w_val, None)
        row = {
            "loss": losses.sum() / len(y),
            "accuracy": hits.sum() / weights.sum(),
            "val_loss": val_loss / len(y_val),
            "val_accuracy": val_hits / w_val.sum(),
        }
        return key, state, row

    compiled: Callable[..., Any] = jax.jit(run)
    return compiled


def _random_16_bits(key: Any, shape: tuple[int, int]) -> Any:
    """`shape`, uint16: halves of 32-bit numbers. JAX itself would draw 32 bits for each, and drop half of them."""
    jax = import_jax()
    n_rows, width = shape
    pairs = jax.random.bits(key, (n_rows, -(-width // 2)), "uint32")
    return jax.lax.bitcast_convert_type(pairs, "uint16").reshape(n_rows, -1)[:, :width]


def _adam(state: Any, gradients: Any, learning_rate: float) -> Any:
    """One step: parameters, their first and second moments, and the number of steps."""
    jax = import_jax()
    jnp = jax.numpy
    parameters, first, second, step = state
    step = step + 1
    first = jax.tree.map(lambda m, g: m + (g - m) * (1 - _BETAS[0]), first, gradients)
    second = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - _BETAS[1]), second, gradients)
    rate = learning_rate * jnp.sqrt(1 - _BETAS[1] ** step) / (1 - _BETAS[0] ** step)
    parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + _EPSILON), parameters, first, second)
    return parameters, first, second, step
