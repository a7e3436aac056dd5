"""An OpenVINO graph as an ONNX model, operation by operation.

Why not a library: Keras exports to ONNX through TensorFlow or PyTorch, gigabytes to install, or through `jax2onnx`,
whose DenseNet121 ONNX Runtime refuses (version 0.17, "Unsupported pooling size"). The graph that Topwork itself runs
has three dozen kinds of operations, each with a twin in ONNX; the parity check shows that the result is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topwork.errors import ExportError
from topwork.export.onnx_operations import READS, SAME, TRANSLATIONS, attributes
from topwork.export.onnx_writer import Writer

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
        _translate(writer, node)
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


def _translate(writer: Writer, node: ov.Node) -> None:
    """Add the twin of `node`."""
    kind, name = node.get_type_name(), node.get_friendly_name()
    if kind == "Result":
        return
    if kind == "Parameter":
        writer.call(node, node.output(0).get_any_name())
    elif kind == "Constant":
        writer.call(node, name)  # written when it is first read: what only shapes an operation becomes an attribute
    elif kind == "Convert" and node.get_input_element_type(0) == node.get_output_element_type(0):
        writer.call(node, writer.input(node, 0))
    elif kind in SAME:
        inputs = [writer.input(node, i) for i in range(READS.get(kind, node.get_input_size()))]
        writer.call(node, writer.add(SAME[kind], inputs, writer.output(node), **attributes(node)))
    elif kind in TRANSLATIONS:
        writer.call(node, TRANSLATIONS[kind](writer, node, writer.output(node)))
    else:
        raise ExportError(f"The operation {kind} has no translation to ONNX. Export to openvino instead.")


def _value_info(port: ov.Output, axes: tuple[str, ...]) -> Any:
    from onnx import TensorProto, helper

    kind = {"u8": TensorProto.UINT8, "f32": TensorProto.FLOAT}[port.get_element_type().get_type_name()]
    shape = [
        name if size.is_dynamic else size.get_length() for name, size in zip(axes, port.partial_shape, strict=True)
    ]
    return helper.make_tensor_value_info(port.get_any_name(), kind, shape)
