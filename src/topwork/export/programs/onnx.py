"""How an ONNX file is run: a part of `use.py`."""

import json
from pathlib import Path

import onnxruntime

session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}


def run(images):
    """What the file gives for `(batch, height, width, 3)` uint8, by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))
