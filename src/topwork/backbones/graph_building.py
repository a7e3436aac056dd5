"""From a file with a network (ONNX, or OpenVINO's own) to the graph of a backbone, in a child process.

A stranger's graph is data, but reading and running it may take any time and memory, or end the process: so the first
time happens in a child with limits. Run as a module, this file is the child.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.errors import WeightsError
from topwork.files import printable, write_json
from topwork.keras_child import run_child, serve_child
from topwork.openvino_door import import_openvino, write_errors

if TYPE_CHECKING:
    import openvino as ov

_REFUSED = {"Loop", "If", "TensorIterator", "RandomUniform", "Multinomial"}
"""Operations that make time or answers depend on more than the image; ONNX's Scan becomes a TensorIterator."""
_MOST_SECONDS, _MOST_MEMORY, _MEMORY_OF_FILE = 600, 6 << 30, 8
"""Of the child: of processor time; of memory beside so many times the file's size."""
_EQUAL = 1e-3
"""How far an image's features may differ alone and in a batch, relative to the largest: orders of sums differ."""
_PLACES = ("Reshape", "Squeeze", "Unsqueeze", "Convert")
"""What may stand between a mean over places and the features."""


@dataclass(frozen=True)
class GraphJob:
    """One file to look into, or to build a backbone's graph of.

    Attributes:
        path: the file, .onnx or .xml.
        size: the side of its input, in pixels; 0 leaves the file's own.
        output: the name of an output, or of a tensor inside; empty to look into it only.
        pooling: how that becomes D numbers.
        scale, offset: of each channel, in the network's order.
        is_bgr: whether that is blue, green, red.
        out: the folder for what is made: `facts.json`, or `graph.xml`.
    """

    path: str
    size: int
    out: str
    output: str = ""
    pooling: str = ""
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    is_bgr: bool = False


def run_graph_job(job: GraphJob) -> None:
    """Do `job` in a child process, and wait for it.

    Raises:
        WeightsError: the file is damaged, or holds no network that can be a backbone.
        StorageError: what it makes can't be written.
    """
    title = f"Reading {printable(Path(job.path).name)!r}"
    run_child("topwork.backbones.graph_building", asdict(job), backend="openvino", title=title)


def _child(job: GraphJob) -> None:
    memory = _MOST_MEMORY + _MEMORY_OF_FILE * sum(file.stat().st_size for file in _files(Path(job.path)))
    _limit(memory)
    shown = repr(printable(Path(job.path).name))
    own = 0
    try:
        model, image, own = _read(job, shown)
        if job.output:
            _write_graph(_backbone(job, model, image, shown), job, shown)
        else:
            write_json(Path(job.out) / "facts.json", _facts(model, image))
    except MemoryError as error:
        raise WeightsError(f"{shown} needs more than {memory / 1e9:.0f} GB of memory to be read.") from error
    except RuntimeError as error:  # all that OpenVINO raises
        at = f" at {job.size} pixels; its own size is {own}" if own and job.size not in (0, own) else ""
        raise WeightsError(f"{shown} can't be used{at}: {_last_line(error)}") from error


