"""Building the network in a child process on Keras's OpenVINO backend: weights in, tensors and a graph out.

Building takes about a second there, where JAX takes 2 to 27, and the parent keeps its own Keras backend, or none.
Run as a module, this file is the child.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from topwork.backbones.efficientnet_lite import assign_state
from topwork.backbones.layer_facts import describe_layers
from topwork.backbones.network import NetworkSpec
from topwork.backbones.state_dict import read_state_dict
from topwork.errors import WeightsError
from topwork.files import write_json, write_tensors
from topwork.keras_child import draw_weights_in_numpy, run_child, serve_child
from topwork.openvino_door import import_openvino, silence_telemetry, write_errors


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes:
        spec: which network.
        weights: a `.h5`, `.weights.h5`, `.safetensors` or (of EfficientNet-Lite) `.pth` file, or '' for random ones
            from `seed`.
        seed: of the random weights.
        tensors_out: where the weights go as safetensors; '' for nowhere.
        graph_out: where the OpenVINO graph goes, ending in `.xml`; '' for nowhere.
        layers_out: where the list of its layers goes, as `describe_layers` makes it; '' for nowhere.
    """

    spec: NetworkSpec
    weights: str
    seed: int = 0
    tensors_out: str = ""
    graph_out: str = ""
    layers_out: str = ""


def convert(job: Job) -> None:
    """Run `job` in a child process, and wait for it.

    Raises:
        WeightsError: the weights do not fit the network, or the child failed.
        StorageError: what it makes can't be written.
    """
    title = f"Building {job.spec.builder}"
    run_child("topwork.backbones.conversion", asdict(job), backend="openvino", title=title)


def _child(job: Job) -> None:
    silence_telemetry()
    import keras

    from topwork.backbones.network import assign_tensors, build_base, build_network, tensors_of

    draw_weights_in_numpy(job.seed)
    keras.config.set_image_data_format("channels_first" if job.spec.channels_first else "channels_last")
    base = _load_keras_weights(job) if job.weights.endswith(".h5") else build_base(job.spec)
    if job.weights.endswith(".pth"):
        assign_state(base, read_state_dict(Path(job.weights)))
    elif job.weights.endswith(".safetensors"):
        assign_tensors(base, Path(job.weights))
    if job.layers_out:
        write_json(Path(job.layers_out), {"layers": describe_layers(base)})
    if job.tensors_out:
        write_tensors(Path(job.tensors_out), tensors_of(base))
    if job.graph_out:
        import numpy as np

        network = build_network(job.spec, base)
        network(np.zeros((1, job.spec.size, job.spec.size, 3), np.uint8))  # export wants a model called once
        with write_errors(), tempfile.TemporaryDirectory(dir=Path(job.graph_out).parent) as folder:
            network.export(f"{folder}/closed.xml", format="openvino", verbose=False)
            _open_batch(f"{folder}/closed.xml", job.graph_out)


def _open_batch(closed: str, opened: str) -> None:
    """Copy a graph with its batch axis open throughout: Keras bakes a batch of 1 into the EfficientNets' reshapes."""
    import numpy as np

    ov = import_openvino()
    model = ov.Core().read_model(closed)
    for node in model.get_ops():
        if node.get_type_name() != "Reshape" or not node.input_value(0).partial_shape[0].is_dynamic:
            continue
        shape = node.input_value(1).get_node()
        if shape.get_type_name() == "Constant" and shape.data[0] == 1 and -1 not in shape.data:
            node.input(1).replace_source_output(ov.opset13.constant(np.array([-1, *shape.data[1:]])).output(0))
    model.validate_nodes_and_infer_types()
    ov.save_model(model, opened, compress_to_fp16=False)


def _load_keras_weights(job: Job) -> object:
    """The network with the weights of a Keras file; whatever is wrong with the file is said in one line."""
    from topwork.backbones.network import build_base

    try:
        return build_base(job.spec, job.weights)
    except Exception as error:  # HDF5, h5py and Keras raise nearly anything on a damaged file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WeightsError(
            f"{job.weights!r} can't be used as weights of {job.spec.builder} without its classification layers "
            f"(include_top=False). Is the file whole, and of this network? Keras says: {reason}"
        ) from error


if __name__ == "__main__":
    serve_child(lambda facts: _child(Job(**{**facts, "spec": NetworkSpec(**facts["spec"])})))
