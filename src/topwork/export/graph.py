"""The whole classifier as one OpenVINO graph: uint8 RGB images in, probabilities and an unknown score out.

What `data/decoding.py` does to an upright RGB picture is done inside: it is framed at whole pixels and resized by
Pillow's filter, as two matrix products. OpenVINO's own filter rounds ties the other way, and takes longer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from topwork.openvino_door import import_openvino, write_errors
from topwork.recipe import PAD_COLOUR, Recipe
from topwork.tops.dense_stack import DenseStack
from topwork.tops.novelty import NEIGHBOURS, Novelty

if TYPE_CHECKING:
    import openvino as ov

INPUT, OUTPUT, SCORE = "image", "probabilities", "novelty"
EXACT = ("resizing", "neighbours")
"""How the names of the nodes begin that must stay exact in int8."""


@dataclass(frozen=True)
class InputShape:
    """What of a file's input `(B, H, W, 3)` is fixed.

    Attributes:
        batch: B, the images at a time; None for any number.
        size: H and W, those of squares that are framed already; None for pictures of any size, framed inside.
    """

    batch: int | None = None
    size: int | None = None


ANY_SHAPE = InputShape()


def classifier_graph(
    backbone_graph: Path,
    recipe: Recipe,
    top: DenseStack,
    novelty: Novelty | None = None,
    *,
    shape: InputShape = ANY_SHAPE,
    for_int8: bool = False,
) -> ov.Model:
    """`image` `(B, H, W, 3)` uint8 -> `probabilities` `(B, K)` float32; and `novelty` `(B,)` float32, if there is one.

    Args:
        backbone_graph: the backbone's graph, `(B, size, size, 3)` uint8 -> `(B, D)` float32.
        recipe: how a picture becomes its input.
        top: D features to K logits.
        novelty: whose scores become the second output.
        shape: what of B, H and W is fixed.
        for_int8: batch normalisations are folded into the convolutions; without that, int8 is no faster.
    """
    ov = import_openvino()
    ops = ov.opset13
    backbone = ov.Core().read_model(backbone_graph)
    sides = [-1 if side is None else side for side in (shape.batch, shape.size, shape.size)]
    image = ops.parameter(ov.PartialShape([*sides, 3]), np.uint8, name=INPUT)
    square = framed(image, recipe) if shape.size is None else image
    for reader in backbone.get_parameters()[0].output(0).get_target_inputs():
        reader.replace_source_output(square.output(0))
    features = backbone.get_results()[0].input_value(0)
    model = ov.Model([_logits(features, top), features.get_node()], [image], "topwork")
    _fold_constants(model)
    if for_int8:
        _fold_normalisations(model)
    logits, features = (result.input_value(0) for result in model.get_results())
    outputs = [ops.softmax(logits, axis=1)]
    outputs[0].output(0).set_names({OUTPUT})
    if novelty is not None:  # after all folding, which would make its float16 float32, twice as long
        outputs.append(_scores(features, logits, novelty))
        outputs[1].output(0).set_names({SCORE})
    image.output(0).set_names({INPUT})
    model = ov.Model(outputs, [image], "topwork")
    _number_nodes(model)
    return model


def _fold_normalisations(model: ov.Model) -> None:
    """Fold batch normalisations, and what else is constant, into the convolutions.

    By the transformations that OpenVINO's own converters apply, and NNCF counts on; only their module is private.
    """
    import_openvino()
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, cf=True)


def write_metadata(model: ov.Model, metadata: dict[str, str]) -> None:
    """Keep `metadata` in the graph's own `rt_info`, below `topwork`."""
    for key, value in metadata.items():
        model.set_rt_info(value, ["topwork", key])


def save_graph(model: ov.Model, path: Path) -> None:
    """Write the graph as `path`, ending in .xml, and its weights beside it in .bin, as float32."""
    with write_errors():
        import_openvino().save_model(model, path, compress_to_fp16=False)


