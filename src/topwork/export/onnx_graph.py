"""An OpenVINO graph as an ONNX model, operation by operation.

Why not a library: Keras exports to ONNX through TensorFlow or PyTorch, gigabytes to install, or through `jax2onnx`,
whose DenseNet121 ONNX Runtime refuses (version 0.17, "Unsupported pooling size"). The graph that Topwork itself runs
has three dozen kinds of operations, each with a twin in ONNX; the gate shows that the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.errors import ExportError

if TYPE_CHECKING:
    import onnx
    import openvino as ov

OPSET = 18
"""Old enough for most runtimes, and the first in which all reductions take their axes as inputs."""
_IR_VERSION = 10
_SAME = {
    **{name: name for name in ("Abs", "Add", "Concat", "Floor", "Gather", "Less", "Range", "Relu", "Reshape")},
    **{name: name for name in ("Sigmoid", "Softmax", "Sqrt", "Squeeze", "Transpose", "Unsqueeze")},
    "Broadcast": "Expand",
    "Divide": "Div",
    "HSwish": "HardSwish",
    "Maximum": "Max",
    "Multiply": "Mul",
    "Negative": "Neg",
    "Power": "Pow",
    "Select": "Where",
    "Subtract": "Sub",
}
"""Operations whose inputs are the same in both; their attributes are in `_attributes`."""
_READS = {"Gather": 2, "Transpose": 1}
"""How many inputs ONNX has of these, where OpenVINO's others are attributes there."""


def to_onnx(model: ov.Model, metadata: dict[str, str], doc: str) -> onnx.ModelProto:
    """`model` as ONNX, opset 18, with the same names of inputs and outputs.

    Args:
        model: constants folded.
        metadata: kept in the file's own `metadata_props`.
        doc: one sentence for people, kept in `doc_string`.

    Raises:
        ExportError: an operation that has no translation here.
    """
    import onnx
    from onnx import helper

    writer = _Writer()
    for node in model.get_ordered_ops():
        writer.translate(node)
    inputs = [_value_info(port, ("batch", "height", "width", "channel")) for port in model.inputs]
    outputs = [_value_info(port, ("batch", "class")) for port in model.outputs]
    graph = helper.make_graph(writer.nodes, "topwork", inputs, outputs, writer.initializers)
    opset = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="topwork")
    made.doc_string = doc
    helper.set_model_props(made, metadata)
    onnx.checker.check_model(made)
    return made


