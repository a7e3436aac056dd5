"""Multinomial logistic regression, its L2 chosen by cross-validation: the plain measure of what features are worth.

The objective over N examples `x` with labels `y`, kernel W `(D, K)` and bias b `(K,)`:

    sum_n weight_n * -log softmax(x_n W + b)[y_n]  +  l2/2 * sum(W**2),   weights summing to 1

L-BFGS finds the minimum. What makes it quick is a change of variables: the Hessian is bounded by
`(S/2 + l2) x I` with `S = sum_n weight_n x_n x_n'` (Boehning 1992, doi 10.1007/BF00048682), so in the eigenbasis of
S, each direction scaled by `(s/2 + l2)**-0.5`, the problem is well conditioned at every l2. S and the rotation are
computed once for the whole sweep, and for all folds: the folds' fits differ in their weights alone (0 for what is held
out), and are minimised at once.

Which L2? The strongest whose held-out examples are in sum at most 1 nat less likely than at the best value: what lies
within that is no evidence (a likelihood ratio below e), and the weaker of two such values is the surer of itself. So
no loss below 1/M of M examples is pursued, even where all of them are answered right at any L2.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from topwork.data.splits import deal_folds, draw_units
from topwork.errors import OptionError
from topwork.memory import BLOCK, Rows, available_processors, blocks, new_array
from topwork.tops.base import ClassWeight, DenseTop, OnRow, numbered_folds
from topwork.tops.dense_stack import DenseStack, softmax
from topwork.types import FloatArray, IntArray

L2_VALUES = tuple(float(f"{value:.3e}") for value in np.logspace(5, -6, 23))
"""45 values from 1e5 to 1e-6, the sweep of Kornblith, Shlens, Le (2019, arXiv 1805.08974), strongest first."""

COARSE_L2_VALUES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
COARSE_TOLERANCE = 3e-3
"""For checks and learning curves, which fit many tops and want an order or a mean, not the last tenth of a point."""

FOLDS = 5
NATS = 1.0
"""What the held-out examples may lose in sum for a stronger L2. The test log loss, the geometric mean of 51 kinds of
sets (60 to 1,000 images of 2 to 20 classes, three networks, ten draws), in parts of that at the smallest held-out
loss, without a temperature: 0.5 nats 0.982, 1 0.982, 2 0.993, 3 1.007; within one standard error of the difference
0.999, of the loss itself 1.060. With the temperature below, 1 gives 0.978 and 2 0.977. These sets chose the rule, so
others may gain less."""
_FOLD_TOLERANCE = 10.0
"""How many times wider `tol` is for the folds: 1,441 digits took 2.2 s instead of 8.4, with the same L2, a held-out log
loss of 0.0361 both times, and a test log loss of 0.1195 instead of 0.1198. Half of it again would take 30 % more steps
on four sets, and chose the same L2 on each."""
_LOOSEST = 3e-3
"""How far that goes. Beyond, a fit at a weak L2 ends near that at a strong one, where it begins, and looks as good:
with 12,000 photographs a coarse sweep took 1e-4 instead of 0.01, and the top was right on 76.1 % instead of 81.0."""
_AFFORDABLE = 2e8
"""Numbers of N x D x K up to which folds are cross-validated."""

_WORSE_IN_A_ROW = 3
_BLOCK = 1 << 19
"""Numbers of X at a time: what stays in a processor's cache, so that X is read from memory once for both products."""
_PARTS = 8
"""Into how many sums the examples fall, whatever the number of processors, so that results do not depend on it."""
_PARAMETERS = 6_400
"""Of a problem of usual size; among more of them each one's gradient must be smaller for the same objective."""
_LARGEST_EIGENPROBLEM = 4096  # about 20 s on two cores; wider features go without the rotation


LEAST = 1e-12
"""A probability whose logarithm stands for that of 0."""
_SURE = 1.645
"""Standard errors by which the held-out examples must be likelier on average: one-sided, 5 %."""


