"""What does the network see? Tiny ImageNet as arrays, degraded copies of it, and augmented batches."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 64
COPIES = 2
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def degrade(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shrink, pass through a JPEG with subsampled colour, enlarge again, as happens to images under way."""
    side = 32 if random.random() < 0.5 else int(random.integers(24, SIDE + 1))
    small = Image.fromarray(image).resize((side, side), FILTERS[random.integers(len(FILTERS))])
    held = io.BytesIO()
    small.save(held, "JPEG", quality=int(random.integers(40, 96)), subsampling=2)
    return np.asarray(Image.open(held).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def decode(cell: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell)).convert("RGB"))


def save_rows(path: Path, rows: np.ndarray) -> None:
    """Write an array whole or not at all."""
    aside = path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.save(file, rows)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def prepare(parquet: str, cache: Path) -> None:
    """Decode once, and degrade the training images `COPIES` times; files that are there are kept."""
    cache.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(parquet, columns=["image", "label", "split"])
    for split in ("train", "val"):
        if not (cache / f"{split}_y.npy").exists():
            rows = table.filter(np.asarray(table["split"]) == split)
            save_rows(cache / f"{split}_x.npy", np.stack([decode(cell.as_py()) for cell in rows["image"]]))
            save_rows(cache / f"{split}_y.npy", np.asarray(rows["label"]).astype(np.int64))
    for copy in range(COPIES):
        if not (path := cache / f"train_degraded{copy}.npy").exists():
            random = np.random.default_rng(copy)
            images = np.load(cache / "train_x.npy", mmap_mode="r")
            save_rows(path, np.stack([degrade(image, random) for image in images]))


def to_input(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 `(B, H, W, 3)` to `(B, 3, H, W)` in -1..1, the network's preprocessing."""
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return x.float().div_(127.5).sub_(1)


class TrainingImages:
    """Batches of cropped, mirrored, recoloured images, most of them degraded."""

    def __init__(self, cache: Path, *, clean_share: float = 0.4) -> None:
        self.clean_share = clean_share
        self.clean = np.load(cache / "train_x.npy", mmap_mode="r")
        self.degraded = [np.load(cache / f"train_degraded{copy}.npy", mmap_mode="r") for copy in range(COPIES)]

    def batch(self, rows: np.ndarray, side: int, random: np.random.Generator, device: torch.device) -> Tensor:
        """`(B, 3, side, side)` in about -1..1."""
        images = self.clean[rows]
        source = np.where(random.random(len(rows)) < self.clean_share, -1, random.integers(0, COPIES, len(rows)))
        for copy, degraded in enumerate(self.degraded):
            images[source == copy] = degraded[rows[source == copy]]
        return recolour(crop(to_input(images, device), side, random), random)


def crop(x: Tensor, side: int, random: np.random.Generator) -> Tensor:
    """Random resized crop (35 to 100 % of the area, aspect 3:4 to 4:3) and mirror, in one bilinear sampling."""
    n = len(x)
    size = np.sqrt(random.uniform(0.35, 1, n))
    aspect = np.exp(random.uniform(-0.5, 0.5, n) * np.log(4 / 3))
    width, height = np.minimum(size * aspect, 1), np.minimum(size / aspect, 1)
    theta = np.zeros((n, 2, 3), np.float32)
    theta[:, 0, 0] = width * random.choice((-1, 1), n)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * random.uniform(-1, 1, n)
    theta[:, 1, 2] = (1 - height) * random.uniform(-1, 1, n)
    grid = F.affine_grid(torch.from_numpy(theta).to(x.device), [n, 3, side, side], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def recolour(x: Tensor, random: np.random.Generator, strength: float = 0.25) -> Tensor:
    """Saturation, contrast and brightness, each by up to `strength`."""

    def factor() -> Tensor:
        values = random.uniform(-strength, strength, (len(x), 1, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(x.device)

    grey = x.mean(1, keepdim=True)
    x = x + (x - grey) * factor()
    x = x + (x - grey.mean((2, 3), keepdim=True)) * factor()
    return x + factor()