def framed(image: ov.Node, recipe: Recipe) -> ov.Node:
    """`(B, size, size, 3)` uint8, of pictures `(B, H, W, 3)`: Pillow's to one level in 3,000 values.

    Rounded after each direction, half up, as Pillow does; where it sums in whole numbers, this sums in float32.
    """
    ops = import_openvino().opset13
    height_width = ops.gather(ops.shape_of(image, "i64"), _ints(1, 2), np.int64(0))
    pad = None
    if recipe.frame == "crop":
        side = ops.reduce_min(height_width, _ints(0), keep_dims=True)
        if recipe.crop_thousandths < 1000:
            thousandths = ops.add(ops.multiply(side, _ints(recipe.crop_thousandths)), _ints(500))
            side = _quotient(thousandths, ops.constant(_ints(1000)))
        start = ops.divide(ops.subtract(height_width, side), _ints(2, 2))
        image = ops.slice(image, start, ops.add(start, side), _ints(1, 1), _ints(1, 2))
        across_weights = along_weights = _filter_weights(side, recipe)
    else:
        height, width = (ops.gather(height_width, _ints(axis), np.int64(0)) for axis in (0, 1))
        longest = ops.reduce_max(height_width, _ints(0), keep_dims=True) if recipe.frame == "pad" else None
        across_weights, along_weights = (_filter_weights(length, recipe, longest) for length in (height, width))
        if longest is not None:  # rows of zeros are beside the picture
            rows, columns = (_row_sums(weights) for weights in (across_weights, along_weights))
            pad = ops.subtract(np.float32(1), ops.multiply(rows, ops.transpose(columns, _ints(1, 0))))
    x = ops.transpose(ops.convert(image, "f32"), _ints(0, 3, 1, 2))
    along = ops.matmul(x, ops.transpose(along_weights, _ints(1, 0)), False, False)
    across = ops.matmul(across_weights, _rounded(along), False, False)
    for name, product in (("along", along), ("across", across)):
        product.set_friendly_name(f"{EXACT[0]}/{name}")
    square = _rounded(across)
    if pad is not None:
        square = ops.add(square, ops.multiply(pad, np.array(PAD_COLOUR, np.float32)[None, :, None, None]))
    return ops.convert(ops.transpose(square, _ints(0, 2, 3, 1)), "u8")


def _quotient(a: ov.Node, b: ov.Node) -> ov.Node:
    """`max(1, a // b)` in int64. Not by an integer division: OpenVINO 2026 fuses it with what follows, in fractions.

    In float32 it is exact up to 2^24, so for sides of 16,000 pixels.
    """
    ops = import_openvino().opset13
    quotient = ops.floor(ops.divide(ops.convert(a, "f32"), ops.convert(b, "f32")))
    return ops.convert(ops.maximum(quotient, np.float32(1)), "i64")


def _row_sums(weights: ov.Node) -> ov.Node:
    """`(size, 1)` float32: 1 for each row inside the picture, 0 beside it."""
    ops = import_openvino().opset13
    return ops.floor(ops.add(ops.reduce_sum(weights, _ints(1), keep_dims=True), np.float32(0.5)))


def _rounded(x: ov.Node) -> ov.Node:
    ops = import_openvino().opset13
    return ops.clamp(ops.floor(ops.add(x, np.float32(0.5))), 0, 255)


