"""How an OpenVINO file is run: a part of `use.py`."""

import json
from pathlib import Path

import openvino

model = openvino.Core().read_model(Path(__file__).with_name("model.xml"))
facts = {name: json.loads(text) for name, text in model.get_rt_info("topwork").value.items()}
# without the hint, a processor that has bf16 computes in it, which is less exact
network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def run(images):
    """What the file gives for `(batch, height, width, 3)` uint8, by name."""
    return {output.any_name: values for output, values in network({"image": images}).items()}
