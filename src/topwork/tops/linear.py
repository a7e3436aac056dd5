"""Multinomial logistic regression, its L2 chosen on validation: the plain measure of what features are worth.

The objective over N examples `x` with labels `y`, kernel W `(D, K)` and bias b `(K,)`:

    sum_n weight_n * -log softmax(x_n W + b)[y_n]  +  l2/2 * sum(W**2),   weights summing to 1

L-BFGS finds the minimum. What makes it quick is a change of variables: the Hessian is bounded by
`(S/2 + l2) x I` with `S = sum_n weight_n x_n x_n'` (Boehning 1992, doi 10.1007/BF00048682), so in the eigenbasis of
S, each direction scaled by `(s/2 + l2)**-0.5`, the problem is well conditioned at every l2. S and the rotation are
computed once for the whole sweep.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

from topwork.errors import OptionError
from topwork.memory import BLOCK, blocks, new_array
from topwork.tops.base import ClassWeight, DenseTop, OnRow
from topwork.tops.dense_stack import DenseStack
from topwork.types import FloatArray, IntArray

L2_VALUES = tuple(float(f"{value:.3e}") for value in np.logspace(5, -6, 45))
"""45 values from 1e5 to 1e-6, the sweep of Kornblith, Shlens, Le (2019, arXiv 1805.08974), strongest first."""

COARSE_L2_VALUES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
COARSE_TOLERANCE = 3e-3
"""For checks and learning curves, which fit many tops and want an order or a mean, not the last tenth of a point."""

_WORSE_IN_A_ROW = 4
_BLOCK = 1 << 19
"""Numbers of X at a time: what stays in a processor's cache, so that X is read from memory once for both products."""
_PARTS = 8
"""Into how many sums the examples fall, whatever the number of processors, so that results do not depend on it."""
_PARAMETERS = 6_400
"""Of a problem of usual size; among more of them each one's gradient must be smaller for the same objective."""
_LARGEST_EIGENPROBLEM = 4096  # about 20 s on two cores; wider features go without the rotation


