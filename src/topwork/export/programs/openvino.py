"""What is on these pictures? pip install openvino pillow; python use.py PICTURE…"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps

try:
    import pi_heif  # pip install pi-heif, for HEIC

    pi_heif.register_heif_opener()
except ImportError:
    pass

model = openvino.Core().read_model(Path(__file__).with_name("model.xml"))
class_names = json.loads(model.get_rt_info(["topwork", "class_names"]).astype(str))
size = int(model.get_rt_info(["topwork", "size"]).astype(str))
# of pictures with more than 8 bits, what becomes black and white
low, high = json.loads(model.get_rt_info(["topwork", "value_range"]).astype(str))
# without the hint, a processor that has bf16 computes in it, which is less exact
network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def lower_bytes(path):  # of colour with 16 bits Pillow keeps the upper byte; told the other order, the lower
    picture = Image.open(path)
    for i, tile in enumerate(picture.tile):
        rawmode, *others = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        rawmode = rawmode[:-1] + ("L" if rawmode[-1] == "B" else "B")
        picture.tile[i] = tile._replace(args=(rawmode, *others) if others else rawmode)
    return ImageOps.exif_transpose(picture)


def shades(upper, lower):
    values = 256.0 * np.asarray(upper) + np.asarray(lower)
    levels = np.clip((values - low) * (255.999 / (high - low)), 0, 255).astype(np.uint8)
    transparent = upper.info.get("transparency")
    if transparent is not None:
        levels[np.all(values == transparent, axis=-1)] = 255
    return Image.fromarray(np.dstack([levels[..., :3], np.asarray(upper)[..., 3:]]))


def read(path):
    picture = Image.open(path)
    is_deep = picture.mode[:3] == "RGB" and ";16" in str(picture.tile)  # colour with 16 bits a channel
    picture.draft(picture.mode, (2 * size, 2 * size))  # a JPEG much larger than needed: decode a part of its pixels
    picture = ImageOps.exif_transpose(picture)  # upright
    if picture.mode[0] in "IF":  # grey, with 16 or 32 bits
        values, transparent = np.asarray(picture).astype(float), picture.info.get("transparency")
        grey = np.clip((values - low) * (255.999 / (high - low)), 0, 255).astype(np.uint8)
        picture = Image.fromarray(np.where(values == transparent, np.uint8(255), grey))
    elif is_deep:
        picture = shades(picture, lower_bytes(path))
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def predict(path):
    return network({"image": read(path)[None]})["probabilities"][0]


if __name__ == "__main__":
    unread = 0
    for path in sys.argv[1:]:
        try:
            probabilities = predict(path)
        except Exception as error:  # Pillow's decoders raise all kinds; the other pictures are answered all the same
            unread += 1
            print(f"{path}  can't be read: {error}")
            continue
        print(f"{path}  {class_names[probabilities.argmax()]}  {100 * probabilities.max():.1f} %")
    if unread:
        sys.exit(f"{unread} of {len(sys.argv) - 1} pictures can't be read; they are named among the answers.")
