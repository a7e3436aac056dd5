"""How a LiteRT file is run: a part of `use.py`."""

import json
import zipfile
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

file = Path(__file__).with_name("model.tflite")
signature = Interpreter(str(file)).get_signature_runner()
facts = json.loads(zipfile.ZipFile(file).read("topwork.json"))


def run(images):
    """What the file gives for `(batch, height, width, 3)` uint8, by name."""
    return signature(image=images)
