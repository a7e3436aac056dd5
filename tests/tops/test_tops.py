"""Our tops are scikit-learn classifiers that predict in NumPy what they learned; they stop early and repeat exactly."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from topwork import memory
from topwork.errors import DataError, OptionError, ShapeError
from topwork.memory import Rows
from topwork.tops import linear
from topwork.tops.base import standardisation
from topwork.tops.calibration import fit_temperature
from topwork.tops.dense_stack import DenseStack, softmax
from topwork.tops.linear import COARSE_L2_VALUES, COARSE_TOLERANCE, LinearTop
from topwork.tops.mlp import MLPTop

DIGITS = load_digits()
X, Y = DIGITS.data.astype(np.float32), DIGITS.target
TRAIN, VALIDATION, TEST = slice(0, 1000), slice(1000, 1300), slice(1300, None)


@parametrize_with_checks([LinearTop(l2=(0.1, 0.01)), MLPTop((16,), dropout=0.1, epochs=30, learning_rate=0.02)])
def test_scikit_learns_own_battery(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def fitted(top: LinearTop | MLPTop) -> LinearTop | MLPTop:
    return top.fit(X[TRAIN], Y[TRAIN], X_val=X[VALIDATION], y_val=Y[VALIDATION])  # type: ignore[return-value]


@pytest.mark.parametrize("top", [LinearTop(), MLPTop((32,), epochs=40, patience=5)], ids=["linear", "mlp"])
def test_top_learns_and_repeats_byte_for_byte(top: LinearTop | MLPTop) -> None:
    first, second = fitted(top).stack_, fitted(top).stack_
    assert fitted(top).score(X[TEST], Y[TEST]) > 0.87  # over 12 seeds the MLP has 0.894 ± 0.008
    for name, tensor in first.tensors().items():
        assert tensor.tobytes() == second.tensors()[name].tobytes()


def test_the_seed_matters_and_the_callers_generators_do_not_notice() -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    one, other = (MLPTop((8,), epochs=2, seed=seed).fit(X[:200], Y[:200]).stack_ for seed in (0, 1))
    assert np.array_equal(np.random.random(3), expected)
    assert not np.array_equal(one.kernels[0], other.kernels[0])


def test_mlp_stops_early_and_restores_the_best_epoch() -> None:
    top = fitted(MLPTop((64,), dropout=0.0, learning_rate=0.01, epochs=100, patience=4))
    losses = [row["val_loss"] for row in top.history_]
    assert len(losses) < 100
    assert top.best_epoch_ == 1 + int(np.argmin(losses)) == len(losses) - 4
    probabilities = top.predict_proba(X[VALIDATION])
    loss = -np.mean(np.log(probabilities[np.arange(300), Y[VALIDATION]]))
    assert loss == pytest.approx(min(losses), rel=1e-4)  # Keras computes in float32


def test_numpy_prediction_equals_keras() -> None:
    """The standardisation folded into the first layer, the whole forward pass: against the model that was trained."""
    import keras

    top = fitted(MLPTop((32, 16), epochs=3))
    mean, scale = standardisation(X[TRAIN])
    first = top.stack_.kernels[0] * scale[:, None], top.stack_.biases[0] + mean @ top.stack_.kernels[0]
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(16, "relu"),
         keras.layers.Dense(10, "softmax")]
    )  # fmt: skip
    model.set_weights(
        [*first, top.stack_.kernels[1], top.stack_.biases[1], top.stack_.kernels[2], top.stack_.biases[2]]
    )
    assert np.allclose(model.predict((X[TEST] - mean) / scale, verbose=0), top.predict_proba(X[TEST]), atol=1e-5)


@pytest.mark.parametrize("n", [1000, 40])
def test_linear_top_finds_the_optimum_that_scikit_learn_finds(n: int) -> None:
    """Also with fewer examples than features."""
    top = LinearTop(l2=0.01, tol=1e-6, max_iter=5000)
    features = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    inputs = X[:n] @ features
    top.fit(inputs, Y[:n], X_val=inputs, y_val=Y[:n])
    mean, scale = standardisation(inputs)
    standard = (inputs - mean) / scale
    both = np.concatenate([standard, standard]), np.concatenate([Y[:n], Y[:n]])  # it refits on train + validation
    theirs = LogisticRegression(C=1 / (0.01 * 2 * n), tol=1e-8, max_iter=10_000).fit(*both)

    def objective(kernel: np.ndarray, bias: np.ndarray) -> float:
        logits = standard @ kernel + bias
        logits -= logits.max(axis=1, keepdims=True)
        log_likelihood = logits[np.arange(n), Y[:n]] - np.log(np.exp(logits).sum(axis=1))
        return float(-log_likelihood.mean() + 0.005 * (kernel**2).sum())

    kernel = top.stack_.kernels[0] * scale[:, None]
    ours = objective(kernel, top.stack_.biases[0] + mean @ top.stack_.kernels[0])
    best = objective(theirs.coef_.T, theirs.intercept_)
    assert ours == pytest.approx(best, rel=1e-3)


def test_a_weak_l2_is_minimised_as_far_from_zero_as_along_the_sweep() -> None:
    """Where all examples are fitted the objective is tiny, and so must be what is called near its minimum."""
    along, alone = fitted(LinearTop(l2=(1.0, 1e-2, 1e-4, 1e-5))), fitted(LinearTop(l2=1e-5))
    assert along.history_[-1]["loss"] < 1e-2
    # folds stop at ten times `tol`: up to 1.7e-3 above the minimum where all examples are fitted
    assert alone.history_[0]["loss"] == pytest.approx(along.history_[-1]["loss"], rel=3e-3)


def test_features_that_hardly_vary_do_not_drown_the_others() -> None:
    """As rounding leaves some in a network whose units are mostly off."""
    noise = 1 + 1e-5 * np.random.default_rng(0).normal(size=(len(X), 60))
    noisy = np.hstack([X, noise]).astype(np.float32)
    few = slice(0, 100)
    plain, drowned = LinearTop(), LinearTop()
    for top, inputs in ((plain, X), (drowned, noisy)):
        top.fit(inputs[few], Y[few], X_val=inputs[VALIDATION], y_val=Y[VALIDATION])
    assert drowned.score(noisy[TEST], Y[TEST]) > plain.score(X[TEST], Y[TEST]) - 0.005
    _, scale = standardisation(np.zeros((5, 3), np.float32))
    assert scale.tolist() == [1, 1, 1]


def test_l2_is_chosen_by_cross_validation_on_training_and_validation() -> None:
    top = fitted(LinearTop())
    assert (top.n_folds_, top.end_) == (5, None)
    assert np.array_equal(top.held_out_rows_, np.arange(1300))
    losses = [row["val_loss"] for row in top.history_]
    row = next(row for row in top.history_ if row["l2"] == top.l2_)
    labels = Y[:1300]
    assert row["val_loss"] == pytest.approx(log_loss(labels, softmax(top.held_out_logits_)), rel=1e-5)
    assert row["val_loss"] <= min(losses) + 1 / 1300  # in sum within 1 nat
    assert all(loss > min(losses) + 1 / 1300 for loss in losses[: top.history_.index(row)])  # the strongest such
    assert len(top.history_) < 23  # the sweep ends when weaker values only overfit
    assert np.array_equal(top.stack_.kernels[0], LinearTop().fit(X[:1300], Y[:1300]).stack_.kernels[0])


def test_held_out_logits_are_those_of_a_top_fitted_on_the_other_folds() -> None:
    folds = np.arange(300) % 3
    top = LinearTop(l2=0.1, tol=1e-6).fit(X[:300], Y[:300], folds=folds)
    assert top.n_folds_ == 3
    mean, scale = standardisation(X[:300])
    for fold in range(3):
        standard = (X[:300] - mean) / scale  # the folds share it: it knows no labels
        theirs = LogisticRegression(C=1 / (0.1 * 200), tol=1e-8, max_iter=10_000)
        theirs.fit(standard[folds != fold], Y[:300][folds != fold])
        ours = softmax(top.held_out_logits_[folds == fold])
        assert np.allclose(ours, theirs.predict_proba(standard[folds == fold]), atol=2e-3)


def test_beyond_what_is_affordable_a_validation_split_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_AFFORDABLE", 0)
    top = fitted(LinearTop())
    assert top.n_folds_ == 1
    assert np.array_equal(top.held_out_rows_, np.arange(1000, 1300))
    alone = LinearTop().fit(X[:500], Y[:500])
    assert len(alone.held_out_rows_) == 50
    folds = np.arange(500) // 100
    assert np.array_equal(LinearTop().fit(X[:500], Y[:500], folds=folds).held_out_rows_, np.arange(100))


def test_faint_signals_in_many_features_are_found() -> None:
    """At strong L2 values nothing is learned, and the held-out loss stands still: that ends no sweep."""
    random = np.random.default_rng(0)
    X = random.normal(size=(8000, 300))
    y = (X @ random.normal(size=(300, 5)) / 300**0.5 + 0.5 * random.gumbel(size=(8000, 5))).argmax(axis=1)
    X = (X * np.logspace(0, -1.5, 300)).astype(np.float32)
    top = LinearTop().fit(X[:4000], y[:4000])
    assert 1e-3 < top.l2_ < 1
    assert top.score(X[4000:], y[4000:]) > 0.5


def test_a_coarse_sweep_is_nearly_as_good_as_a_fine_one() -> None:
    """Folds that are fitted too loosely would end near the strong L2 that they begin from, and praise the weakest."""
    random = np.random.default_rng(7)
    y, scale = random.integers(0, 10, 9000), np.logspace(0, -0.5, 640)
    means = random.normal(size=(10, 640)) * scale
    X = np.sqrt(np.abs(0.4 * means[y] + random.normal(size=(9000, 640)) * scale)).astype(np.float32)
    fine = LinearTop().fit(X[:6000], y[:6000])
    coarse = LinearTop(COARSE_L2_VALUES, tol=COARSE_TOLERANCE).fit(X[:6000], y[:6000])
    assert coarse.score(X[6000:], y[6000:]) > fine.score(X[6000:], y[6000:]) - 0.015


def test_copies_in_one_fold_do_not_flatter_the_choice() -> None:
    """Noise that is there five times is learned by heart, unless all five are held out at once."""
    random = np.random.default_rng(0)
    noise, labels = np.tile(random.normal(size=(60, 30)), (5, 1)), np.tile(np.arange(60) % 2, 5)
    apart, together = LinearTop().fit(noise, labels), LinearTop().fit(noise, labels, folds=np.arange(300) % 60 % 5)
    assert min(row["val_loss"] for row in apart.history_) < 0.2
    assert min(row["val_loss"] for row in together.history_) > 0.6
    assert together.end_ == "strongest"


def test_a_class_in_one_fold_is_learned_and_not_judged() -> None:
    labels = Y[:300].copy()
    labels[7] = 10
    top = LinearTop().fit(X[:300], labels)
    assert 7 not in top.held_out_rows_
    assert len(top.held_out_rows_) == 299
    assert top.classes_.tolist() == list(range(11))
    every = LinearTop().fit(X[:10], np.arange(10))  # one example of each class: nothing can be held out
    assert every.n_folds_ == 0
    assert len(every.history_) == 1


def test_temperature_comes_from_held_out_logits() -> None:
    top = fitted(LinearTop())
    assert top.temperature_ == fit_temperature(top.held_out_logits_, Y[:1300], spread=0.25)
    few = fitted(MLPTop((32,), epochs=5))
    assert few.temperature_ == fit_temperature(few.held_out_logits_, Y[VALIDATION])


def test_as_many_folds_as_examples() -> None:
    with pytest.raises(ShapeError, match="Expected 100 folds"):
        LinearTop().fit(X[:100], Y[:100], folds=[0, 1])


def test_balanced_weights_lift_the_rare_class() -> None:
    rare = np.concatenate([np.flatnonzero(Y == 3)[:12], np.flatnonzero(Y == 8)])
    test = np.flatnonzero(Y == 3)[12:]
    plain, balanced = (LinearTop(l2=1.0, class_weight=w).fit(X[rare], Y[rare]) for w in (None, "balanced"))
    assert np.mean(balanced.predict(X[test]) == 3) > np.mean(plain.predict(X[test]) == 3)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (MLPTop(dropout=1.0), "dropout: 0 or more, below 1; got 1.0"),
        (MLPTop(epochs=0), "epochs: 1 or more; got 0"),
        (MLPTop((0,)), "class_layers: positive whole numbers"),
        (LinearTop(l2=-1.0), "l2 to be 0 or more"),
    ],
)
def test_options_out_of_range(top: LinearTop | MLPTop, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        top.fit(X[:100], Y[:100])


def test_validation_label_that_training_lacks() -> None:
    with pytest.raises(DataError, match="label 9, which training lacks"):
        LinearTop().fit(X[:100], Y[:100] % 5, X_val=X[:1], y_val=[9])


def test_layers_that_do_not_fit_are_refused() -> None:
    kernels = {"dense_0/kernel": np.zeros((4, 3), np.float32), "dense_1/kernel": np.zeros((2, 2), np.float32)}
    biases = {"dense_0/bias": np.zeros(3, np.float32), "dense_1/bias": np.zeros(2, np.float32)}
    with pytest.raises(ShapeError, match="don't fit one on another"):
        DenseStack.from_tensors({**kernels, **biases})
    with pytest.raises(ShapeError, match="Expected a kernel and a bias for each dense layer"):
        DenseStack.from_tensors({"dense_1/kernel": np.zeros((4, 3)), "dense_0/bias": np.zeros(3)})


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    stack = fitted(LinearTop(l2=0.1)).stack_
    together = stack.probabilities(X)
    alone = np.concatenate([stack.probabilities(X[i : i + 1]) for i in range(100)])
    assert np.allclose(alone, together[:100], rtol=0, atol=1e-12)


@pytest.mark.parametrize("top", [LinearTop((0.1, 0.01)), MLPTop((16,), epochs=2)], ids=["linear", "mlp"])
def test_rows_of_an_array_and_room_on_disk_change_nothing(
    top: LinearTop | MLPTop, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fitted(top).stack_.tensors()
    order = np.random.default_rng(0).permutation(len(X))
    places = np.argsort(order)
    train, validation = (Rows(X[order], places[side]) for side in (TRAIN, VALIDATION))
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    found = top.fit(train, Y[TRAIN], X_val=validation, y_val=Y[VALIDATION]).stack_.tensors()
    for name, tensor in expected.items():
        assert tensor.tobytes() == found[name].tobytes()
    assert list(empty_cache.iterdir()) == []


def test_as_many_labels_as_rows() -> None:
    with pytest.raises(ShapeError, match="Expected 3 labels for as many rows; got labels of shape"):
        LinearTop().fit(Rows(X, np.arange(3)), Y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fitting_takes_one_copy_of_the_features(dtype: type) -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 60_000)
    features = (random.normal(size=(60_000, 256)) + y[:, None]).astype(dtype)
    copy = 4 * features.size
    tracemalloc.start()
    try:
        LinearTop(0.1, max_iter=5).fit(features, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert copy < peak < 1.5 * copy  # blocks of fixed size come on top


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are enforced on Linux alone")
def test_a_top_learns_from_more_than_a_process_may_have(own_cache: Path) -> None:
    """A real limit, below what the top's copy takes: files that are mapped don't count in it."""
    script = r"""
import re, resource, sys
import numpy as np
from topwork import memory
from topwork.tops.linear import LinearTop
random = np.random.default_rng(0)
y = random.integers(0, 3, 250_000)
X = random.normal(size=(250_000, 256)).astype(np.float32)
X[:, :9] += y[:, None]
top = LinearTop(0.1, max_iter=3)
top.fit(X[:1000], y[:1000])  # what is made once: threads, buffers
expected = top.fit(X, y).stack_.kernels[0]
has = 1024 * int(re.search(r"VmData:\s+(\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_DATA, (has + X.nbytes // 2,) * 2)
try:
    top.fit(X, y)
except MemoryError:
    print("no room")
memory.available_memory = lambda: X.nbytes // 2
print(np.array_equal(top.fit(X, y).stack_.kernels[0], expected))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["no room", "True"], done.stderr
