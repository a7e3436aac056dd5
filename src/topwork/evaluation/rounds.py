"""Which network: cross-validated accuracy on the user's own images against time and size on this machine.

All start on a sample of the images; one that is slower than another and surely more than a point less accurate is
dropped, and the rest go on to four times as many images, until all images are used or the time is up.
What was extracted is kept, so no image runs twice through a network. Test images are not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from topwork.backbones.backbone import load_backbone
from topwork.backbones.engines import open_engine
from topwork.data.dataset import ImageDataset
from topwork.errors import DataError, OptionError, TopworkError
from topwork.evaluation.candidates import Candidate, GrowingSample, NamedNetwork, seconds_per_image
from topwork.evaluation.comparison import SURE, Comparison, mcnemar
from topwork.features.ranges import find_range
from topwork.progress import Reporter, duration
from topwork.types import Device, ValueRange

_FEWEST = 100
_GROWTH = 4
_MARGIN = 0.01
_DEVIATIONS = 2.58
"""Of a difference between two networks on the same images: beyond so many, it is sure at 99 %."""
_TOO_LATE = "the time was up before its turn"


def compare_backbones(
    dataset: ImageDataset,
    candidates: Sequence[str | NamedNetwork],
    *,
    budget: float | None = None,
    seed: int = 0,
    device: Device = "auto",
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Comparison:
    """Compare networks on labelled images; see the module's head for how.

    Args:
        dataset: labelled images; their test split is not looked at.
        candidates: networks, as `NamedNetwork.read` takes them: 'starter', 'mobilenet_v2@160', 'resnet50=FILE'.
        budget: seconds that it may take; None goes on to all images. Each round is as large as the time allows.
        seed: of the images held out to choose an L2.
        device: where the networks run.
        offline: never use the internet connection for weights.
        reporter: hears how far it is, and what is dropped.

    Raises:
        UnknownNameError: no such network.
        DataError: fewer than two classes have readable images, or no network can be used.
        TooManyBadImagesError: more than a tenth of the images can't be read.
    """
    reporter = reporter or Reporter()
    chosen = list(dict.fromkeys(NamedNetwork.read(c) if isinstance(c, str) else c for c in candidates))
    if not chosen:
        raise OptionError("Name a network to compare at least; `topwork backbones` lists them.")
    dataset.read_digests(reporter)
    images = GrowingSample(dataset.with_splits)
    value_range = find_range(dataset.with_splits)
    clock = _Clock(budget)
    ready, left_out = _line_up(chosen, clock, value_range, device, offline, seed, reporter)
    n = 0
    while (following := _next_sample(n, ready, images, clock)) is not None:
        if n:
            _drop(ready, reporter)
        n = following
        running = _still_running(ready)
        took = f", about {duration(sum(r.seconds_for(n) for r in running))}" if n > images.first_sample else ""
        reporter.note(f"{len(running)} networks on {n:,} of {len(images):,} images{took}")
        for candidate in running:
            if candidate.n == 0 and clock.left <= 0 and candidate is not running[0]:
                _leave_out(left_out, candidate.title, _TOO_LATE, reporter)
                ready.remove(candidate)
                continue
            candidate.run(images, n, device, reporter)
            reporter.note(f"  {candidate.title}: {candidate.accuracy}, {candidate.milliseconds:.1f} ms an image")
    return _assemble(ready, left_out, len(images), clock)


class _Clock:
    """How much of the budget is left."""

    def __init__(self, budget: float | None) -> None:
        self._began = time.perf_counter()
        self._budget = np.inf if budget is None else budget

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        return self._budget - self.seconds


def _line_up(
    named: list[NamedNetwork],
    clock: _Clock,
    value_range: ValueRange | None,
    device: Device,
    offline: bool,
    seed: int,
    reporter: Reporter,
) -> tuple[list[Candidate], dict[str, str]]:
    """Every network that can run, timed; and why the others can't."""
    candidates: list[Candidate] = []
    left_out: dict[str, str] = {}
    with reporter.task("Timing the networks", len(named), "networks") as task:
        for network in named:
            if candidates and clock.left <= 0:
                _leave_out(left_out, network.title, _TOO_LATE, reporter)
                continue
            try:
                backbone = load_backbone(
                    network.name,
                    weights=network.weights,
                    size=network.size,
                    output=network.output,
                    pooling=network.pooling,
                    value_range=value_range,
                    offline=offline,
                    reporter=reporter,
                )
                engine = open_engine(backbone, device)
            except TopworkError as error:
                _leave_out(left_out, network.title, str(error), reporter)
                continue
            seconds = seconds_per_image(engine, backbone.size)
            candidates.append(Candidate(network.title, backbone, engine.n_features, 1000 * seconds, seed, seconds))
            task.advance()
    if not candidates:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in left_out.items())
        raise DataError(f"None of the networks can be compared.{reasons}")
    return candidates, left_out


def _leave_out(left_out: dict[str, str], title: str, reason: str, reporter: Reporter) -> None:
    left_out[title] = reason
    reporter.warning(f"{title} is left out: {reason}")


def _still_running(candidates: list[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if not candidate.dropped_for]


def _next_sample(n: int, candidates: list[Candidate], images: GrowingSample, clock: _Clock) -> int | None:
    """How many images the next round takes; None where all are used, or no time is left for more."""
    if n == 0:
        wanted = images.first_sample
    elif n < len(images):
        wanted = _GROWTH * n if _GROWTH * n < 0.75 * len(images) else len(images)
    else:
        return None
    running = _still_running(candidates)
    fewest = min(wanted, int(1.2 * n) + 1 if n else _FEWEST)
    while sum(candidate.seconds_for(wanted) for candidate in running) > clock.left:
        if wanted <= fewest:
            return None if n else wanted
        wanted = max(fewest, int(0.8 * wanted))
    return wanted


def _drop(candidates: list[Candidate], reporter: Reporter) -> None:
    """Drop each network than which another is no slower, and surely more than a point more accurate."""
    running = _still_running(candidates)
    for candidate in running:
        for other in running:
            difference = other.right.astype(float) - candidate.right
            surely = difference.mean() - _DEVIATIONS * difference.std() / np.sqrt(len(difference))
            if not other.dropped_for and other.milliseconds <= candidate.milliseconds and surely > _MARGIN:
                candidate.dropped_for = other.title
                reporter.note(f"Dropped {candidate.title}: {other.title} is no slower and surely more accurate")
                break


def _assemble(candidates: list[Candidate], left_out: dict[str, str], n_available: int, clock: _Clock) -> Comparison:
    stayed = _still_running(candidates)
    stayed.sort(key=lambda c: (-c.accuracy.value, c.milliseconds))
    dropped = sorted((c for c in candidates if c.dropped_for), key=lambda c: -c.accuracy.value)
    best = stayed[0]
    p_values = {c.title: mcnemar(best.right, c.right) for c in stayed[1:]}
    least = best.accuracy.value - _MARGIN
    equals = [c for c in stayed if p_values.get(c.title, 1.0) >= SURE and c.accuracy.value >= least]
    taken = min(equals, key=lambda c: c.milliseconds)
    results = {c.title: c.compared(stayed, p_values.get(c.title)) for c in (*stayed, *dropped)}
    return Comparison(
        backbones=tuple(results.values()),
        left_out=left_out,
        recommended=results[taken.title],
        n_images=best.n,
        n_available=n_available,
        seconds=clock.seconds,
        seconds_saved=sum(c.seconds_for(best.n) for c in dropped),
    )
