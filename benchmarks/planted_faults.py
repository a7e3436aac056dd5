"""Does the check find faults that were put into real images, and how many that it names are faults?

    python benchmarks/planted_faults.py --images cifar10-jpeg.parquet [--backbone NAME --weights FILE --size PIXELS]

Takes 20,000 CIFAR-10 images, turns 2 % of the labels at random, adds copies of 1 % (re-encoded, shrunk to 24 pixels,
mirrored, enlarged to 48 and mirrored), and prints precision and recall at the default thresholds. CIFAR-10 has wrong
labels and near copies of its own, which count against the precision here. About a minute on 2 cores. Expected with the
starter: labels 80 % precision and 55 % recall or better; copies 95 % recall or better.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

import topwork as tw
from common import images_and_backbone

N, TURNED, COPIED = 20_000, 0.02, 0.01
KINDS = ("re-encoded", "shrunk to 24 px", "mirrored", "enlarged to 48 px, mirrored")


def altered(content: bytes, kind: int) -> bytes:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if kind in (2, 3):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = {1: 24, 3: 48}.get(kind, 32)
    file = io.BytesIO()
    image.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=75)
    return file.getvalue()


def main() -> None:
    whole, backbone = images_and_backbone(__doc__)
    random = np.random.default_rng(0)
    part = whole.select(np.sort(random.choice(len(whole), N, replace=False)))
    images, labels = list(part.source.payloads(part.rows)), part.labels.copy()

    turned = random.choice(N, round(TURNED * N), replace=False)
    labels[turned] = (labels[turned] + random.integers(1, 10, len(turned))) % 10
    copied = random.choice(np.setdiff1d(np.arange(N), turned), round(COPIED * N), replace=False)
    images += [altered(images[i], place % 4) for place, i in enumerate(copied)]
    labels = np.concatenate([labels, labels[copied]])

    dataset = tw.ImageDataset.from_arrays(images, labels, class_names=whole.class_names)
    found = tw.check_dataset(dataset, backbone)

    named = set(found.label_issues.indices.tolist())
    hits = len(named & set(turned.tolist()))
    print(f"labels: {len(named)} named, precision {hits / len(named):.1%}, recall {hits / len(turned):.1%}")
    pairs = {tuple(pair) for pair in found.copies.pairs.tolist()}
    there = np.array([(int(i), N + place) in pairs for place, i in enumerate(copied)])
    for kind, name in enumerate(KINDS):
        print(f"copies {name}: recall {there[kind::4].mean():.1%} of {len(there[kind::4])}")
    others = len(pairs) - int(there.sum())
    print(f"copies: recall {there.mean():.1%}; {others} other pairs named, CIFAR-10's own near copies among them")


if __name__ == "__main__":
    main()
