"""The ONNX nodes and constants that were written so far, and what each OpenVINO node is called among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.errors import ExportError

if TYPE_CHECKING:
    import openvino as ov


class Writer:
    """Gathers ONNX nodes while it walks the graph from its inputs on."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._names: dict[str, str] = {}
        self._written: set[str] = set()

    def output(self, node: ov.Node) -> str:
        """What the output of `node` is to be called in ONNX."""
        names = node.output(0).get_names()
        is_result = any(reader.get_node().get_type_name() == "Result" for reader in node.output(0).get_target_inputs())
        return next(iter(names)) if is_result and names else str(node.get_friendly_name())

    def call(self, node: ov.Node, name: str) -> None:
        """Remember that the output of `node` is called `name`."""
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
