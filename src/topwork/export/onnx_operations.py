"""How each kind of OpenVINO operation is said in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.errors import ExportError
from topwork.export.onnx_writer import Writer

if TYPE_CHECKING:
    import openvino as ov

SAME = {
    **{name: name for name in ("Abs", "Add", "Concat", "Floor", "Gather", "Less", "Range", "Relu", "Reshape")},
    **{name: name for name in ("Sigmoid", "Softmax", "Sqrt", "Squeeze", "Tanh", "Tile", "Transpose", "Unsqueeze")},
    **{name: name for name in ("Erf", "Exp", "IsNaN", "Log")},
    "Broadcast": "Expand",
    "Divide": "Div",
    "HSigmoid": "HardSigmoid",
    "Maximum": "Max",
    "Minimum": "Min",
    "Multiply": "Mul",
    "Negative": "Neg",
    "Power": "Pow",
    "Select": "Where",
    "Subtract": "Sub",
}
"""Operations whose inputs are the same in both; their attributes are in `attributes`."""
READS = {"Gather": 2, "Transpose": 1}
"""How many inputs ONNX has of these, where OpenVINO's others are attributes there."""
_HARD = {"alpha": 1 / 6, "beta": 0.5}
_AXES_ARE_INPUTS = 18
"""The opset from which reductions take their axes as an input; that of sums does so from 13 on."""


def attributes(node: ov.Node) -> dict[str, Any]:
    """What ONNX has as attributes of an operation in `SAME`."""
    kind, given = node.get_type_name(), node.get_attributes()
    if kind in ("Concat", "Softmax"):
        return {"axis": int(given["axis"])}
    if kind == "Gather":
        return {"axis": int(node.input_value(2).get_node().data)}
    if kind == "Transpose":
        return {"perm": node.input_value(1).get_node().data.tolist()}
    if kind == "HSigmoid":
        return _HARD
    return {}


def _convolution(writer: Writer, node: ov.Node, output: str) -> str:
    kernel = writer.constant_of(node, 1)
    groups = 1
    if node.get_type_name() == "GroupConvolution":  # (G, O/G, I/G, h, w) -> (O, I/G, h, w)
        groups = kernel.shape[0]
        kernel = kernel.reshape(-1, *kernel.shape[2:])
    weights = writer.initializer(f"{output}/kernel", kernel)
    given = node.get_attributes()
    window = {
        "kernel_shape": list(kernel.shape[2:]),
        "strides": given["strides"],
        "dilations": given["dilations"],
        "group": groups,
        **_padding(given),
    }
    return writer.add("Conv", [writer.input(node, 0), weights], output, **window)


def _pool(writer: Writer, node: ov.Node, output: str) -> str:
    given = node.get_attributes()
    window: dict[str, Any] = {"kernel_shape": given["kernel"], "strides": given["strides"], **_padding(given)}
    window["ceil_mode"] = int(given["rounding_type"] != "floor")
    if node.get_type_name() == "AvgPool":
        return writer.add(
            "AveragePool",
            [writer.input(node, 0)],
            output,
            count_include_pad=int(not given["exclude-pad"]),
            **window,
        )
    return writer.add("MaxPool", [writer.input(node, 0)], output, **window)


def _padding(given: dict[str, Any]) -> dict[str, Any]:
    named = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}
    if given["auto_pad"] in named:
        return {"auto_pad": named[given["auto_pad"]]}
    return {"pads": [*given["pads_begin"], *given["pads_end"]]}


def _batch_norm(writer: Writer, node: ov.Node, output: str) -> str:
    inputs = [writer.input(node, i) for i in range(5)]
    return writer.add("BatchNormalization", inputs, output, epsilon=float(node.get_attributes()["epsilon"]))


def _clamp(writer: Writer, node: ov.Node, output: str) -> str:
    given = node.get_attributes()
    limits = [writer.initializer(f"{output}/{end}", np.array(given[end], np.float32)) for end in ("min", "max")]
    return writer.add("Clip", [writer.input(node, 0), *limits], output)


