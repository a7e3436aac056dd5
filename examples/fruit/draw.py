"""Draws the photographs of fruit beside it: 30 of each kind for training and 12 to test, and three faults on purpose.

    python examples/fruit/draw.py

The faults, which `topwork train` finds: a placeholder among the bananas (`train/banana/31.jpg`), a pear that is
labelled an apple (`train/apple/31.jpg`), and a picture that is there twice (`train/pear/31.jpg`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HERE = Path(__file__).parent
SIDE, LARGE = 96, 384
"""Pixels of a file, and of the drawing that it is made smaller from."""
KINDS = ("apple", "banana", "pear")


def draw(kind: str, random: np.random.Generator) -> Image.Image:
    """A fruit on a table, in another light, place and size each time."""
    wall, table = (random.integers(120, 220, 3) for _ in range(2))
    image = Image.new("RGB", (LARGE, LARGE), tuple(map(int, wall)))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, int(random.integers(200, 300)), LARGE, LARGE), fill=tuple(map(int, table)))
    size = float(random.uniform(0.7, 1.1))
    x, y = (float(LARGE / 2 + random.uniform(-50, 50)) for _ in range(2))
    pen.ellipse((x - 120 * size, y + 70 * size, x + 140 * size, y + 125 * size), fill=tuple(map(int, table * 0.6)))
    fruit = Image.new("RGBA", (LARGE, LARGE))
    {"apple": apple, "banana": banana, "pear": pear}[kind](ImageDraw.Draw(fruit), x, y, size, random)
    fruit = fruit.rotate(float(random.uniform(-25, 25)), Image.Resampling.BICUBIC, center=(x, y))
    image.paste(fruit, mask=fruit)
    light = np.linspace(random.uniform(0.75, 1.0), random.uniform(0.9, 1.2), LARGE)[None, :, None]
    grain = random.normal(0, 9, (LARGE, LARGE, 1))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(2)), float) * light + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def apple(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, random: np.random.Generator) -> None:
    """Two lobes, red or green, a stalk and a leaf."""
    red = random.random() < 0.7
    colour = np.array([190, 30, 40] if red else [130, 180, 50]) + random.integers(-20, 20, 3)
    for side in (-1, 1):
        _ball(pen, x + 28 * side * size, y, 82 * size, 92 * size, colour)
    pen.line((x, y - 80 * size, x + 12 * size, y - 125 * size), fill=(90, 60, 30), width=int(9 * size))
    pen.ellipse((x + 12 * size, y - 128 * size, x + 62 * size, y - 102 * size), fill=(70, 130, 50))


def pear(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, random: np.random.Generator) -> None:
    """A narrow neck on a round belly, yellow-green, a stalk."""
    colour = np.array([185, 190, 70]) + random.integers(-20, 20, 3)
    _ball(pen, x, y - 55 * size, 52 * size, 85 * size, colour)
    _ball(pen, x, y + 35 * size, 92 * size, 82 * size, colour)
    pen.line((x, y - 130 * size, x + 14 * size, y - 170 * size), fill=(90, 60, 30), width=int(9 * size))


def banana(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, random: np.random.Generator) -> None:
    """A thick bow, yellow, with dark ends."""
    colour = np.array([235, 200, 40]) + random.integers(-15, 15, 3)
    box = (x - 130 * size, y - 190 * size, x + 130 * size, y + 90 * size)
    for part, width in ((0.75, 62), (0.9, 48), (1.0, 30)):
        pen.arc(box, 25, 155, fill=(*map(int, colour * part), 255), width=int(width * size))
    for degrees in (25, 155):
        angle = np.radians(degrees)
        end_x, end_y = x + 115 * size * np.cos(angle), y - 50 * size + 122 * size * np.sin(angle)
        pen.ellipse((end_x - 14, end_y - 14, end_x + 14, end_y + 14), fill=(80, 60, 20))


def _ball(pen: ImageDraw.ImageDraw, x: float, y: float, wide: float, high: float, colour: np.ndarray) -> None:
    """An ellipse, lighter towards the upper left."""
    for i in range(12):
        part, shift = 1 - i / 14, i * 1.6
        shade = tuple(map(int, np.clip(colour * (0.7 + 0.045 * i), 0, 255)))
        pen.ellipse(
            (x - wide * part - shift, y - high * part - shift, x + wide * part - shift, y + high * part - shift),
            fill=(*shade, 255),
        )


def placeholder() -> Image.Image:
    """What a shop's page shows where an image is missing."""
    image = Image.new("RGB", (SIDE, SIDE), (238, 238, 238))
    pen = ImageDraw.Draw(image)
    pen.rectangle((14, 22, 82, 66), outline=(150, 150, 150), width=2)
    pen.line((14, 66, 40, 40, 56, 58, 66, 48, 82, 66), fill=(150, 150, 150), width=2)
    pen.text((20, 74), "no image yet", fill=(110, 110, 110), font_size=10)
    return image


def main() -> None:
    random = np.random.default_rng(7)
    for side, n in (("train", 30), ("val", 12)):
        for kind in KINDS:
            (HERE / side / kind).mkdir(parents=True, exist_ok=True)
            for i in range(1, n + 1):
                draw(kind, random).save(HERE / side / kind / f"{i:02d}.jpg", quality=88)
    placeholder().save(HERE / "train" / "banana" / "31.jpg", quality=88)
    draw("pear", random).save(HERE / "train" / "apple" / "31.jpg", quality=88)
    (HERE / "train" / "pear" / "31.jpg").write_bytes((HERE / "train" / "pear" / "05.jpg").read_bytes())


if __name__ == "__main__":
    main()
