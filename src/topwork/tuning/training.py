"""Training what lies above a cut, and the linear top on it, from kept activations.

AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), a warm-up and a cosine to zero, for a fixed number of epochs. There
is no stopping by the validation loss: it rose in trainings that gained two points of accuracy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork.backbones.layers import Layer
from topwork.backbones.preprocessing import Preprocessing
from topwork.errors import StorageError
from topwork.keras_door import import_jax
from topwork.memory import available_memory, fits, gigabytes
from topwork.tops.dense_stack import DenseStack
from topwork.tuning.tail import Parameters, make_tail
from topwork.types import FloatArray, IntArray

EPOCHS = 8
BATCH = 32
_WARM_UP = 0.1
"""The part of the steps in which the learning rate rises."""
_DECAY = 0.05
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_AT_A_TIME = 128
"""Images whose answers are computed at once."""


@dataclass(frozen=True, eq=False)
class Weights:
    """What is trained.

    Attributes:
        tail: the trained parameters above the cut, by their place in the network.
        kernel: `(D, K)` float32, of the top, for features divided by `Tuner.scale`.
        bias: `(K,)` float32.
    """

    tail: Parameters
    kernel: FloatArray
    bias: FloatArray

    def half_way_to(self, other: Weights) -> Weights:
        """The mean of these and others (WiSE-FT: Wortsman et al. 2022, arXiv 2109.01903)."""
        tail: Parameters = {place: (values + other.tail[place]) / 2 for place, values in self.tail.items()}
        return Weights(tail, (self.kernel + other.kernel) / 2, (self.bias + other.bias) / 2)


@dataclass(frozen=True, eq=False)
class Material:
    """What is learned from, or answered for.

    Attributes:
        views: of each view, the plain one first, `(N, h * w * c)` float16 activations.
        rows: `(n,)`, which of the N images.
        labels: `(n,)`, in 0..K-1.
        weights: `(n,)`, how much each counts.
    """

    views: Sequence[FloatArray]
    rows: IntArray
    labels: IntArray
    weights: FloatArray


class Tuner:
    """Trains one network above one cut; compiled once for all trainings.

    Args:
        above: the layers above the cut.
        shape: `(h, w, c)`, of the map at the cut.
        trained: the parameters above the cut that are trained, as they are in the network.
        fixed: the others.
        pixels: what an image goes through first, where the map at the cut is the image itself.
        scale: the root mean square of the features: steps in the top's kernel do not depend on their size then.
    """

    def __init__(
        self,
        above: Sequence[Layer],
        shape: tuple[int, ...],
        trained: Parameters,
        fixed: Parameters,
        scale: float,
        *,
        pixels: Preprocessing | None = None,
    ) -> None:
        jax = import_jax()
        self.shape, self.scale, self._n_features = shape, scale, above[-1].shape[-1]
        self._trained, self._fixed = trained, jax.device_put(fixed)
        tail = make_tail(above)

        def features(weights: Any, fixed: Any, x: Any) -> Any:
            x = x.astype("float32").reshape(-1, *shape)
            return tail(weights[0], fixed, x if pixels is None else _prepared(x, pixels))

        def logits(weights: Any, fixed: Any, x: Any) -> Any:
            return features(weights, fixed, x) / scale @ weights[1] + weights[2]

        self._logits = jax.jit(logits)
        self._jitted = jax.jit(_step_function(logits), donate_argnums=0)
        self._steps: dict[int, Any] = {}

    def start(self, top: DenseStack) -> Weights:
        """What training begins with: the network as it is, and a linear top on its features."""
        return Weights(self._trained, top.kernels[0] * np.float32(self.scale), top.biases[0])

    def top(self, weights: Weights) -> DenseStack:
        """The top of some weights, on features as they are."""
        return DenseStack((weights.kernel / np.float32(self.scale),), (weights.bias,))

    def train(
        self,
        start: Weights,
        material: Material,
        *,
        rate: float,
        seed: int,
        on_step: Callable[[int], None] = lambda n: None,
    ) -> Weights | None:
        """The weights after `EPOCHS` epochs; None where training diverged.

        Args:
            start: what it begins with.
            material: what it learns from; of each image one view is drawn in each epoch.
            rate: the highest learning rate.
            seed: of the order of the images, and of their views.
            on_step: hears of how many images each step was.

        Raises:
            StorageError: memory has no room for a step.
        """
        jax = import_jax()
        jnp = jax.numpy
        weights = jax.tree.map(jnp.array, (start.tail, start.kernel, start.bias))  # copies: the step takes them over
        zeros = jax.tree.map(jnp.zeros_like, weights)
        state = (weights, zeros, jax.tree.map(jnp.zeros_like, weights), jnp.zeros((), jnp.float32))
        for number, (x, y, w) in enumerate(_batches(material, seed), 1):
            now = np.float32(rate * _schedule(number, EPOCHS * _n_steps(len(material.rows))))
            if len(y) not in self._steps:
                self._steps[len(y)] = self._compiled(state, self._fixed, x, y, w, now)
            state, loss = self._steps[len(y)](state, self._fixed, x, y, w, now)
            if not np.isfinite(float(loss)):
                return None
            on_step(len(y))
        found = jax.tree.map(np.asarray, state[0])
        is_finite = all(np.isfinite(values).all() for values in jax.tree.leaves(found))
        return Weights(*found) if is_finite else None

    def seconds_per_image(self, n_classes: int) -> float:
        """How long training takes an image here: a step is compiled, and another is measured."""
        top = DenseStack((np.zeros((self._n_features, n_classes), np.float32),), (np.zeros(n_classes, np.float32),))
        rows = np.arange(BATCH)
        nothing = np.zeros((BATCH, int(np.prod(self.shape))), np.float16)
        material = Material([nothing], rows, np.zeros(BATCH, np.int64), np.ones(BATCH))
        times: list[float] = []
        self.train(self.start(top), material, rate=0.0, seed=0, on_step=lambda n: times.append(time.perf_counter()))
        return (times[-1] - times[0]) / (len(times) - 1) / BATCH

    def _compiled(self, *arguments: Any) -> Any:
        """A step for batches of one size, if memory has room for it."""
        step = self._jitted.lower(*arguments).compile()
        facts = step.memory_analysis()
        needed = int(facts.temp_size_in_bytes) if facts is not None else 0
        if not fits(needed):
            raise StorageError(
                f"Training above this cut takes {gigabytes(needed)} of memory for {len(arguments[3])} images at once, "
                f"and {gigabytes(available_memory())} are free. Fine-tune a smaller part, or take a smaller `size`."
            )
        return step

    def logits(self, weights: Weights, views: FloatArray, rows: IntArray) -> FloatArray:
        """`(n, K)` float64 logits of some rows of `(N, h * w * c)` activations."""
        parts = []
        for start in range(0, len(rows), _AT_A_TIME):
            x = views[np.resize(rows[start : start + _AT_A_TIME], min(_AT_A_TIME, len(rows)))]  # of one shape
            n = len(rows[start : start + _AT_A_TIME])
            parts.append(np.asarray(self._logits((weights.tail, weights.kernel, weights.bias), self._fixed, x))[:n])
        return np.concatenate(parts).astype(np.float64)


def n_seen(n: int) -> int:
    """How many of `n` images an epoch shows: whole batches alone."""
    return _n_steps(n) * min(BATCH, n)


def _n_steps(n: int) -> int:
    return max(1, n // BATCH)


def _batches(material: Material, seed: int) -> Iterator[tuple[FloatArray, IntArray, FloatArray]]:
    """All batches of all epochs; what is left of an epoch's order after its last whole batch is passed over."""
    random = np.random.default_rng(seed)
    n, size = len(material.rows), min(BATCH, len(material.rows))
    for _ in range(EPOCHS):
        order, drawn = random.permutation(n), random.integers(0, len(material.views), n)
        for start in range(0, _n_steps(n) * size, size):
            chosen = order[start : start + size]
            rows, views = material.rows[chosen], drawn[chosen]
            x = np.empty((size, material.views[0].shape[1]), np.float16)
            for number in np.unique(views):
                x[views == number] = material.views[number][rows[views == number]]
            yield x, material.labels[chosen].astype(np.int32), material.weights[chosen].astype(np.float32)