def _swish(writer: Writer, node: ov.Node, output: str) -> str:
    x = writer.input(node, 0)
    gate = x
    if node.get_input_size() > 1:
        gate = writer.add("Mul", [x, writer.input(node, 1)], f"{output}/scaled")
    return writer.add("Mul", [x, writer.add("Sigmoid", [gate], f"{output}/sigmoid")], output)


def _hard_swish(writer: Writer, node: ov.Node, output: str) -> str:
    """`x * hardsigmoid(x)`: ONNX has its own from opset 14 on."""
    x = writer.input(node, 0)
    return writer.add("Mul", [x, writer.add("HardSigmoid", [x], f"{output}/gate", **_HARD)], output)


def _gelu(writer: Writer, node: ov.Node, output: str) -> str:
    """`x / 2 * (1 + erf(x / sqrt(2)))`: ONNX has its own from opset 20 on, which fewer runtimes know.

    Approximately, `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.
    """
    x = writer.input(node, 0)
    constants = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    root, one, half = (
        writer.initializer(f"{output}/{name}", np.array(value, np.float32)) for name, value in constants.items()
    )
    if str(node.get_attributes()["approximation_mode"]).upper() == "ERF":
        bent = writer.add("Erf", [writer.add("Div", [x, root], f"{output}/div")], f"{output}/erf")
    else:
        shrink = writer.initializer(f"{output}/shrink", np.array((2 / np.pi) ** 0.5, np.float32))
        cubed = writer.initializer(f"{output}/cubed", np.array(0.044715, np.float32))
        square = writer.add("Mul", [x, x], f"{output}/square")
        factor = writer.add("Add", [writer.add("Mul", [square, cubed], f"{output}/part"), one], f"{output}/factor")
        inner = writer.add("Mul", [writer.add("Mul", [x, factor], f"{output}/sum"), shrink], f"{output}/inner")
        bent = writer.add("Tanh", [inner], f"{output}/tanh")
    grown = writer.add("Mul", [x, writer.add("Add", [bent, one], f"{output}/add")], f"{output}/mul")
    return writer.add("Mul", [grown, half], output)


def _mvn(writer: Writer, node: ov.Node, output: str) -> str:
    """`(x - mean) / sqrt(variance + eps)` over some axes, as layer normalisation is made of."""
    given, x = node.get_attributes(), writer.input(node, 0)
    axes = writer.constant_of(node, 1)
    mean = _reduced(writer, "ReduceMean", x, axes, f"{output}/mean")
    if not given["normalize_variance"]:
        return writer.add("Sub", [x, mean], output)
    eps = writer.initializer(f"{output}/eps", np.array(given["eps"], np.float32))
    centred = writer.add("Sub", [x, mean], f"{output}/centred")
    square = writer.add("Mul", [centred, centred], f"{output}/square")
    variance = _reduced(writer, "ReduceMean", square, axes, f"{output}/variance")
    if given["eps_mode"] == "INSIDE_SQRT":
        deviation = writer.add("Sqrt", [writer.add("Add", [variance, eps], f"{output}/sum")], f"{output}/deviation")
    else:
        deviation = writer.add("Add", [writer.add("Sqrt", [variance], f"{output}/root"), eps], f"{output}/deviation")
    return writer.add("Div", [centred, deviation], output)


def _reduce(writer: Writer, node: ov.Node, output: str) -> str:
    keepdims = int(node.get_attributes()["keep_dims"])
    return _reduced(writer, node.get_type_name(), writer.input(node, 0), writer.constant_of(node, 1), output, keepdims)


def _reduced(writer: Writer, kind: str, x: str, axes: np.ndarray, output: str, keepdims: int = 1) -> str:
    if writer.opset < _AXES_ARE_INPUTS and kind != "ReduceSum":
        return writer.add(kind, [x], output, axes=axes.ravel().tolist(), keepdims=keepdims)
    return writer.add(kind, [x, writer.initializer(f"{output}/axes", axes.ravel())], output, keepdims=keepdims)