class _Writer:
    """Gathers ONNX nodes while it walks the graph from its inputs on."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._names: dict[tuple[str, int], str] = {}
        self._kernels: set[str] = set()
        self._written: set[str] = set()

    def translate(self, node: ov.Node) -> None:
        """Add the twin of `node`."""
        kind, name = node.get_type_name(), node.get_friendly_name()
        if kind == "Result":
            return
        if kind == "Parameter":
            self._call(node, node.output(0).get_any_name())
        elif kind == "Constant":
            self._call(node, name)  # written when it is first read: what only shapes an operation becomes an attribute
        elif kind == "Convert" and node.get_input_element_type(0) == node.get_output_element_type(0):
            self._call(node, self.input(node, 0))
        elif kind in _SAME:
            inputs = [self.input(node, i) for i in range(_READS.get(kind, node.get_input_size()))]
            self._call(node, self.add(_SAME[kind], inputs, self._output(node), **_attributes(node)))
        elif kind in _TRANSLATIONS:
            self._call(node, _TRANSLATIONS[kind](self, node, self._output(node)))
        else:
            raise ExportError(f"The operation {kind} has no translation to ONNX. Export to openvino instead.")

    def _output(self, node: ov.Node) -> str:
        names = node.output(0).get_names()
        is_result = any(reader.get_node().get_type_name() == "Result" for reader in node.output(0).get_target_inputs())
        return next(iter(names)) if is_result and names else str(node.get_friendly_name())

    def _call(self, node: ov.Node, name: str) -> None:
        self._names[node.get_friendly_name(), 0] = name

    def input(self, node: ov.Node, i: int) -> str:
        """The ONNX name of the node's input `i`; a constant is written down now."""
        source = node.input_value(i).get_node()
        name = self._names[source.get_friendly_name(), node.input_value(i).get_index()]
        if source.get_type_name() == "Constant" and name not in self._written:
            self._written.add(name)
            self.initializer(name, source.data)
        return name

    def initializer(self, name: str, value: np.ndarray) -> str:
        """A constant called `name`."""
        from onnx import numpy_helper

        integers = np.issubdtype(value.dtype, np.integer) and value.dtype != np.uint8
        value = value.astype(np.int64) if integers else value
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """One ONNX node; returns the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant_of(self, node: ov.Node, i: int) -> np.ndarray:
        """The value of an input that must be known now.

        Raises:
            ExportError: it isn't.
        """
        source = node.input_value(i).get_node()
        if source.get_type_name() != "Constant":
            raise ExportError(f"{node.get_type_name()} with a computed input {i} has no translation to ONNX.")
        return np.asarray(source.data)


def _attributes(node: ov.Node) -> dict[str, Any]:
    kind, given = node.get_type_name(), node.get_attributes()
    if kind in ("Concat", "Softmax"):
        return {"axis": int(given["axis"])}
    if kind == "Gather":
        return {"axis": int(node.input_value(2).get_node().data)}
    if kind == "Transpose":
        return {"perm": node.input_value(1).get_node().data.tolist()}
    return {}


def _convolution(writer: _Writer, node: ov.Node, output: str) -> str:
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


def _pool(writer: _Writer, node: ov.Node, output: str) -> str:
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


def _batch_norm(writer: _Writer, node: ov.Node, output: str) -> str:
    inputs = [writer.input(node, i) for i in range(5)]
    return writer.add("BatchNormalization", inputs, output, epsilon=float(node.get_attributes()["epsilon"]))


def _clamp(writer: _Writer, node: ov.Node, output: str) -> str:
    given = node.get_attributes()
    limits = [writer.initializer(f"{output}/{end}", np.array(given[end], np.float32)) for end in ("min", "max")]
    return writer.add("Clip", [writer.input(node, 0), *limits], output)


def _swish(writer: _Writer, node: ov.Node, output: str) -> str:
    x = writer.input(node, 0)
    gate = x
    if node.get_input_size() > 1:
        gate = writer.add("Mul", [x, writer.input(node, 1)], f"{output}/scaled")
    return writer.add("Mul", [x, writer.add("Sigmoid", [gate], f"{output}/sigmoid")], output)


def _gelu(writer: _Writer, node: ov.Node, output: str) -> str:
    """`x / 2 * (1 + erf(x / sqrt(2)))`: ONNX has its own from opset 20 on, which fewer runtimes know."""
    if str(node.get_attributes()["approximation_mode"]).upper() != "ERF":
        raise ExportError("An approximate Gelu has no translation to ONNX. Export to openvino instead.")
    x = writer.input(node, 0)
    constants = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    root, one, half = (
        writer.initializer(f"{output}/{name}", np.array(value, np.float32)) for name, value in constants.items()
    )
    erf = writer.add("Erf", [writer.add("Div", [x, root], f"{output}/div")], f"{output}/erf")
    grown = writer.add("Mul", [x, writer.add("Add", [erf, one], f"{output}/add")], f"{output}/mul")
    return writer.add("Mul", [grown, half], output)


def _reduce(writer: _Writer, node: ov.Node, output: str) -> str:
    inputs = [writer.input(node, 0), writer.input(node, 1)]
    return writer.add(node.get_type_name(), inputs, output, keepdims=int(node.get_attributes()["keep_dims"]))


def _pad(writer: _Writer, node: ov.Node, output: str) -> str:
    if node.get_attributes()["pad_mode"] != "constant":
        raise ExportError("Padding by anything but a constant has no translation to ONNX.")
    pads = np.concatenate([writer.constant_of(node, 1), writer.constant_of(node, 2)])
    inputs = [writer.input(node, 0), writer.initializer(f"{output}/pads", pads), writer.input(node, 3)]
    return writer.add("Pad", inputs, output)


def _convert(writer: _Writer, node: ov.Node, output: str) -> str:
    from onnx import TensorProto

    known = {"f32": TensorProto.FLOAT, "i64": TensorProto.INT64, "i32": TensorProto.INT64, "u8": TensorProto.UINT8}
    return writer.add("Cast", [writer.input(node, 0)], output, to=known[node.get_element_type().get_type_name()])


def _shape_of(writer: _Writer, node: ov.Node, output: str) -> str:
    return writer.add("Shape", [writer.input(node, 0)], output)


def _matmul(writer: _Writer, node: ov.Node, output: str) -> str:
    given = node.get_attributes()
    if given["transpose_a"] or given["transpose_b"]:
        raise ExportError("A transposed matrix product has no translation to ONNX.")
    return writer.add("MatMul", [writer.input(node, 0), writer.input(node, 1)], output)


def _slice(writer: _Writer, node: ov.Node, output: str) -> str:
    """OpenVINO gives start, stop, step, axes; ONNX wants start, stop, axes, step."""
    data, start, stop, step, axes = (writer.input(node, i) for i in range(5))
    return writer.add("Slice", [data, start, stop, axes, step], output)


def _strided_slice(writer: _Writer, node: ov.Node, output: str) -> str:
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


_TRANSLATIONS: dict[str, Callable[[_Writer, Any, str], str]] = {
    **dict.fromkeys(("Convolution", "GroupConvolution"), _convolution),
    **dict.fromkeys(("AvgPool", "MaxPool"), _pool),
    **dict.fromkeys(("ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    "BatchNormInference": _batch_norm,
    "Clamp": _clamp,
    "Convert": _convert,
    "Gelu": _gelu,
    "MatMul": _matmul,
    "Pad": _pad,
    "ShapeOf": _shape_of,
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "Swish": _swish,
}


def _value_info(port: ov.Output, axes: tuple[str, ...]) -> Any:
    from onnx import TensorProto, helper

    kind = {"u8": TensorProto.UINT8, "f32": TensorProto.FLOAT}[port.get_element_type().get_type_name()]
    shape = [
        name if size.is_dynamic else size.get_length() for name, size in zip(axes, port.partial_shape, strict=True)
    ]
    return helper.make_tensor_value_info(port.get_any_name(), kind, shape)
