"""The course's own function: a plain Keras model with a new top on a frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from topwork.errors import OptionError

if TYPE_CHECKING:
    import keras


def get_final_model(
    base_model: keras.Model, dropout: float, class_layers: Sequence[int], num_classes: int
) -> keras.Model:
    """A Keras model that puts a new top on `base_model`, every layer of which is frozen.

    Flatten, then for each size in `class_layers` Dense(relu) + Dropout, then Dense(num_classes, softmax). It
    compiles and fits like any other; and like any other it runs the whole base again in every epoch, which
    `fit_classifier` does not. The base wants its own preprocessing, which is left to the caller here.

    Args:
        base_model: made with `include_top=False`; its layers become untrainable.
        dropout: the part of the hidden units left out, in 0..1 (1 excluded).
        class_layers: the width of each hidden layer; none is fine.
        num_classes: K, 2 or more.

    Raises:
        OptionError: a value outside these ranges.
    """
    if num_classes < 2:
        raise OptionError(f"Expected num_classes to be 2 or more, got {num_classes!r}.")
    if not 0 <= dropout < 1:
        raise OptionError(f"Expected dropout to be 0 or more and below 1, got {dropout!r}.")
    if any(width < 1 for width in class_layers):
        raise OptionError(f"Expected class_layers to be positive whole numbers, got {class_layers!r}.")
    import keras  # the caller's own, on the backend that base_model lives on

    for layer in base_model.layers:
        layer.trainable = False
    x = keras.layers.Flatten()(base_model.output)
    for width in class_layers:
        x = keras.layers.Dense(width, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x)
    return keras.Model(base_model.input, keras.layers.Dense(num_classes, activation="softmax")(x))
