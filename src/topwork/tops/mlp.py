"""The course's top: Dense layers with dropout and a softmax, trained with Adam and early stopping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topwork.errors import OptionError
from topwork.tops.base import ClassWeight, DenseTop, OnRow
from topwork.tops.dense_stack import DenseStack
from topwork.tops.mlp_training import Examples, MLPTrainer
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
        self, X: FloatArray, y: IntArray, folds: IntArray, weights: FloatArray, on_row: OnRow
    ) -> tuple[DenseStack, FloatArray]:
        n = int(np.sum(folds < 0))
        whole = Examples(X, y, weights[y])
        examples, unseen = (whole[:n], whole[n:]) if n < len(y) else (whole, whole)
        trainer = MLPTrainer(
            (X.shape[1], *self.class_layers, len(self.classes_)),
            examples,
            unseen,
            dropout=self.dropout,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        best_loss, layers = np.inf, trainer.layers()
        for epoch in range(1, self.epochs + 1):
            row = trainer.run_epoch()
            on_row({"epoch": epoch, **row})
            if not np.isfinite(row["val_loss"]):
                raise OptionError(
                    "Training diverged: its losses are no longer numbers. Use a smaller rate than "
                    f"`learning_rate={self.learning_rate:g}`."
                )
            if row["val_loss"] < best_loss:
                best_loss, layers, self.best_epoch_ = row["val_loss"], trainer.layers(), epoch
            elif epoch - self.best_epoch_ >= max(1, self.patience):
                break
        stack = DenseStack(tuple(kernel for kernel, _ in layers), tuple(bias for _, bias in layers))
        return stack, stack.logits(unseen.X)

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