class LinearTop(DenseTop):
    """Softmax regression by L-BFGS, its L2 chosen by 5-fold cross-validation, then fitted on all examples.

    Minimises the weighted mean log loss plus `l2/2 * sum(kernel**2)` over standardised features; the bias is free.
    The sweep goes from the strongest L2 to the weakest, each fit starting from the last. Once the held-out examples
    have become likelier by 1 nat in sum, it ends where they did not become likelier 3 times in a row: weaker values
    only overfit more. Chosen is the strongest value at which they are in sum at most 1 nat less likely than at the
    best.

    Beyond N x D x K = 2e8 (such as 20,000 images, 1,000 features, 10 classes: about half a minute on two cores) a
    single validation split judges in place of the folds.

    Args:
        l2: the values to try; one value is taken as it is.
        max_iter: L-BFGS steps for each value.
        tol: L-BFGS stops when no entry of the scaled gradient is larger than this part of the objective; in the folds,
            than ten times that, 0.003 at most. The default brings the objective within about 1e-4 of
            its minimum, relatively.
        class_weight: 'balanced' weighs classes by their rarity; a dict gives each label its weight.
        seed: of the folds, or of the examples held out, where these are not given.
        last: how many of the D features, the first ones, stand for the backbone's last map, where all of its stages are
            pooled. A top on these alone is fitted too, and taken unless one on all features makes the held-out examples
            surely likelier. None takes all as they are.

    Attributes:
        history_: a row an L2 value: l2, loss, val_loss, val_accuracy; means over the folds.
        l2_: the value that was chosen.
        end_: 'strongest' or 'weakest' where that is an end of several values, so that a better one may lie beyond.
        takes_all_: with `last`, whether all features were taken.
    """

    temperature_spread = 0.25  # 0.5 gave a test log loss 0.5 % higher on the sets of `NATS`: folds tell T well already

    def __init__(
        self,
        l2: float | Sequence[float] = L2_VALUES,
        *,
        max_iter: int = 500,
        tol: float = 1e-4,
        class_weight: ClassWeight = None,
        seed: int = 0,
        last: int | None = None,
    ) -> None:
        self.last = last
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
        if self.last is not None and self.last < 1:
            raise OptionError(f"Expected last to be a number of features, 1 or more; got {self.last!r}.")

    def fit(
        self,
        X: ArrayLike | Rows,
        y: ArrayLike,
        *,
        X_val: ArrayLike | Rows | None = None,
        y_val: ArrayLike | None = None,
        folds: ArrayLike | None = None,
        on_row: OnRow | None = None,
    ) -> DenseTop:
        """See `DenseTop.fit`; with `last`, twice, and the better one counts."""
        super().fit(X, y, X_val=X_val, y_val=y_val, folds=folds, on_row=on_row if self.last is None else None)
        n = self.n_features_in_
        if self.last is None or self.last >= n:
            return self
        some = LinearTop(self.l2, max_iter=self.max_iter, tol=self.tol, class_weight=self.class_weight, seed=self.seed)
        val = None if X_val is None else _first_columns(X_val, self.last)
        some.fit(_first_columns(X, self.last), y, X_val=val, y_val=y_val, folds=folds)
        self.takes_all_ = _surely_likelier(self, some, y, y_val)
        chosen = self if self.takes_all_ else some
        if on_row is not None:
            for row in chosen.history_:
                on_row(row)
        if not self.takes_all_:
            for name, value in vars(some).items():
                if name.endswith("_") and name != "n_features_in_":
                    setattr(self, name, value)
            kernel = np.zeros((n, some.stack_.n_classes), np.float32)
            kernel[: self.last] = some.stack_.kernels[0]
            self.stack_ = DenseStack((kernel,), some.stack_.biases)
        return self

    def _folds(self, y: IntArray, n_train: int, n_features: int, wanted: IntArray | None) -> IntArray:
        if len(y) * n_features * (int(y.max()) + 1) <= _AFFORDABLE:
            given = deal_folds(y, draw_units(len(y), self.seed), FOLDS) if wanted is None else wanted
            folds = numbered_folds(y, given)
            if np.any(folds >= 0):
                return folds
        return super()._folds(y, n_train, n_features, wanted)

    def _fit(
        self, X: FloatArray, y: IntArray, folds: IntArray, weights: FloatArray, on_row: OnRow
    ) -> tuple[DenseStack, FloatArray]:
        from threadpoolctl import threadpool_limits

        values = sorted(np.atleast_1d(np.asarray(self.l2, dtype=float)).tolist(), reverse=True)
        rotation, spectrum = _eigenbasis(X)
        X = _rotate(X, rotation)
        everything = _Problem(X, y, _shares(weights[y])[:, None], spectrum)
        if not self.n_folds_:  # nothing can judge: neither end
            values = [values[len(values) // 2]]
        problem = self._folded(everything, folds, weights) if self.n_folds_ else everything
        judges = np.flatnonzero(folds >= 0) if self.n_folds_ else np.arange(len(y))
        # our own threads over blocks: those of BLAS wait for each other, and beside other programs ten times as long
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(_PARTS, available_processors())) as pool:
            chosen = self._sweep(values, problem, judges, folds, weights, pool, on_row)
            solution = chosen.solution.mean(axis=1, keepdims=True)
            if self.n_folds_:
                solution, _ = self._minimise(everything, chosen.l2, solution, chosen.loss, pool, self.tol)
        self.l2_ = chosen.l2
        ends = {values[0]: "strongest", values[-1]: "weakest"} if len(values) > 1 else {}
        self.end_ = ends.get(self.l2_)
        kernel, bias = solution[:-1, 0], solution[-1, 0].astype(np.float32)
        kernel = kernel.astype(np.float32) if rotation is None else _product(rotation, kernel)
        return DenseStack((kernel,), (bias,)), chosen.logits.astype(np.float64)

    def _sweep(
        self,
        values: Sequence[float],
        problem: _Problem,
        judges: IntArray,
        folds: IntArray,
        weights: FloatArray,
        pool: Executor,
        on_row: OnRow,
    ) -> _Candidate:
        """What the strongest L2 that is as good as any gave."""
        solution: FloatArray = np.zeros((problem.n_directions + 1, problem.n_fits, len(self.classes_)))
        step = solution
        y = problem.y[judges]
        loss, first_loss, best_loss, worse = 1.0, np.inf, np.inf, 0
        candidates: list[_Candidate] = []
        self.n_iter_ = 0
        for l2 in values:
            # the path bends little from one value to the next: going on straight halves the work
            tol = max(self.tol, min(self.tol * _FOLD_TOLERANCE, _LOOSEST)) if self.n_folds_ > 1 else self.tol
            found, loss = self._minimise(problem, l2, solution + step, loss, pool, tol)
            solution, step = found, (found - solution) * (len(self.history_) > 0)
            logits = _held_out_logits(problem.X, solution, judges, np.maximum(folds, 0))
            val_loss, val_accuracy = _judge(logits, y, weights[y])
            first_loss = val_loss if not candidates else first_loss
            on_row({"l2": l2, "loss": loss, "val_loss": val_loss, "val_accuracy": val_accuracy})
            candidates.append(_Candidate(l2, loss, val_loss, solution, logits))
            # at values so strong that nothing is learned, the loss may stand still for long: that is no reason to end
            has_learned = best_loss < first_loss - NATS / len(judges)
            worse = worse + 1 if val_loss >= best_loss + (0.0 if has_learned else NATS / len(judges)) else 0
            best_loss = min(best_loss, val_loss)
            candidates = [one for one in candidates if one.val_loss <= best_loss + NATS / len(judges)]
            if worse == _WORSE_IN_A_ROW:
                break
        return candidates[0]

    def _folded(self, everything: _Problem, folds: IntArray, weights: FloatArray) -> _Problem:
        """The fits of all folds, each to the examples that it does not hold out."""
        kept = folds[:, None] != np.arange(self.n_folds_)
        return everything.weighted(_shares(weights[everything.y][:, None] * kept))

    def _minimise(
        self, problem: _Problem, l2: float, start: FloatArray, about: float, pool: Executor, tol: float
    ) -> tuple[FloatArray, float]:
        """The parameters and the mean objective at the minimum; `about` guesses that objective, rather above it."""
        from scipy.optimize import minimize

        scale = problem.scale(l2)
        parameters, steps = (start / scale).ravel(), self.max_iter
        while True:
            gtol = tol * min(1.0, about) * min(1.0, (_PARAMETERS * problem.n_fits / start.size) ** 0.5)
            found = minimize(
                problem.loss_and_gradient,
                parameters,
                args=(l2, scale, pool),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": steps, "gtol": gtol, "ftol": 1e-12},
            )
            self.n_iter_ += int(found.nit)
            parameters, steps = found.x, steps - int(found.nit)
            objective = float(found.fun) / problem.n_fits
            if objective > about / 2 or steps <= 0:
                break
            about = objective  # far below what was guessed: nearer then
        return parameters.reshape(start.shape) * scale, objective


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


def _first_columns(part: Any, n: int) -> Any:
    return part.first_columns(n) if isinstance(part, Rows) else np.asarray(part)[:, :n]


def _surely_likelier(one: LinearTop, other: LinearTop, y: ArrayLike, y_val: ArrayLike | None) -> bool:
    """Whether `one` makes held-out examples surely likelier than `other`, each with its own temperature."""
    labels = np.concatenate([np.asarray(y), *([] if y_val is None else [np.asarray(y_val)])])
    if not one.n_folds_ or not np.array_equal(one.held_out_rows_, other.held_out_rows_):
        return False
    codes = np.searchsorted(one.classes_, labels[one.held_out_rows_])
    logs = [
        np.log(np.maximum(softmax(top.held_out_logits_ / top.temperature_), LEAST))[np.arange(len(codes)), codes]
        for top in (one, other)
    ]
    gain = logs[0] - logs[1]
    return bool(gain.mean() > _SURE * gain.std() / np.sqrt(len(gain)))


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A value that may be chosen, and what it gave."""

    l2: float
    loss: float
    val_loss: float
    solution: FloatArray
    logits: FloatArray


class _Problem:
    """The objectives of F fits over the same examples, differently weighted, and their gradients.

    The F fits are independent, and minimised at once: one pass over the examples serves all. Parameters are
    `(R + 1, F, K)`, the bias last.

    Args:
        X: `(N, R)` float32, along the directions of the eigenbasis.
        y: `(N,)`, labels 0..K-1.
        weights: `(N, F)` float32, of each example in each fit; each fit's sum to 1.
        spectrum: `(R,)`, the mean square of X along each direction.
    """

    def __init__(self, X: FloatArray, y: IntArray, weights: FloatArray, spectrum: FloatArray) -> None:
        self.X = X
        self.y = y
        self.weights = weights
        self.n_fits = weights.shape[1]
        self.n_directions = len(spectrum)
        self._spectrum = spectrum
        self._rows = max(32, _BLOCK // max(1, self.n_directions))
        self.n_parts = min(_PARTS, -(-len(y) // self._rows))

    def weighted(self, weights: FloatArray) -> _Problem:
        """Fits over the same examples, weighted otherwise."""
        return _Problem(self.X, self.y, weights, self._spectrum)

    def scale(self, l2: float) -> FloatArray:
        """`(R + 1, 1, 1)`, what each row of the parameters is divided by to make the problem round."""
        return np.append((self._spectrum / 2 + l2 + 1e-12) ** -0.5, 2**0.5)[:, None, None]

    def loss_and_gradient(
        self, flat: FloatArray, l2: float, scale: FloatArray, pool: Executor
    ) -> tuple[float, FloatArray]:
        """At parameters `flat * scale`; the two large products in float32, sums over them in float64."""
        parameters = flat.reshape(self.n_directions + 1, self.n_fits, -1) * scale
        run = map if self.n_parts == 1 else pool.map  # for a few examples, threads cost more than they bring
        parts = list(run(lambda part: self._part(part, parameters), range(self.n_parts)))
        gradient = np.sum([gradient for _, gradient in parts], axis=0)
        gradient[:-1] += l2 * parameters[:-1]
        loss = sum(loss for loss, _ in parts) + l2 / 2 * float(np.sum(parameters[:-1] ** 2))
        return loss, (gradient * scale).ravel()

    def _part(self, part: int, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Loss and gradient `(R + 1, F, K)` of every `_PARTS`-th block of the examples."""
        loss, gradient = 0.0, np.zeros_like(parameters)
        rows = self._rows
        for start in range(part * rows, len(self.y), _PARTS * rows):
            block = slice(start, start + rows)
            X, y, weights = self.X[block], self.y[block], self.weights[block]
            residuals, log_likelihood = _residuals(X, parameters, y)
            loss -= float(np.sum(weights * log_likelihood))
            residuals *= weights[:, :, None]
            gradient[:-1] += (X.T @ residuals.reshape(len(X), -1)).reshape(gradient[:-1].shape)
            gradient[-1] += residuals.sum(axis=0, dtype=np.float64)
        return loss, gradient


def _logits(X: FloatArray, parameters: FloatArray) -> FloatArray:
    """`(N, F, K)` float32."""
    kernel = parameters[:-1].reshape(len(parameters) - 1, -1).astype(np.float32)
    logits = (X @ kernel).reshape(len(X), *parameters.shape[1:])
    logits += parameters[-1].astype(np.float32)
    return logits


def _residuals(X: FloatArray, parameters: FloatArray, y: IntArray) -> tuple[FloatArray, FloatArray]:
    """`(N, F, K)` probabilities less 1 at the true class, float32; `(N, F)` its log-probabilities, float64.

    At the true class it is minus the sum of the others: of 1 less a probability near 1 only rounding would be left,
    and at weak L2, where all examples are fitted, the line search would find no way down in it.
    """
    logits, rows = _logits(X, parameters), np.arange(len(y))
    logits -= logits.max(axis=2, keepdims=True)
    true = logits[rows, :, y].astype(np.float64)
    odds = np.exp(logits, out=logits)
    odds[rows, :, y] = 0.0
    others = odds.sum(axis=2)
    total = np.exp(true) + others
    odds[rows, :, y] = -others
    odds /= total[:, :, None].astype(np.float32)
    return odds, true - np.log(total)


def _shares(weights: FloatArray) -> FloatArray:
    """float32 weights whose sum, down each column, is 1."""
    return np.asarray(weights / weights.sum(axis=0), np.float32)


def _held_out_logits(X: FloatArray, parameters: FloatArray, rows: IntArray, folds: IntArray) -> FloatArray:
    """`(M, K)` float32 of these rows, each by the fit of its fold."""
    logits = np.empty((len(rows), parameters.shape[2]), np.float32)
    of_rows = Rows(X, rows)
    for block in blocks(of_rows):
        every = _logits(of_rows[block], parameters)
        logits[block] = every[np.arange(len(every)), folds[rows[block]]]
    return logits


def _judge(logits: FloatArray, y: IntArray, weights: FloatArray) -> tuple[float, float]:
    """Weighted log loss and accuracy."""
    right = logits.argmax(axis=1) == y
    logits = logits - logits.max(axis=1, keepdims=True)
    log_likelihood = logits[np.arange(len(y)), y] - np.log(np.exp(logits).sum(axis=1))
    return -float(np.average(log_likelihood, weights=weights)), float(np.average(right, weights=weights))
