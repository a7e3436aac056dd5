"""Pretrain the starter backbone on Tiny ImageNet, learning from labels and from a teacher's view of the same images.

    python pretrain.py --data tiny-imagenet-webp.parquet --out DIR --minutes 90

Run `teacher.py` between two starts (this script says when), or leave the teacher out with --no-teacher.
Stop it at any time; the same command goes on from the last checkpoint.
"""

import argparse
import json
import math
import os
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from images import TrainingImages, prepare, to_input
from muon import Muon
from network import FEATURE_WIDTH, Starter, save_folded
from torch import Tensor, nn

BATCH = 256
SIDES = ((0.25, 32), (0.8, 48), (math.inf, 64))  # until this share of the schedule, train at this side
KERNEL_STEP, OTHER_STEP = 0.02, 2e-3
WARM_UP = 0.03
TEMPERATURE = 2.0
AVERAGE_OVER = 0.04  # share of the steps so far that the moving average of the weights looks back
CHECKPOINT_SECONDS = 120
REPORT_STEPS = 50
CLASSES, TEACHER_CLASSES, TEACHER_FEATURES = 200, 1000, 1280


Taught = tuple[Tensor, Tensor, Tensor]  # logits, standardised features, 1 where they are known


class Tops(nn.Module):
    """What pretraining asks of the features; thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = nn.Linear(FEATURE_WIDTH, CLASSES)
        self.logits = nn.Linear(FEATURE_WIDTH, TEACHER_CLASSES)
        self.features = nn.Linear(FEATURE_WIDTH, TEACHER_FEATURES)


class Teacher:
    """MobileNetV2's features and logits for the clean, whole images.

    `teacher.py` writes them, and may still be at it: rows it has not reached are zeros, and are left out of the losses.
    """

    def __init__(self, cache: Path) -> None:
        self.logits = np.load(cache / "teacher_logits.npy", mmap_mode="r")
        self.features = np.load(cache / "teacher_features.npy", mmap_mode="r")
        sample = self.features[:10_000].astype(np.float32)
        self.mean, self.deviation = sample.mean(0), sample.std(0) + 1e-3

    def rows(self, rows: np.ndarray, device: torch.device) -> Taught:
        logits, features = self.logits[rows].astype(np.float32), self.features[rows].astype(np.float32)
        known = features.any(1) & logits.any(1)
        parts = logits, (features - self.mean) / self.deviation, known.astype(np.float32)
        return tuple(torch.from_numpy(part).to(device) for part in parts)


def losses(features: Tensor, tops: Tops, labels: Tensor, taught: Taught | None) -> dict[str, Tensor]:
    """Weighted terms. No label smoothing and no dropout: both make frozen features worse (arXiv 2010.16402)."""
    terms = {"label": 0.5 * F.cross_entropy(tops.labels(features), labels)}
    if taught is not None:
        wanted, seen, known = taught
        guess = F.log_softmax(tops.logits(features) / TEMPERATURE, 1)
        divergence = F.kl_div(guess, F.log_softmax(wanted / TEMPERATURE, 1), reduction="none", log_target=True).sum(1)
        terms["logits"] = 2 * (divergence * known).mean()
        terms["features"] = 2 * ((tops.features(features) - seen).square().mean(1) * known).mean()
    return terms


def step_share(progress: float) -> float:
    """Share of the full step: short linear warm-up, then a cosine to zero."""
    return min(progress / WARM_UP, 1) * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))


@dataclass
class Training:
    """Everything that a checkpoint holds."""

    network: Starter
    tops: Tops
    average: nn.ModuleList
    kernels: Muon
    others: torch.optim.AdamW
    step: int = 0
    progress: float = 0.0
    started: float = 0.0

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        names = ("network", "tops", "average", "kernels", "others")
        return {name: getattr(self, name) for name in names}

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        state = {name: part.state_dict() for name, part in self.parts().items()}
        state |= {"step": self.step, "progress": self.progress, "started": self.started}
        aside = path.with_suffix(".partial")
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)

    def load(self, path: Path, device: torch.device) -> None:
        state = torch.load(path, map_location=device, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step, self.progress, self.started = state["step"], state["progress"], state["started"]


def new_training(device: torch.device, seed: int) -> Training:
    torch.manual_seed(seed)
    network = Starter().to(device, memory_format=torch.channels_last)
    tops = Tops().to(device)
    kernels = [weight for weight in network.parameters() if weight.ndim == 4]
    others = [weight for weight in network.parameters() if weight.ndim != 4] + list(tops.parameters())
    return Training(
        network,
        tops,
        deepcopy(nn.ModuleList([network, tops])).requires_grad_(False),
        Muon(kernels, KERNEL_STEP),
        torch.optim.AdamW(others, OTHER_STEP, weight_decay=0),
        started=time.time(),
    )


def train_step(training: Training, x: Tensor, labels: Tensor, taught: Taught | None, bf16: bool) -> dict[str, Tensor]:
    for optimiser, full in ((training.kernels, KERNEL_STEP), (training.others, OTHER_STEP)):
        optimiser.param_groups[0]["lr"] = full * step_share(training.progress)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        features = training.network(x.contiguous(memory_format=torch.channels_last))
    terms = losses(features.float(), training.tops, labels, taught)
    sum(terms.values()).backward()
    for optimiser in (training.kernels, training.others):
        optimiser.step()
        optimiser.zero_grad()
    training.step += 1
    follow(training)
    return {name: term.detach() for name, term in terms.items()}


@torch.no_grad()
def follow(training: Training) -> None:
    """Move the average of the weights along."""
    keep = 1 - 1 / max(1, AVERAGE_OVER * training.step)
    now = [*training.network.parameters(), *training.tops.parameters()]
    torch._foreach_lerp_(list(training.average.parameters()), now, 1 - keep)


@torch.no_grad()
def settle_norms(network: Starter, images: TrainingImages, side: int, device: torch.device, batches: int = 16) -> None:
    """Measure batch normalisation's statistics anew: those of the moving weights don't fit their average."""
    random = np.random.default_rng(0)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.train()
    for _ in range(batches):
        rows = np.sort(random.choice(len(images.clean), BATCH, replace=False))
        network(images.batch(rows, side, random, device))
    network.eval()


@torch.no_grad()
def label_accuracy(average: nn.ModuleList, cache: Path, device: torch.device, limit: int | None) -> float:
    """Share of clean validation images that the averaged network names right, of 200 classes."""
    network, tops = average
    images, labels = np.load(cache / "val_x.npy", mmap_mode="r"), np.load(cache / "val_y.npy")
    rows = np.random.default_rng(0).permutation(len(labels))[:limit]
    hits = 0
    for part in np.array_split(rows, math.ceil(len(rows) / BATCH)):
        guess = tops.labels(network(to_input(images[part], device))).argmax(1)
        hits += int((guess.cpu().numpy() == labels[part]).sum())
    return hits / len(rows)


def keep(training: Training, images: TrainingImages, cache: Path, out: Path, device: torch.device) -> float:
    """Checkpoint, and write the averaged network as it would ship."""
    training.save(out / "checkpoint.pt")
    side = next(side for until, side in SIDES if training.progress < until)
    settle_norms(training.average[0], images, side, device)
    accuracy = label_accuracy(training.average, cache, device, None if training.progress >= 1 else 2000)
    facts = {"step": str(training.step), "progress": f"{training.progress:.4f}", "tiny_imagenet": f"{accuracy:.4f}"}
    save_folded(training.average[0], out / "starter.safetensors", facts)
    return accuracy


def train(arguments: argparse.Namespace, cache: Path, out: Path) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = arguments.bf16 or device.type == "cuda"
    images, labels = TrainingImages(cache), np.load(cache / "train_y.npy")
    teacher = None if arguments.no_teacher else Teacher(cache)
    training = new_training(device, arguments.seed)
    if (out / "checkpoint.pt").exists():
        training.load(out / "checkpoint.pt", device)
    kept, sums, tick = time.time(), {}, time.time()
    while training.progress < 1:
        side = next(side for until, side in SIDES if training.progress < until)
        random = np.random.default_rng((arguments.seed, training.step))
        # Epochs are walked in a fixed shuffled order, so that a resumed run sees what an unbroken one would.
        epoch, place = divmod(training.step, len(labels) // BATCH)
        order = np.random.default_rng((arguments.seed, epoch)).permutation(len(labels))
        rows = order[place * BATCH : (place + 1) * BATCH]
        taught = None if teacher is None else teacher.rows(rows, device)
        x = images.batch(rows, side, random, device)
        terms = train_step(training, x, torch.from_numpy(labels[rows]).to(device), taught, bf16)
        training.progress = (time.time() - training.started) / (60 * arguments.minutes)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.item() / REPORT_STEPS
        if training.step % REPORT_STEPS == 0:
            speed = REPORT_STEPS * BATCH / (time.time() - tick)
            line = {"step": training.step, "progress": training.progress, "side": side, "speed": speed, **sums}
            print(time.strftime("%H:%M:%S"), json.dumps({k: round(v, 4) for k, v in line.items()}), flush=True)
            sums, tick = {}, time.time()
        if time.time() - kept > CHECKPOINT_SECONDS or training.progress >= 1:
            accuracy = keep(training, images, cache, out, device)
            print(time.strftime("%H:%M:%S"), f"kept; Tiny ImageNet accuracy of the average {accuracy:.4f}", flush=True)
            kept = time.time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Tiny ImageNet as Parquet: image, label, split")
    parser.add_argument("--out", required=True, help="folder for the cache, the checkpoint and the weights")
    parser.add_argument(
        "--minutes", type=float, default=90, help="length of the schedule on the clock, pauses included"
    )
    parser.add_argument("--no-teacher", action="store_true", help="learn from the labels alone")
    parser.add_argument("--bf16", action="store_true", help="for processors with AMX; CUDA has it anyway")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out = Path(arguments.out)
    cache = out / "cache"
    prepare(arguments.data, cache)
    if not arguments.no_teacher and not (cache / "teacher_features.npy").exists():
        parser.exit(2, f"The images are in {cache}. Now run teacher.py with --out {cache}, or give --no-teacher.\n")
    train(arguments, cache, out)


if __name__ == "__main__":
    main()