class LinearTop(DenseTop):
    """Softmax regression by L-BFGS, L2 swept on validation, then refitted on training and validation together.

    Minimises the weighted mean log loss plus `l2/2 * sum(kernel**2)` over standardised features; the bias is free.
    The sweep goes from the strongest L2 to the weakest, each fit starting from the last, and ends once the
    validation loss has not fallen 4 times in a row: weaker values only overfit more.

    Args:
        l2: the values to try; one value is taken as it is.
        max_iter: L-BFGS steps for each value.
        tol: L-BFGS stops when no entry of the scaled gradient is larger than this part of the objective. The default
            brings the objective within about 1e-4 of its minimum, relatively.
        class_weight: 'balanced' weighs classes by their rarity; a dict gives each label its weight.
        seed: of the examples held out where no validation is given.

    Attributes:
        history_: a row an L2 value: l2, loss, val_loss, val_accuracy.
        l2_: the value that was chosen.
    """

    def __init__(
        self,
        l2: float | Sequence[float] = L2_VALUES,
        *,
        max_iter: int = 500,
        tol: float = 1e-4,
        class_weight: ClassWeight = None,
        seed: int = 0,
    ) -> None:
        self.l2 = l2
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight
        self.seed = seed

    def check_options(self) -> None:
        """Raise an `OptionError` if a parameter has a value that it can't have."""
        values = np.atleast_1d(np.asarray(self.l2, dtype=float))
        if len(values) == 0 or values.min() < 0:
            raise OptionError(f"Expected l2 to be 0 or more, or several such values; got {self.l2!r}.")

    def _fit(
        self,
        X: FloatArray,
        y: IntArray,
        train: slice,
        validation: slice,
        weights: FloatArray,
        on_row: OnRow,
    ) -> tuple[DenseStack, FloatArray]:
        values = sorted(np.atleast_1d(np.asarray(self.l2, dtype=float)).tolist(), reverse=True)
        rotation, spectrum = _eigenbasis(X[train])
        X = _rotate(X, rotation)
        X_val, y_val = X[validation], y[validation]
        problem = _Problem(X[train], y[train], weights, spectrum)
        solution: FloatArray = np.zeros((problem.n_directions + 1, len(self.classes_)))
        best = step = solution
        loss = best_objective = 1.0
        best_loss, worse = np.inf, 0
        self.n_iter_ = 0
        for l2 in values:
            # the path bends little from one value to the next: going on straight halves the work
            found, loss = self._minimise(problem, l2, solution + step, loss)
            solution, step = found, (found - solution) * (len(self.history_) > 0)
            val_loss, val_accuracy = _validate(solution, X_val, y_val, weights[y_val])
            on_row({"l2": l2, "loss": loss, "val_loss": val_loss, "val_accuracy": val_accuracy})
            if val_loss < best_loss:
                best, best_objective, best_loss, self.l2_, worse = solution, loss, val_loss, l2, 0
            else:
                worse += 1
            if worse == _WORSE_IN_A_ROW:
                break
        val_logits = DenseStack((best[:-1],), (best[-1],)).logits(X_val)
        if validation != train:
            best, _ = self._minimise(_Problem(X, y, weights, spectrum), self.l2_, best, best_objective)
        kernel = best[:-1].astype(np.float32) if rotation is None else _product(rotation, best[:-1])
        return DenseStack((kernel,), (best[-1].astype(np.float32),)), val_logits

    def _minimise(self, problem: _Problem, l2: float, start: FloatArray, about: float) -> tuple[FloatArray, float]:
        """The parameters and the objective at the minimum; `about` guesses that objective, rather above it."""
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        scale = problem.scale(l2)
        parameters, steps = (start / scale).ravel(), self.max_iter
        # our own threads over blocks: those of BLAS wait for each other, and beside other programs ten times as long
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(_PARTS, os.cpu_count() or 1)) as pool:
            while True:
                tol = self.tol * min(1.0, about) * min(1.0, (_PARAMETERS / start.size) ** 0.5)
                found = minimize(
                    problem.loss_and_gradient,
                    parameters,
                    args=(l2, scale, pool),
                    jac=True,
                    method="L-BFGS-B",
                    options={"maxiter": steps, "gtol": tol, "ftol": 1e-12},
                )
                self.n_iter_ += int(found.nit)
                parameters, steps = found.x, steps - int(found.nit)
                if found.fun > about / 2 or steps <= 0:
                    break
                about = found.fun  # far below what was guessed: nearer then
        return parameters.reshape(start.shape) * scale, float(found.fun)


def _eigenbasis(X: FloatArray) -> tuple[FloatArray | None, FloatArray]:
    """Directions `(D, R)` in which X varies, and the mean square along each; None where finding them costs too much."""
    from threadpoolctl import threadpool_limits

    n, d = X.shape
    if min(n, d) > _LARGEST_EIGENPROBLEM:
        return None, sum(np.square(X[rows]).sum(axis=0, dtype=np.float64) for rows in blocks(X)) / n
    gram = _gram(X) if d <= n else (X @ X.T).astype(np.float64)
    with threadpool_limits(1, user_api="blas"):  # two: 1.6 times as fast, but beside other programs 80 times as slow
        values, vectors = np.linalg.eigh(gram)
    keep = values > 1e-6 * values[-1] if values[-1] > 0 else np.zeros(len(values), bool)
    values, vectors = values[keep], vectors[:, keep]
    if d > n:  # fewer examples than features: the minimum lies in the span of the examples
        return _product(X.T, vectors / np.sqrt(values)), values / n
    return vectors.astype(np.float32), values / n


def _gram(X: FloatArray) -> FloatArray:
    """`(D, D)`, X'X, float64; X is read once."""
    gram = np.zeros((X.shape[1], X.shape[1]))
    for rows in blocks(X, max(BLOCK, gram.size)):
        gram += X[rows].T @ X[rows]
    return gram


def _rotate(X: FloatArray, rotation: FloatArray | None) -> FloatArray:
    """`X @ rotation`, `(N, R)`, written over X: there may be no room for another."""
    if rotation is None:
        return X
    shape = len(X), rotation.shape[1]
    result = X.reshape(-1)[: shape[0] * shape[1]].reshape(shape)
    for rows in blocks(X):
        result[rows] = X[rows] @ rotation  # R <= D: what it covers has been read
    return result


def _product(A: FloatArray, B: FloatArray) -> FloatArray:
    """`A @ B` as float32 of a float64 B; at once, NumPy would make A float64 as a whole."""
    result = new_array((len(A), B.shape[1]))
    for rows in blocks(A):
        result[rows] = A[rows] @ B
    return result


