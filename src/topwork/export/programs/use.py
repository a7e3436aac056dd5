"""What is on these pictures? pip install INSTALL pillow; python use.py [--unknown] PICTURE…"""

import argparse
import sys

import numpy as np
from PIL import Image, ImageOps

try:
    import pi_heif  # pip install pi-heif, for HEIC

    pi_heif.register_heif_opener()
except ImportError:
    pass

from model import facts, run

class_names, threshold = facts["class_names"], facts["novelty_threshold"]
recipe, batch, size = facts["recipe"], facts["fixed_batch"], facts["fixed_size"]
low, high = facts["value_range"]  # of pictures with more than 8 bits, what becomes black and white


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
    picture.draft(picture.mode, (facts["decoded_at_least"],) * 2)  # of a large JPEG decode a part of the pixels
    picture = ImageOps.exif_transpose(picture)  # upright
    if picture.mode[0] in "IF":  # grey, with 16 or 32 bits
        values, transparent = np.asarray(picture).astype(float), picture.info.get("transparency")
        grey = np.clip((values - low) * (255.999 / (high - low)), 0, 255).astype(np.uint8)
        picture = Image.fromarray(np.where(values == transparent, np.uint8(255), grey))
    elif is_deep:
        picture = shades(picture, lower_bytes(path))
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("RGB")


def framed(picture):
    """The square that a file of fixed size takes. One that takes any size does this itself."""
    if recipe["frame"] == "squash":
        return resized(picture, size, size)
    if recipe["frame"] == "pad":
        longest = max(picture.size)
        width, height = (max(1, (2 * side * size + longest) // (2 * longest)) for side in picture.size)
        square = Image.new("RGB", (size, size), tuple(recipe["pad_colour"]))
        square.paste(resized(picture, width, height), ((size - width) // 2, (size - height) // 2))
        return square
    side = max(1, (min(picture.size) * recipe["crop_thousandths"] + 500) // 1000)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return resized(picture.crop((left, top, left + side, top + side)), size, size)


def resized(picture, width, height):
    how = Image.Resampling[recipe["filter"].upper()]
    if picture.width != picture.height:  # first along, then across, in all versions of Pillow
        picture = picture.resize((width, picture.height), how)
    return picture.resize((width, height), how)


def predict(path):
    """The probabilities of the classes, and how unlike the training images it is (None: that can't be told)."""
    picture = read(path)
    pixels = np.asarray(framed(picture) if size else picture)
    answers = run(np.stack([pixels] * (batch or 1)))
    return answers["probabilities"][0], answers["novelty"][0] if threshold is not None else None


def main():
    parser = argparse.ArgumentParser(description="What is on these pictures?")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--unknown", action="store_true", help="answer unknown for those unlike the training images")
    given = parser.parse_intermixed_args()
    if given.unknown and threshold is None:
        parser.error("this file can't tell pictures unlike the training images")
    if given.unknown and "unknown" in class_names:
        parser.error("a class is called unknown: with --unknown, one answer would mean two things")
    sys.stdout.reconfigure(errors="backslashreplace")  # names may hold anything
    unread = 0
    for path in given.pictures:
        try:
            probabilities, novelty = predict(path)
        except Exception as error:  # Pillow's decoders raise all kinds; the other pictures are answered all the same
            unread += 1
            print(f"{path}  can't be read: {error}")
            continue
        is_unlike = novelty is not None and novelty > threshold
        if given.unknown and is_unlike:
            print(f"{path}  unknown")
            continue
        remark = "   (unlike the training images)" if is_unlike else ""
        print(f"{path}  {class_names[probabilities.argmax()]}  {100 * probabilities.max():.1f} %{remark}")
    if unread:
        sys.exit(f"{unread} of {len(given.pictures)} pictures can't be read; they are named among the answers.")


if __name__ == "__main__":
    main()
