"""The table of networks: complete, consistent, and found however a name is spelt."""

from __future__ import annotations

import inspect
import re

import pytest

from topwork.backbones.backbone import _PROVIDERS
from topwork.backbones.cards import COURSE, cards, find_card
from topwork.errors import OptionError, UnknownNameError


def test_every_keras_application_has_a_card() -> None:
    import keras

    networks = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    own = {"Starter", "EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"}
    assert {card.builder for card in cards().values() if card.builder} == networks | own


def test_the_course_keeps_its_eleven() -> None:
    assert len(COURSE) == 11
    assert set(COURSE) <= set(cards())


@pytest.mark.parametrize("name", list(cards()))
def test_card_is_whole(name: str) -> None:
    card = cards()[name]
    assert (32 if card.builder else 14) <= card.smallest_size <= card.input_size
    assert card.n_features > 0
    assert card.parameters > 0
    assert card.licence
    assert card.provider in _PROVIDERS
    assert bool(card.builder) == (card.provider == "keras")
    if not card.ships:
        assert card.package or card.weights_url.startswith("https://")
        assert len(card.weights_hash) in (0, 32, 64)
        assert card.paper
    if card.provider == "graph":
        assert re.search(r"/resolve/[0-9a-f]{40}/.*\.onnx$", card.weights_url)
        assert card.output
    else:  # `load_backbone` reads these four of 'graph' alone
        assert (card.pooling, card.frame, card.crop, card.filter) == ("avg", "crop", 1.0, "bicubic")
    if card.provider == "keras" and not card.ships:
        assert card.package or card.weights_url.endswith(".h5")
        assert card.top1 is not None
        assert 60 < card.top1 < 90


def test_a_size_of_no_whole_number_of_patches_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(OptionError, match=r"patches of 14 pixels, and 225 .* `size=224` or `size=238`"):
        find_card("dinov2-small").checked_size(225)
    assert find_card("dinov2-small").checked_size(252) == 252


@pytest.mark.parametrize(
    ("spelt", "name"),
    [("DenseNet121", "densenet121"), ("resnet50_v2", "resnet50v2"), ("InceptionV3", "inception_v3"), ("starter",) * 2],
)
def test_name_is_found_however_it_is_spelt(spelt: str, name: str) -> None:
    assert find_card(spelt).name == name


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Unknown backbone 'resnet5'. Did you mean 'resnet50'"):
        find_card("resnet5")


def test_too_small_a_size_is_refused_with_the_reason() -> None:
    with pytest.raises(OptionError, match="inception_v3 can't take 74-pixel images.*`size=75` or more.*299"):
        find_card("inception_v3").checked_size(74)