class _Problem:
    """The objective and its gradient over fixed examples; parameters are `(R + 1, K)`, the bias last.

    Args:
        X: `(N, R)` float32, along the directions of the eigenbasis.
        y: `(N,)`, labels 0..K-1.
        class_weights: `(K,)`.
        spectrum: `(R,)`, the mean square of X along each direction.
    """

    def __init__(self, X: FloatArray, y: IntArray, class_weights: FloatArray, spectrum: FloatArray) -> None:
        self.X = X
        self.y = y
        weights = class_weights[y]
        self.weights = (weights / weights.sum())[:, None].astype(np.float32)
        self.n_directions = len(spectrum)
        self._spectrum = spectrum

    def scale(self, l2: float) -> FloatArray:
        """`(R + 1, 1)`, what each row of the parameters is divided by to make the problem round."""
        return np.append((self._spectrum / 2 + l2 + 1e-12) ** -0.5, 2**0.5)[:, None]

    def loss_and_gradient(
        self, flat: FloatArray, l2: float, scale: FloatArray, pool: Executor
    ) -> tuple[float, FloatArray]:
        """At parameters `flat * scale`; the two large products in float32, sums over them in float64."""
        parameters = flat.reshape(self.n_directions + 1, -1) * scale
        parts = list(pool.map(lambda part: self._part(part, parameters), range(_PARTS)))
        gradient = np.sum([gradient for _, gradient in parts], axis=0)
        gradient[:-1] += l2 * parameters[:-1]
        loss = sum(loss for loss, _ in parts) + l2 / 2 * float(np.sum(parameters[:-1] ** 2))
        return loss, (gradient * scale).ravel()

    def _part(self, part: int, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Loss and gradient `(R + 1, K)` of every `_PARTS`-th block of the examples."""
        loss, gradient = 0.0, np.zeros_like(parameters)
        rows = max(32, _BLOCK // max(1, self.n_directions))
        for start in range(part * rows, len(self.y), _PARTS * rows):
            block = slice(start, start + rows)
            X, y, weights = self.X[block], self.y[block], self.weights[block]
            residuals, log_likelihood = _residuals(X, parameters, y)
            loss -= float(np.sum(weights[:, 0] * log_likelihood))
            residuals *= weights
            gradient[:-1] += X.T @ residuals
            gradient[-1] += residuals.sum(axis=0, dtype=np.float64)
        return loss, gradient


def _logits(X: FloatArray, parameters: FloatArray) -> FloatArray:
    """`(N, K)` float32, less the largest of each row."""
    logits = X @ parameters[:-1].astype(np.float32)
    logits += parameters[-1].astype(np.float32)
    logits -= logits.max(axis=1, keepdims=True)
    return logits


def _residuals(X: FloatArray, parameters: FloatArray, y: IntArray) -> tuple[FloatArray, FloatArray]:
    """`(N, K)` probabilities less 1 at the true class, float32; `(N,)` the log-probability of that class, float64.

    At the true class it is minus the sum of the others: of 1 less a probability near 1 only rounding would be left,
    and at weak L2, where all examples are fitted, the line search would find no way down in it.
    """
    logits, rows = _logits(X, parameters), np.arange(len(y))
    true = logits[rows, y].astype(np.float64)
    odds = np.exp(logits, out=logits)
    odds[rows, y] = 0.0
    others = odds.sum(axis=1)
    total = np.exp(true) + others
    odds[rows, y] = -others
    odds /= total[:, None].astype(np.float32)
    return odds, true - np.log(total)


def _validate(parameters: FloatArray, X: FloatArray, y: IntArray, weights: FloatArray) -> tuple[float, float]:
    """Weighted log loss and accuracy."""
    log_likelihood, right = np.empty(len(y), np.float32), np.empty(len(y), bool)
    for rows in blocks(X):
        logits, labels = _logits(X[rows], parameters), y[rows]
        right[rows] = logits.argmax(axis=1) == labels
        log_likelihood[rows] = logits[np.arange(len(labels)), labels] - np.log(np.exp(logits).sum(axis=1))
    return -float(np.average(log_likelihood, weights=weights)), float(np.average(right, weights=weights))