def _pad(writer: Writer, node: ov.Node, output: str) -> str:
    if node.get_attributes()["pad_mode"] != "constant":
        raise ExportError("Padding by anything but a constant has no translation to ONNX.")
    pads = np.concatenate([writer.constant_of(node, 1), writer.constant_of(node, 2)])
    inputs = [writer.input(node, 0), writer.initializer(f"{output}/pads", pads), writer.input(node, 3)]
    return writer.add("Pad", inputs, output)


def _convert(writer: Writer, node: ov.Node, output: str) -> str:
    from onnx import TensorProto

    known = {"f32": TensorProto.FLOAT, "i64": TensorProto.INT64, "i32": TensorProto.INT64, "u8": TensorProto.UINT8}
    return writer.add("Cast", [writer.input(node, 0)], output, to=known[node.get_element_type().get_type_name()])


def _shape_of(writer: Writer, node: ov.Node, output: str) -> str:
    return writer.add("Shape", [writer.input(node, 0)], output)


def _matmul(writer: Writer, node: ov.Node, output: str) -> str:
    """ONNX has no transposed product: the transposition is a node of its own."""
    given, factors = node.get_attributes(), []
    for i, is_transposed in enumerate((given["transpose_a"], given["transpose_b"])):
        factor = writer.input(node, i)
        if is_transposed:
            *others, rows, columns = range(node.get_input_partial_shape(i).rank.get_length())
            perm = [*others, columns, rows]
            factor = writer.add("Transpose", [factor], f"{output}/transposed {i}", perm=perm)
        factors.append(factor)
    return writer.add("MatMul", factors, output)


def _slice(writer: Writer, node: ov.Node, output: str) -> str:
    """OpenVINO gives start, stop, step, axes; ONNX wants start, stop, axes, step."""
    data, start, stop, step, axes = (writer.input(node, i) for i in range(5))
    return writer.add("Slice", [data, start, stop, axes, step], output)


def _strided_slice(writer: Writer, node: ov.Node, output: str) -> str:
    """NumPy's indexing; what the masks leave open runs over the whole axis."""
    given = node.get_attributes()
    if any(any(given[mask]) for mask in ("new_axis_mask", "shrink_axis_mask", "ellipsis_mask")):
        raise ExportError("An indexing that changes the axes has no translation to ONNX.")
    starts, stops, steps = (writer.constant_of(node, i).astype(np.int64) for i in (1, 2, 3))
    whole = np.iinfo(np.int64)
    for axis, step in enumerate(steps):
        if given["begin_mask"][axis]:
            starts[axis] = 0 if step > 0 else whole.max
        if given["end_mask"][axis]:
            stops[axis] = whole.max if step > 0 else whole.min
    values = {"starts": starts, "stops": stops, "axes": np.arange(len(steps)), "steps": steps}
    inputs = [writer.initializer(f"{output}/{name}", value) for name, value in values.items()]
    return writer.add("Slice", [writer.input(node, 0), *inputs], output)


def _top_k(writer: Writer, node: ov.Node, output: str) -> str:
    """Values; the places, which OpenVINO gives too, nothing may read."""
    given = node.get_attributes()
    if node.output(1).get_target_inputs():
        raise ExportError("TopK whose places are read has no translation to ONNX. Export to openvino instead.")
    n = writer.initializer(f"{output}/k", writer.constant_of(node, 1).reshape(1))
    largest, is_sorted = int(given["mode"] == "max"), int(given["sort"] == "value")
    inputs, outputs = [writer.input(node, 0), n], [output, f"{output}/places"]
    return writer.add("TopK", inputs, *outputs, axis=int(given["axis"]), largest=largest, sorted=is_sorted)


TRANSLATIONS: dict[str, Callable[[Writer, Any, str], str]] = {
    **dict.fromkeys(("Convolution", "GroupConvolution"), _convolution),
    **dict.fromkeys(("AvgPool", "MaxPool"), _pool),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    "BatchNormInference": _batch_norm,
    "Clamp": _clamp,
    "Convert": _convert,
    "Gelu": _gelu,
    "HSwish": _hard_swish,
    "MVN": _mvn,
    "MatMul": _matmul,
    "Pad": _pad,
    "ShapeOf": _shape_of,
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "Swish": _swish,
    "TopK": _top_k,
}