def _limit(memory: int) -> None:
    """Set this process's limits, where the system has such."""
    if sys.platform == "win32":
        return
    import resource

    for kind, limit in ((resource.RLIMIT_CPU, _MOST_SECONDS), (resource.RLIMIT_AS, memory)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _files(path: Path) -> list[Path]:
    return [file for file in path.parent.iterdir() if file.is_file() and file.name.startswith(path.stem)]


def _read(job: GraphJob, shown: str) -> tuple[ov.Model, ov.Node, int]:
    """The network with its batch open and its input of the size asked for; its image input; its own size, 0 for any."""
    ov = import_openvino()
    model = ov.Core().read_model(job.path)
    found = sorted({node.get_type_name() for node in model.get_ops()} & _REFUSED)
    if found:
        raise WeightsError(
            f"{shown} holds the operation {found[0]}, by which time or answers depend on more than the image. "
            "Export the network without it."
        )
    images = [node for node in model.get_parameters() if _is_image(node)]
    others = [node for node in model.get_parameters() if not _is_image(node)]
    if len(images) != 1 or others:
        listed = "; ".join(f"{_name(node.output(0))} {node.get_partial_shape()}" for node in model.get_parameters())
        raise WeightsError(
            f"{shown} needs {listed}. Expected one input, images of three channels as floats. Of networks for images "
            "and text take the file of the part for images, often vision_model.onnx."
        )
    image = images[0]
    shape = [-1, *(int(d.get_length()) if d.is_static else -1 for d in list(image.get_partial_shape())[1:])]
    sides, channels = ((1, 2), 3) if _is_channels_last(image) else ((2, 3), 1)
    shape[channels] = 3
    own = max(0, shape[sides[0]])
    for side in sides:
        shape[side] = job.size or shape[side]
    try:
        model.reshape({image.output(0): ov.PartialShape(shape)})
        model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        size = f"images of {job.size} pixels" if job.size else "several images at once"
        raise WeightsError(f"{shown} does not take {size}: {_last_line(error)}") from error
    return model, image, own


def _is_image(node: ov.Node) -> bool:
    shape = node.get_partial_shape()
    is_float = node.get_element_type().get_type_name() in ("f32", "f16", "bf16", "f64")
    return bool(is_float and shape.rank.is_static and len(shape) == 4 and (_has(shape[1], 3) or _has(shape[3], 3)))


def _has(dimension: ov.Dimension, n: int) -> bool:
    return bool(dimension.is_dynamic or dimension.get_length() == n)


def _is_channels_last(node: ov.Node) -> bool:
    shape = node.get_partial_shape()
    return bool(shape[3].is_static and _has(shape[3], 3) and not (shape[1].is_static and _has(shape[1], 3)))


def _facts(model: ov.Model, image: ov.Node) -> dict[str, Any]:
    """What can be known of the network without running it; -1 stands for what is open."""
    side = image.get_partial_shape()[1 if _is_channels_last(image) else 2]
    outputs = [_described(port) for port in model.outputs]
    inside = [
        _described(node.output(0))
        for node in model.get_ordered_ops()
        if node.get_type_name() in ("ReduceMean", "MatMul", "AvgPool", "MVN", "Convolution") and node.get_output_size()
    ]
    return {
        "input": _name(image.output(0)),
        "channels_last": _is_channels_last(image),
        "side": int(side.get_length()) if side.is_static else -1,
        "patch": _patch(model),
        "outputs": outputs,
        "inside": [facts for facts in inside[-6:] if facts["name"] not in {output["name"] for output in outputs}],
    }


def _described(port: ov.Output) -> dict[str, Any]:
    shape = port.get_partial_shape()
    dimensions = [int(d.get_length()) if d.is_static else -1 for d in shape] if shape.rank.is_static else None
    node = port.get_node()
    if node.get_type_name() == "Result":
        node = node.input_value(0).get_node()
    return {"name": _name(port), "shape": dimensions, "is_softmax": node.get_type_name() in ("Softmax", "LogSoftmax")}


def _name(port: ov.Output) -> str:
    names = sorted(port.get_names())
    return names[0] if names else str(port.get_node().get_friendly_name())


def _patch(model: ov.Model) -> int:
    """The side of the patches that a transformer cuts its image into; 1 for other networks.

    Its first convolution has steps as long as its kernel, and all of ten pixels or more.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convolution":
            kernel = node.input_value(1).get_partial_shape()
            strides = node.get_attributes()["strides"]
            if kernel.is_static and list(kernel.to_shape())[2:] == list(strides) and strides[0] >= 10:
                return int(strides[0])
            return 1
    return 1


def _backbone(job: GraphJob, model: ov.Model, image: ov.Node, shown: str) -> ov.Model:
    """`(B, size, size, 3)` uint8 -> `(B, D)` float32."""
    ov = import_openvino()
    ops = ov.opset13
    features = _pooled(job, _port(model, job.output, shown), _is_channels_last(image), _patch(model), shown)
    pixels = ops.parameter(ov.PartialShape([-1, job.size, job.size, 3]), np.uint8, name="pixels")
    x = ops.convert(pixels, "f32")
    x = ops.gather(x, np.array([2, 1, 0]), np.int64(3)) if job.is_bgr else x
    x = ops.add(ops.multiply(x, np.array(job.scale, np.float32)), np.array(job.offset, np.float32))
    if not _is_channels_last(image):
        x = ops.transpose(x, np.array([0, 3, 1, 2]))
    x = ops.convert(x, image.get_element_type().get_type_name())
    for reader in image.output(0).get_target_inputs():
        reader.replace_source_output(x.output(0))
    made = ov.Model([features], [pixels], "backbone")
    made.validate_nodes_and_infer_types()
    shape = made.output(0).get_partial_shape()
    if len(shape) != 2 or shape[1].is_dynamic or shape[0].is_static:
        raise WeightsError(f"{shown}: {job.output!r} gives {shape}, where features of each image are (B, D).")
    return made


def _port(model: ov.Model, name: str, shown: str) -> ov.Output:
    """The output, or the tensor inside, that is called `name`."""
    for node in model.get_ordered_ops():
        for port in node.outputs():
            if name in port.get_names() or node.get_friendly_name() == name:
                return node.input_value(0) if node.get_type_name() == "Result" else port
    raise WeightsError(f"{shown} has no output {name!r}, and nothing inside is called so.")


def _pooled(job: GraphJob, port: ov.Output, channels_last: bool, patch: int, shown: str) -> ov.Node:
    """`(B, D)` float32 of an output of two, three or four axes."""
    ops = import_openvino().opset13
    shape, given = port.get_partial_shape(), f"{shown}: {job.output!r} is {port.get_partial_shape()}"
    if shape.rank.is_dynamic or len(shape) not in (2, 3, 4):
        raise WeightsError(f"{given}; features come from outputs of two, three or four axes.")
    x = ops.convert(port, "f32")
    if len(shape) == 2:
        behind = _map_behind(port) if job.pooling == "flatten" else None
        if behind is None:
            return x
        port, channels_last = behind
        shape, x = port.get_partial_shape(), ops.convert(port, "f32")
    if len(shape) == 3:
        if shape[1].is_dynamic:
            raise WeightsError(f"{given}, whose number of tokens is open.")
        if job.pooling == "token":
            return ops.gather(x, np.int64(0), np.int64(1))
        before = shape[1].get_length() - (job.size // patch) ** 2 if patch > 1 else 0
        if before < 0:
            raise WeightsError(f"{given}: fewer tokens than its patches of {patch} pixels are. Take its class token.")
        end = np.array([shape[1].get_length()])
        x = ops.slice(x, np.array([before]), end, np.array([1]), np.array([1]))
        x = ops.transpose(x, np.array([0, 2, 1]))  # (B, D, places)
    else:
        x = ops.transpose(x, np.array([0, 3, 1, 2])) if channels_last else x
        x = ops.reshape(x, np.array([0, 0, -1]), True)
    if job.pooling == "flatten":
        return ops.reshape(ops.transpose(x, np.array([0, 2, 1])), np.array([0, -1]), True)
    return ops.reduce_max(x, np.array([2])) if job.pooling == "max" else ops.reduce_mean(x, np.array([2]))


def _map_behind(port: ov.Output) -> tuple[ov.Output, bool] | None:
    """The map of which `(B, D)` features are the mean, and whether its channels are last; None where there is none."""
    node = port.get_node()
    while node.get_type_name() in _PLACES:
        node = node.input_value(0).get_node()
    if node.get_type_name() != "ReduceMean" or node.input_value(1).get_node().get_type_name() != "Constant":
        return None
    map_ = node.input_value(0)
    axes = sorted(int(axis) % 4 for axis in np.atleast_1d(node.input_value(1).get_node().data))
    is_map = len(map_.get_partial_shape()) == 4 and axes in ([2, 3], [1, 2])
    return (map_, axes == [1, 2]) if is_map else None


def _write_graph(made: ov.Model, job: GraphJob, shown: str) -> None:
    """Write the graph, after it has given the same finite numbers twice, alone and in a batch."""
    ov = import_openvino()
    compiled = ov.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = np.random.default_rng(0).integers(0, 256, (3, job.size, job.size, 3), np.uint8)
    first, second = (np.array(compiled(images)[0]) for _ in range(2))
    alone = np.concatenate([np.array(compiled(image[None])[0]) for image in images])
    if not np.isfinite(first).all():
        raise WeightsError(f"{shown} gives numbers that are not finite.")
    largest = np.abs(first).max()
    for what, found in (("the second time", second), ("alone and in a batch", alone)):
        if first.shape != found.shape or np.abs(first - found).max() > _EQUAL * largest:
            raise WeightsError(f"{shown} gives other numbers {what} for the same image: it can't be a frozen backbone.")
    with write_errors():
        ov.save_model(made, f"{job.out}/graph.xml", compress_to_fp16=False)


def _last_line(error: Exception) -> str:
    """What OpenVINO says, without the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = [line for line in lines if not line.startswith(("Exception from", "Check '"))] or lines or ["no message"]
    return printable(words[-1][:300])


if __name__ == "__main__":
    serve_child(lambda facts: _child(GraphJob(**facts)))
