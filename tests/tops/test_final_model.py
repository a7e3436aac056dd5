"""The course's own function gives a plain Keras model: frozen base, new top."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import topwork as tw
from topwork.errors import OptionError


@pytest.fixture
def base_model() -> keras.Model:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    return keras.Model(image, keras.layers.BatchNormalization()(x))


def test_shape_and_layers_are_the_courses(base_model: keras.Model) -> None:
    model = tw.get_final_model(base_model, 0.5, [256, 32], 10)
    kinds = [type(layer).__name__ for layer in model.layers[len(base_model.layers) :]]
    assert kinds == ["Flatten", "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    assert model.output_shape == (None, 10)
    assert not any(layer.trainable for layer in base_model.layers)


def test_it_compiles_fits_and_leaves_the_base_alone(base_model: keras.Model) -> None:
    keras.utils.set_random_seed(0)
    model = tw.get_final_model(base_model, 0.1, [8], 2)
    before = [np.array(weight) for weight in base_model.get_weights()]
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    history = model.fit(x, (x.mean(axis=(1, 2, 3)) > 0).astype(int), epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    for old, new in zip(before, base_model.get_weights(), strict=True):
        assert np.array_equal(old, new)  # frozen batch normalisation keeps its statistics too


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1.0, [8], 2), "dropout"), ((0.5, [0], 2), "class_layers"), ((0.5, [8], 1), "num_classes")],
)
def test_values_out_of_range(base_model: keras.Model, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tw.get_final_model(base_model, *arguments)
