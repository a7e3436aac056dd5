"""The course's top: Dense layers with dropout and a softmax, trained by Keras with early stopping."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from topwork.errors import OptionError
from topwork.keras_door import import_keras
from topwork.tops.base import ClassWeight, DenseTop, OnRow
from topwork.tops.dense_stack import DenseStack
from topwork.types import FloatArray, IntArray


class MLPTop(DenseTop):
    """Dense(relu) + Dropout for each size in `class_layers`, then Dense(K, softmax); Adam; early stopping.

    Training stops when the validation loss has not fallen for `patience` epochs, and the weights of the best epoch
    are restored. Features are standardised first, and that is folded into the first layer afterwards.

    Args:
        class_layers: the width of each hidden layer.
        dropout: the part of the hidden units left out at each step, in 0..1 (1 excluded).
        learning_rate: Adam's.
        batch_size: examples a step.
        epochs: at most.
        patience: epochs without a lower validation loss before training stops.
        class_weight: 'balanced' weighs classes by their rarity; a dict gives each label its weight.
        seed: of initial weights, dropout and the order of examples.

    Attributes:
        history_: a row an epoch: epoch, loss, accuracy, val_loss, val_accuracy.
        best_epoch_: the epoch whose weights were kept, counted from 1.
    """

    def __init__(
        self,
        class_layers: Sequence[int] = (256,),
        dropout: float = 0.5,
        *,
        learning_rate: float = 1e-3,
        batch_size: int = 32,
        epochs: int = 100,
        patience: int = 10,
        class_weight: ClassWeight = None,
        seed: int = 0,
    ) -> None:
        self.class_layers = class_layers
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.class_weight = class_weight
        self.seed = seed

    def _fit(
        self,
        X: FloatArray,
        y: IntArray,
        X_val: FloatArray,
        y_val: IntArray,
        weights: FloatArray,
        on_row: OnRow,
    ) -> tuple[DenseStack, FloatArray]:
        keras = import_keras()
        with _seeded(keras, self.seed):
            model = self._model(keras, X.shape[1], len(self.classes_))
            model.fit(
                X,
                y,
                validation_data=(X_val, y_val, weights[y_val].astype(np.float32)),
                batch_size=self.batch_size,
                epochs=self.epochs,
                sample_weight=weights[y].astype(np.float32),
                callbacks=[
                    keras.callbacks.EarlyStopping("val_loss", patience=self.patience, restore_best_weights=True),
                    keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: on_row(_row(epoch, logs))),
                ],
                verbose=0,
            )
        losses = np.array([row["val_loss"] for row in self.history_])
        if not np.all(np.isfinite(losses)):
            raise OptionError(
                "Training diverged: its losses are no longer numbers. Use a smaller learning_rate (--learning-rate); "
                f"it was {self.learning_rate:g}."
            )
        self.best_epoch_ = 1 + int(np.argmin(losses))
        dense = [layer.get_weights() for layer in model.layers if layer.weights]
        stack = DenseStack(tuple(kernel for kernel, _ in dense), tuple(bias for _, bias in dense))
        return stack, stack.logits(X_val)

    def _model(self, keras: ModuleType, n_features: int, n_classes: int) -> Any:
        layers = [keras.Input((n_features,))]
        for width in self.class_layers:
            layers += [keras.layers.Dense(width, activation="relu"), keras.layers.Dropout(self.dropout)]
        # the softmax is in the loss: after one in the model, Keras clips probabilities at 1e-7, and with them the loss
        model = keras.Sequential([*layers, keras.layers.Dense(n_classes)])
        model.compile(
            optimizer=keras.optimizers.Adam(self.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=["accuracy"],
        )
        return model

    def check_options(self) -> None:
        """Raise an `OptionError` if a parameter has a value that it can't have."""
        checks = {
            "class_layers: positive whole numbers": all(width >= 1 for width in self.class_layers),
            "dropout: 0 or more, below 1": 0 <= self.dropout < 1,
            "learning_rate: above 0": self.learning_rate > 0,
            "batch_size: 1 or more": self.batch_size >= 1,
            "epochs: 1 or more": self.epochs >= 1,
            "patience: 0 or more": self.patience >= 0,
            "seed: 0 to 4294967295": 0 <= self.seed < 2**32,
        }
        for rule, holds in checks.items():
            if not holds:
                raise OptionError(f"Expected {rule}; got {getattr(self, rule.split(':')[0])!r}.")


def _row(epoch: int, logs: dict[str, float]) -> dict[str, float]:
    columns = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {"epoch": epoch + 1, **{name: float(logs[name]) for name in columns}}


@contextlib.contextmanager
def _seeded(keras: ModuleType, seed: int) -> Iterator[None]:
    """Seed all that Keras draws from, and give the caller's own generators back as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
