"""Where networks are cut, and that what lies above is computed as Keras computes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork as tw
from helpers import plausible_tensor
from topwork.backbones.cards import find_card
from topwork.backbones.layer_facts import describe_layers
from topwork.backbones.layers import _layer, layers_of
from topwork.backbones.network import NetworkSpec, build_base
from topwork.errors import OptionError
from topwork.keras_door import import_keras
from topwork.tuning.plan import cut_of, find_cut, possible_cuts
from topwork.tuning.tail import is_computed, make_tail, split_parameters

CUTS = {
    "mobilenet_v2": ("block_15_add", "block_12_add"),
    "inception_v3": ("mixed9", "mixed8"),
}
"""By hand: what lies below the last block, and below the last stage."""


def network(name: str) -> Any:
    """A network with weights that might be trained ones."""
    import_keras()
    card = find_card(name)
    base = build_base(NetworkSpec(card.builder, card.preprocessing.name, 96, "avg"))
    random = np.random.default_rng(0)
    base.set_weights([plausible_tensor(weight.path, tuple(weight.shape), random) for weight in base.weights])
    return base


@pytest.mark.parametrize("name", list(CUTS))
@pytest.mark.usefixtures("no_random_initialisation")
def test_cuts_are_found_and_the_tail_computes_what_keras_does(name: str) -> None:
    import jax
    import keras

    base = network(name)
    layers = [_layer(facts) for facts in json.loads(json.dumps(describe_layers(base)))]
    assert 28 <= len(possible_cuts(layers)) <= 118
    tensors = {f"{place:04d}": np.asarray(weight) for place, weight in enumerate(base.weights)}
    images = np.random.default_rng(1).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    for part, expected in zip(("last-block", "last-stage"), CUTS[name], strict=True):
        cut = cut_of(layers, part)  # type: ignore[arg-type]
        assert cut is not None
        assert cut.layer == expected
        assert all(map(is_computed, cut.above))
        both = keras.Model(base.input, [base.get_layer(cut.layer).output, base.output])
        activations, features = map(np.asarray, jax.jit(both)(images))  # layer by layer it takes minutes
        found = jax.jit(make_tail(cut.above))(*split_parameters(cut.above, tensors), activations)
        # float32 sums in another order; the folded kernels round once more
        assert np.abs(found - features).max() < 2e-5 * np.abs(features).max()


def test_the_starters_layers_are_found_once_and_kept() -> None:
    backbone = tw.load_backbone("starter")
    stage, block = find_cut(backbone, "last-stage"), find_cut(backbone, "last-block")
    assert (stage.layer, stage.shape, stage.n_bytes) == ("stage2_block2_relu", (8, 8, 112), 14_336)
    assert (block.layer, block.shape) == ("stage3_block1_relu", (4, 4, 256))
    assert sum(layer.n_parameters for layer in layers_of(backbone)) == backbone.card.parameters
    assert 0.4 < stage.share_of_work < 0.6 < stage.share_of_parameters < 0.9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet_v3_small", {"weights": "random", "size": 64}, "can't be fine-tuned"),
        ("vgg16", {"weights": "random", "size": 64, "pooling": "max"}, "`pooling=max`"),
    ],
)
def test_what_cannot_be_fine_tuned_is_said(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        find_cut(tw.load_backbone(name, **options), "last-stage")


def test_networks_from_files_cannot_be_fine_tuned() -> None:
    file = Path(__file__).parents[1] / "backbones" / "networks" / "convnext.onnx"
    backbone = tw.load_backbone(str(file), mean=(0.5,), std=(0.5,))
    with pytest.raises(OptionError, match="only networks that it builds can be fine-tuned: starter"):
        find_cut(backbone, "last-stage")