def _filter_weights(side: ov.Node, recipe: Recipe, longest: ov.Node | None = None) -> ov.Node:
    """`(size, side)` float32: how much each of `side` pixels counts in each of `size`; rows sum to 1.

    As wide as Pillow makes its filter where a picture shrinks, in Pillow's steps of 2^-22. Where the picture is padded,
    `longest` is its longer side, which fills the square; rows beside the picture are zeros.
    """
    ops, number, size = import_openvino().opset13, np.float32, recipe.size
    whole = ops.range(np.int64(0), ops.squeeze(side, _ints(0)), np.int64(1), "i64")
    pixel = ops.unsqueeze(ops.add(ops.convert(whole, "f32"), number(0.5)), _ints(0))
    places: ov.Node = ops.constant(np.arange(0.5, size, dtype=number)[:, None])
    if longest is None:
        n: ov.Node | np.floating = number(size)
    else:
        doubled = ops.add(ops.multiply(side, _ints(2 * size)), longest)
        inside = _quotient(doubled, ops.multiply(longest, _ints(2)))
        n, start = ops.convert(inside, "f32"), ops.divide(ops.subtract(_ints(size), inside), _ints(2))
        places = ops.subtract(places, ops.convert(start, "f32"))
    scale = ops.divide(ops.convert(side, "f32"), n)
    centre = ops.multiply(places, scale)
    d = ops.abs(ops.divide(ops.subtract(pixel, centre), ops.maximum(scale, number(1))))
    weights = _bicubic(d) if recipe.filter == "bicubic" else ops.maximum(ops.subtract(number(1), d), number(0))
    if longest is not None:  # of rows beside the picture what reaches into it is dropped, and nothing divided by zero
        is_inside = ops.multiply(*(ops.convert(ops.less(a, b), "f32") for a, b in ((number(0), places), (places, n))))
        weights = ops.multiply(weights, is_inside)
        total = ops.add(ops.reduce_sum(weights, _ints(1), keep_dims=True), ops.subtract(number(1), is_inside))
        weights = ops.divide(weights, total)
    else:
        weights = ops.divide(weights, ops.reduce_sum(weights, _ints(1), keep_dims=True))
    return ops.multiply(ops.floor(ops.add(ops.multiply(weights, number(2**22)), number(0.5))), number(2**-22))


def _bicubic(d: ov.Node) -> ov.Node:
    """The cubic convolution of Keys (1981) with a = -0.5, at so many pixels from a centre."""
    ops, number = import_openvino().opset13, np.float32
    near = ops.add(ops.multiply(ops.multiply(ops.subtract(ops.multiply(d, number(1.5)), number(2.5)), d), d), number(1))
    far = ops.subtract(ops.multiply(ops.add(ops.multiply(ops.subtract(d, number(5)), d), number(8)), d), number(4))
    beyond = ops.select(ops.less(d, number(2)), ops.multiply(far, number(-0.5)), number(0))
    return ops.select(ops.less(d, number(1)), near, beyond)


def _logits(features: ov.Output, top: DenseStack) -> ov.Node:
    ops = import_openvino().opset13
    x = features
    for layer, (kernel, bias) in enumerate(zip(top.kernels, top.biases, strict=True)):
        x = ops.matmul(ops.relu(x) if layer else x, np.asarray(kernel, np.float32), False, False)
        x = ops.add(x, np.asarray(bias, np.float32)[None])
    return x


def _scores(features: ov.Output, logits: ov.Output, novelty: Novelty) -> ov.Node:
    """`(B,)`, what `Novelty.scores` gives."""
    ops, number, axis = import_openvino().opset13, np.float32, _ints(1)
    length = ops.sqrt(ops.reduce_sum(ops.multiply(features, features), axis, keep_dims=True))
    directions = ops.divide(features, ops.maximum(length, number(1e-12)))
    references = ops.convert(ops.constant(novelty.references), "f32")
    similarity = ops.matmul(directions, references, False, True)
    similarity.set_friendly_name(f"{EXACT[1]}/similarity")
    n = min(NEIGHBOURS, len(novelty.references))
    nearest = ops.topk(similarity, np.int64(n), 1, "max", "value").output(0)
    distance = ops.subtract(number(1), ops.gather(nearest, np.int64(n - 1), np.int64(1)))
    highest = ops.reduce_max(logits, axis, keep_dims=True)
    total = ops.reduce_sum(ops.exp(ops.subtract(logits, highest)), axis)
    energy = ops.negative(ops.add(ops.squeeze(highest, axis), ops.log(total)))
    signs = zip((distance, energy), novelty.centre, novelty.spread, strict=True)
    return ops.add(*(ops.divide(ops.subtract(x, number(c)), number(s)) for x, c, s in signs))


def _number_nodes(model: ov.Model) -> None:
    """Name nodes without a name of their own by their place: OpenVINO counts all that this process ever made, so that
    the same classifier would not give the same file.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        kind = node.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{kind}_{place}")


def _fold_constants(model: ov.Model) -> None:
    """Compute once what hangs on no input: Keras leaves each weight behind a transposition and a conversion."""
    import_openvino()
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