def _schedule(step: int, n_steps: int) -> float:
    """The learning rate at a step, from 1 on, in parts of the highest."""
    warm = max(1, round(_WARM_UP * n_steps))
    if step <= warm:
        return step / warm
    return float(0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, n_steps - warm))))


def _prepared(x: Any, pixels: Preprocessing) -> Any:
    ordered = x[..., ::-1] if pixels.reverse_channels else x
    return ordered * np.array(pixels.scale, np.float32) + np.array(pixels.offset, np.float32)


def _step_function(logits: Callable[..., Any]) -> Callable[..., Any]:
    jax = import_jax()
    jnp = jax.numpy

    def step(state: Any, fixed: Any, x: Any, y: Any, w: Any, rate: Any) -> Any:
        weights, first, second, count = state

        def loss(weights: Any) -> Any:
            z = logits(weights, fixed, x)
            losses = jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0]
            return jnp.mean(w * losses)

        value, gradients = jax.value_and_grad(loss)(weights)
        count = count + 1
        first = jax.tree.map(lambda m, g: m + (g - m) * (1 - _BETAS[0]), first, gradients)
        second = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - _BETAS[1]), second, gradients)
        correction = jnp.sqrt(1 - _BETAS[1] ** count) / (1 - _BETAS[0] ** count)

        def moved(p: Any, m: Any, v: Any) -> Any:
            decayed = p * (1 - rate * _DECAY) if p.ndim > 1 else p  # kernels alone
            return decayed - rate * correction * m / (jnp.sqrt(v) + _EPSILON)

        return (jax.tree.map(moved, weights, first, second), first, second, count), value

    return step
