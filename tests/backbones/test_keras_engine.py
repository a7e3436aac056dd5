"""What goes to an accelerator: bytes in, arithmetic of the precision that was asked for, batches that fit."""

from __future__ import annotations

import re

import numpy as np
import pytest

import topwork as tw
from topwork.backbones.backbone import Backbone
from topwork.backbones.keras_engine import KerasEngine
from topwork.types import Precision


def starter(size: int, precision: Precision = "f32") -> Backbone:
    return tw.load_backbone("starter", size=size, precision=precision)


def program(engine: KerasEngine, size: int) -> str:
    """What JAX hands to the compiler, before any device changes it."""
    pixels = np.zeros((engine.batch_size, size, size, 3), np.uint8)
    return str(engine._forward.lower(engine._state, pixels).as_text())


@pytest.mark.parametrize(
    ("precision", "products", "kind"), [("f32", "HIGHEST", "f32"), ("bf16", "DEFAULT", "bf16")], ids=["f32", "bf16"]
)
def test_precision_is_the_one_asked_for(precision: Precision, products: str, kind: str) -> None:
    """JAX's default makes tf32 of f32 on GPUs that have it; such features would lie in the store as f32."""
    text = program(KerasEngine(starter(32, precision)), 32)
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions
    for line in convolutions:
        assert set(re.findall(r"#stablehlo<precision (\w+)>", line)) == {products}
        assert re.search(rf"-> tensor<[\dx]+x{kind}>$", line)


def test_pixels_travel_as_bytes() -> None:
    text = program(KerasEngine(starter(32)), 32)
    assert re.search(r"%arg\d+: tensor<128x32x32x3xui8>", text)


@pytest.mark.parametrize(("size", "batch_size"), [(32, 128), (224, 128), (448, 32)])
def test_large_inputs_get_small_batches(size: int, batch_size: int) -> None:
    assert KerasEngine(starter(size)).batch_size == batch_size


def test_no_row_is_of_no_image() -> None:
    """Batches that are not full give as many features as they have images, from `run` and from `infer`."""
    engine = KerasEngine(starter(32))
    engine.batch_size = 4
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    ran = dict(engine.run([(0, images[:4]), (4, images[4:])]))
    assert [len(ran[0]), len(ran[4])] == [4, 2]
    for found in (ran[4], engine.infer(images[4:])):
        np.testing.assert_allclose(found, np.asarray(engine.start(images[2:]))[2:], rtol=1e-5, atol=1e-6)
