"""An OpenVINO graph as an ONNX model, operation by operation.

Why not a library: Keras exports to ONNX through TensorFlow or PyTorch, gigabytes to install, or through `jax2onnx`,
whose DenseNet121 ONNX Runtime refuses (version 0.17, "Unsupported pooling size"). The graph that Topwork itself runs
has three dozen kinds of operations, each with a twin in ONNX; the gate shows that the result is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.errors import ExportError
from topwork.export.onnx_operations import READS, SAME, TRANSLATIONS, attributes

if TYPE_CHECKING:
    import onnx
    import openvino as ov

OPSET = 18
"""Unless another is asked for; old enough for most runtimes."""


def to_onnx(model: ov.Model, metadata: dict[str, str], doc: str, *, opset: int = OPSET) -> onnx.ModelProto:
    """`model` as ONNX, with the same names of inputs and outputs.

    Args:
        model: constants folded.
        metadata: kept in the file's own `metadata_props`.
        doc: one sentence for people, kept in `doc_string`.
        opset: 13 to 21; the file gets the oldest IR version that has it.

    Raises:
        ExportError: an operation that has no translation here.
    """
    import onnx
    from onnx import helper

    writer = Writer(opset)
    for node in model.get_ordered_ops():
        writer.translate(node)
    inputs = [_value_info(port, ("batch", "height", "width", "channel")) for port in model.inputs]
    outputs = [_value_info(port, ("batch", "class")[: len(port.partial_shape)]) for port in model.outputs]
    graph = helper.make_graph(writer.nodes, "topwork", inputs, outputs, writer.initializers)
    opsets = [helper.make_opsetid("", opset)]
    oldest = helper.find_min_ir_version_for(opsets)
    made = helper.make_model(graph, opset_imports=opsets, ir_version=oldest, producer_name="topwork")
    made.doc_string = doc
    helper.set_model_props(made, metadata)
    onnx.checker.check_model(made)
    return made


class Writer:
    """Gathers ONNX nodes while it walks the graph from its inputs on."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._names: dict[str, str] = {}
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
        elif kind in SAME:
            inputs = [self.input(node, i) for i in range(READS.get(kind, node.get_input_size()))]
            self._call(node, self.add(SAME[kind], inputs, self._output(node), **attributes(node)))
        elif kind in TRANSLATIONS:
            self._call(node, TRANSLATIONS[kind](self, node, self._output(node)))
        else:
            raise ExportError(f"The operation {kind} has no translation to ONNX. Export to openvino instead.")

    def _output(self, node: ov.Node) -> str:
        names = node.output(0).get_names()
        is_result = any(reader.get_node().get_type_name() == "Result" for reader in node.output(0).get_target_inputs())
        return next(iter(names)) if is_result and names else str(node.get_friendly_name())

    def _call(self, node: ov.Node, name: str) -> None:
        self._names[node.get_friendly_name()] = name

    def input(self, node: ov.Node, i: int) -> str:
        """The ONNX name of the node's input `i`; a constant is written down now."""
        source = node.input_value(i).get_node()
        name = self._names[source.get_friendly_name()]
        if source.get_type_name() == "Constant" and name not in self._written:
            self._written.add(name)
            self.initializer(name, source.data)
        return name

    def initializer(self, name: str, value: np.ndarray) -> str:
        """A constant called `name`."""
        from onnx import numpy_helper

        integers = np.issubdtype(value.dtype, np.integer) and value.dtype != np.uint8
        value = value.astype(np.int64) if integers else value
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
        if value.dtype == np.float16:  # an initializer that is cast makes NNCF 3.4 fail
            return self.add("Constant", [], name, value=tensor)
        self.initializers.append(tensor)
        return name

    def add(self, kind: str, inputs: list[str], output: str, *others: str, **given: Any) -> str:
        """One ONNX node; returns the name of its first output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output, *others], output, **given))
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


def _value_info(port: ov.Output, axes: tuple[str, ...]) -> Any:
    from onnx import TensorProto, helper

    kind = {"u8": TensorProto.UINT8, "f32": TensorProto.FLOAT}[port.get_element_type().get_type_name()]
    shape = [
        name if size.is_dynamic else size.get_length() for name, size in zip(axes, port.partial_shape, strict=True)
    ]
    return helper.make_tensor_value_info(port.get_any_name(), kind, shape)
