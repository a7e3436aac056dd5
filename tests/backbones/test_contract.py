"""One battery for every network in the table, at its smallest size.

Its weights are drawn here with plausible magnitudes: the published ones can't be had without a network. Each is
built, frozen, run by OpenVINO and by Keras on JAX. The two must agree within 1e-4 of the largest feature: both
compute in float32, in different orders, through up to 800 layers. Those of the course, and one of each other kind, are
exported to ONNX and OpenVINO too, and pass the parity check.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from helpers import DEEPER, make_photo, plausible_tensor
from topwork.backbones.backbone import Backbone
from topwork.backbones.cards import COURSE, Card, cards
from topwork.backbones.engines import Engine, open_engine
from topwork.backbones.keras_engine import KerasEngine
from topwork.backbones.network import NetworkSpec, build_base, tensor_name
from topwork.backbones.weights import BackboneWeights
from topwork.classifier.classifier import ImageClassifier
from topwork.data.decoding import read_square
from topwork.errors import OptionError
from topwork.export.export import export_classifier
from topwork.files import sha256_of_file
from topwork.recipe import Recipe
from topwork.tops.dense_stack import DenseStack

TOLERANCE = 1e-4

EXPORTED = (*COURSE, "starter", "mobilenet_v2", "efficientnet_b0", "convnext_tiny")

SLOWEST = {"inception_resnet_v2", "nasnet_mobile"}
"""Half a minute and more each; the first goes through the whole job each time (tests/test_course.py)."""
FIRST_OF_KIND = (*EXPORTED, "efficientnet_v2_b0", "efficientnet_lite0", "vgg16")
KINDS = ("efficientnet_v2", "efficientnet_b", "efficientnet_lite", "convnext", "nasnet", "vgg")
FURTHER_SIZES = DEEPER | SLOWEST | {name for name in cards() if name.startswith(KINDS)} - {*FIRST_OF_KIND}
"""Larger networks of a kind of which the smallest is tested: a quarter of an hour, and 13 GB of memory."""

GAINS = {"efficientnet_v2": 1.1, "efficientnet_b": 1.8}
"""What swish wants. With more, these networks are chaotic: one pixel changed by one level changes every feature, and no
two ways of adding agree. With less, all images look the same."""


pytestmark = pytest.mark.usefixtures("no_random_initialisation")


def draw_weights(card: Card, folder: Path) -> BackboneWeights:
    """A safetensors file with plausible weights for a network."""
    base = build_base(NetworkSpec(card.builder, card.preprocessing.name, card.smallest_size, "avg"))
    random = np.random.default_rng(0)
    gain = next((gain for start, gain in GAINS.items() if card.name.startswith(start)), 1.5)
    tensors = {
        tensor_name(place, weight): plausible_tensor(weight.path, tuple(weight.shape), random, gain)
        for place, weight in enumerate(base.weights)
    }
    assert not base.trainable
    assert not base.trainable_weights
    assert sum(tensor.size for tensor in tensors.values()) == card.parameters
    path = folder / f"{card.name}.safetensors"
    save_file(tensors, path)
    return BackboneWeights("drawn for the test", path, sha256_of_file(path))


def run(engine: Engine, images: np.ndarray, at_a_time: int) -> np.ndarray:
    batches = [(start, images[start : start + at_a_time]) for start in range(0, len(images), at_a_time)]
    found = dict(engine.run(iter(batches)))
    return np.concatenate([found[start] for start in sorted(found)])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.large) if name in FURTHER_SIZES else name
        for name, card in cards().items()
        if card.builder  # those from files: test_network_files.py
    ],
)
def test_network_keeps_the_contract(name: str, tmp_path: Path, own_cache: Path) -> None:
    card = cards()[name]
    size = card.smallest_size
    with pytest.raises(OptionError, match=f"`size={size}` or more"):
        card.checked_size(size - 1)
    backbone = Backbone(card, draw_weights(card, tmp_path), Recipe(size))
    random = np.random.default_rng(1)
    images = np.stack([random.integers(low, high, (size, size, 3)) for low, high in ((0, 60), (0, 256), (180, 256))])
    images = images.astype(np.uint8)

    engine = open_engine(backbone, "cpu")
    alone = run(engine, images, 1)
    assert engine.n_features == card.n_features
    assert alone.shape == (3, card.n_features)
    assert np.all(np.isfinite(alone))
    scale = np.abs(alone).max()
    together = run(engine, images, engine.batch_size)
    assert np.abs(together - alone).max() <= 1e-5 * scale

    on_keras = KerasEngine(backbone)
    on_keras.batch_size = 3
    disagreement = np.abs(run(on_keras, images, 3) - alone).max()
    assert disagreement <= TOLERANCE * scale
    assert np.abs(alone[0] - alone[1]).max() > 30 * disagreement, "two images look the same: nothing was compared"
    if name in EXPORTED:
        pass_the_parity_check(backbone, engine, tmp_path)


def pass_the_parity_check(backbone: Backbone, engine: Engine, folder: Path) -> None:
    """Export the backbone with a drawn top whose probabilities differ from image to image."""
    pictures = [np.asarray(make_photo((200, 60, 40), seed, (90, 70))) for seed in range(3)]
    squares = np.stack([read_square(picture, Recipe(backbone.size), "picture") for picture in pictures])
    features = run(engine, squares, 1)
    kernel = np.random.default_rng(2).normal(0, 1, (features.shape[1], 4))
    kernel /= np.std(features @ kernel, axis=0).max()
    top = DenseStack((kernel.astype(np.float32),), (-(features.mean(axis=0) @ kernel).astype(np.float32),))
    classifier = ImageClassifier(backbone, top, ("ash", "birch", "cedar", "fir"), device="cpu")
    classifier.__dict__["engine"] = engine  # compiled already
    answers = classifier.predict_proba(pictures)
    assert answers.max() < 0.99, "all probabilities are 0 and 1: nothing was compared"
    for form in ("onnx", "openvino"):
        done = export_classifier(classifier, form, folder / form, pictures)
        assert (done.parity.n_images, done.parity.is_passed) == (3, True)


@cache
def published_preprocessing(builder: str) -> Iterator[object]:
    import importlib

    modules = {
        "VGG16": "vgg16", "VGG19": "vgg19", "Xception": "xception", "InceptionV3": "inception_v3",
        "InceptionResNetV2": "inception_resnet_v2", "MobileNet": "mobilenet", "MobileNetV2": "mobilenet_v2",
    }  # fmt: skip
    for start, module in (
        ("ResNet", "resnet_v2" if builder.endswith("V2") else "resnet"),
        ("MobileNetV3", "mobilenet_v3"),
        ("DenseNet", "densenet"),
        ("NASNet", "nasnet"),
        ("EfficientNetV2", "efficientnet_v2"),
        ("EfficientNetB", "efficientnet"),
        ("ConvNeXt", "convnext"),
    ):
        if builder.startswith(start):
            return importlib.import_module(f"keras.applications.{module}").preprocess_input  # type: ignore[no-any-return]
    return importlib.import_module(f"keras.applications.{modules[builder]}").preprocess_input  # type: ignore[no-any-return]


OWN = ("starter", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


@pytest.mark.parametrize("name", [name for name, card in cards().items() if card.builder and name not in OWN])
def test_preprocessing_is_what_keras_publishes(name: str) -> None:
    """Golden pixels: black, white, and one of each colour, as the network's own `preprocess_input` gives them."""
    card = cards()[name]
    pixels = np.array([[[0, 0, 0], [255, 255, 255], [200, 50, 100], [1, 2, 3]]], dtype=np.float32)
    expected = np.asarray(published_preprocessing(card.builder)(pixels.copy()))  # type: ignore[operator]
    ours = card.preprocessing
    values = pixels[..., ::-1] if ours.reverse_channels else pixels
    found = values * np.array(ours.scale) + np.array(ours.offset)
    if ours.name == "efficientnet":  # Keras publishes nothing here, but divides by sqrt(std) inside for "imagenet"
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        assert np.allclose((found / 255 - mean) / std**0.5, (expected / 255 - mean) / std, atol=1e-5)
    else:
        assert np.allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten"])
def test_pooling(pooling: str, own_cache: Path) -> None:
    import topwork as tw

    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    maps = run(open_engine(tw.load_backbone("starter", pooling="flatten"), "cpu"), image, 1).reshape(16, 640)
    found = run(open_engine(tw.load_backbone("starter", pooling=pooling), "cpu"), image, 1)[0]
    expected = {"avg": maps.mean(axis=0), "max": maps.max(axis=0), "flatten": maps.ravel()}[pooling]
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())
