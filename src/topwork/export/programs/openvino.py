"""What is on these pictures? pip install openvino pillow; python use.py PICTURE…"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps

model = openvino.Core().read_model(Path(__file__).with_name("model.xml"))
class_names = json.loads(model.get_rt_info(["topwork", "class_names"]).astype(str))
size = int(model.get_rt_info(["topwork", "size"]).astype(str))
# without the hint, a processor that has bf16 computes in it, which is less exact
network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def read(path):
    picture = Image.open(path)
    picture.draft(picture.mode, (2 * size, 2 * size))  # a JPEG much larger than needed: decode a part of its pixels
    picture = ImageOps.exif_transpose(picture)  # upright
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def predict(path):
    return network({"image": read(path)[None]})["probabilities"][0]


if __name__ == "__main__":
    for path in sys.argv[1:]:
        probabilities = predict(path)
        print(f"{path}  {class_names[probabilities.argmax()]}  {100 * probabilities.max():.1f} %")
