"""The compiled loop does what Keras's `fit` does, step for step; dropout is for training alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from topwork.tops.mlp_training import Examples, MLPTrainer

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 12)).astype(np.float32)
Y = RANDOM.integers(0, 3, 96)
WEIGHTS = RANDOM.uniform(0.5, 2.0, 96).astype(np.float32)


def test_five_epochs_equal_those_of_keras() -> None:
    """One batch an epoch and no dropout, so that nothing is left to chance: same start, same kernels after."""
    validation = Examples(X[:30], Y[:30], WEIGHTS[:30])
    trainer = MLPTrainer(
        (12, 8, 3), Examples(X, Y, WEIGHTS), validation, dropout=0.0, learning_rate=0.01, batch_size=96, seed=0
    )
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    model.set_weights([array for layer in trainer.layers() for array in layer])
    history = model.fit(
        X,
        Y,
        sample_weight=WEIGHTS,
        batch_size=96,
        epochs=5,
        validation_data=(X[:30], Y[:30], WEIGHTS[:30]),
        verbose=0,
    ).history
    for epoch in range(5):
        row = trainer.run_epoch()
        for name, value in row.items():
            assert value == pytest.approx(history[name][epoch], rel=1e-4), (epoch, name)
    for ours, theirs in zip((array for layer in trainer.layers() for array in layer), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("dropout", [0.3, 0.9, 0.999999])
def test_dropout_is_for_training_alone(dropout: float) -> None:
    ones = Examples(np.ones((4096, 1), np.float32), np.zeros(4096, int), np.ones(4096, np.float32))
    trainer = MLPTrainer((1, 64, 2), ones, ones, dropout=dropout, learning_rate=0.0, batch_size=4096, seed=0)
    (kernel, _), (last, _) = trainer.layers()
    logits = np.maximum(kernel[0], 0) @ last
    row = trainer.run_epoch()
    assert row["val_loss"] == pytest.approx(np.log(np.exp(logits).sum()) - logits[0], abs=1e-5)
    assert np.isfinite(row["loss"])
    assert row["loss"] != pytest.approx(row["val_loss"], abs=1e-4)


@pytest.mark.parametrize("batch_size", [7, 32, 1000])
def test_the_last_batch_counts_what_is_in_it(batch_size: int) -> None:
    examples = Examples(X, Y, np.ones(96, np.float32))
    trainer = MLPTrainer((12, 3), examples, examples, dropout=0.5, learning_rate=0.0, batch_size=batch_size, seed=0)
    row = trainer.run_epoch()
    assert row["loss"] == pytest.approx(row["val_loss"], rel=1e-5)  # nothing was learned: both are the same sum
    assert row["accuracy"] == pytest.approx(row["val_accuracy"])
