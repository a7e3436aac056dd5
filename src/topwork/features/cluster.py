"""Work in shards on a Ray cluster: a worker a node takes shards from a common queue; a guilty image costs itself alone.

Ray *core* calls it, not Ray Data: that lost images without a message, hung, and cost twice as much and more.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from topwork.backbones.engines import Engine
from topwork.data.decoding import digest_of
from topwork.data.images import digest_of_unreadable
from topwork.errors import BadImageError, EnvironmentProblem, OptionError, TopworkError
from topwork.features.extraction import feature_engine
from topwork.features.pipeline import BadImage
from topwork.features.plan import Shard
from topwork.features.sharded import (
    CRASHED,
    HUNG,
    Product,
    Progress,
    ShardedWork,
    ShardResult,
    extract_shard,
    joined,
    progress_of,
)
from topwork.objects import open_objects
from topwork.progress import Reporter, Task
from topwork.types import Device

DEADLINE = 600.0
"""Seconds that a shard may take; part of one, as much less."""
_LEAST_DEADLINE = 30.0
_PATIENCE = 10.0
"""Seconds for a cluster to answer."""
_MOST_STARTS = 3
"""Of one node's worker, each dead before it was ready."""
_OBJECT_STORE = 256 << 20
"""Bytes: only parts of shards that crashed go through it."""


def make_on_ray(
    work: ShardedWork,
    load: Callable[[], Product],
    *,
    address: str,
    deadline: float = DEADLINE,
    device: Device = "auto",
    reporter: Reporter | None = None,
) -> Progress:
    """Make the objects of a plan's shards that are not in the store, on all nodes of a Ray cluster.

    A worker that dies costs its node one shard's time: the shard is tried again, and if it ends another worker, it is
    halved until the guilty image is found, which is listed and left out. So is one that takes too long, or raises what
    no reader of images should.

    Args:
        work: of what, by what, and where to; every node reaches the images and the store by their addresses.
        load: gives `work.product` on each node; it is sent there.
        address: 'local' for a cluster of this machine alone, 'auto' for the one that runs here, or 'HOST:PORT'.
        deadline: seconds that a shard may take.
        device: where the backbone runs.
        reporter: hears how far it is.

    Raises:
        EnvironmentProblem: the extra `ray` is not installed, or there is no such cluster, or no node that works.
        OptionError: a node has other weights under the backbone's name.
        TopworkError: what `make_shards` raises, on whatever node.
    """
    ray = _start_ray(address)
    reporter = reporter or Reporter()
    try:
        settings = _Settings(work.store.address, work.product.folder, load, device)
        done = work.done()
        with reporter.task("Computing shards", len(work.plan), "shards") as task:
            queue: deque[_Piece] = deque()
            for number in range(len(work.plan)):
                if work.key(work.plan.shard(number)) in done:
                    task.advance()
                else:
                    queue.append(_Piece(number))
            _Driver(ray, work, settings, deadline, task, queue).run()
    finally:
        ray.shutdown()
    return progress_of(work)


@dataclass(frozen=True)
class _Settings:
    """What a worker needs to know."""

    store: str
    folder: str
    load: Callable[[], Product]
    device: Device


class _Worker:
    """What runs on a node: it computes one shard at a time, and writes it to the store."""

    def __init__(self, settings: _Settings) -> None:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # by Ray's handler, a crash beside our threads never ends
        self.settings = settings
        self.product = settings.load()
        self.engine: Engine | None = None

    def ready(self) -> None:
        if self.product.folder != self.settings.folder:
            raise OptionError(
                "A node of the cluster has another version of Topwork, or other weights, than the machine that you "
                "started from. Install the same on all."
            )
        self.engine = feature_engine(self.product.backbone, self.settings.device)

    def compute(self, shard: Shard, key: str | None) -> bytes:
        """Write what a whole shard gives under `key`; where that is None, give back the vectors of a part of one."""
        if self.engine is None:
            raise RuntimeError("it was not waited until the worker was ready")
        result = extract_shard(shard, self.engine, self.product.backbone)
        if key is None:
            return result.as_bytes()
        open_objects(self.settings.store).put_new(key, self.product.content(shard, result))
        return b""


@dataclass(frozen=True)
class _Piece:
    """A shard, or the part of it from `start` to before `stop`."""

    number: int
    start: int = 0
    stop: int | None = None
    n_crashes: int = 0

    @property
    def is_whole(self) -> bool:
        return self.stop is None


@dataclass
class _Seat:
    """A node's worker, and what it does now; `work` is None while it is starting."""

    node: str
    n_cpus: float
    actor: Any
    waits_for: Any
    work: _Piece | None = None
    until: float = float("inf")
    n_starts: int = 1


@dataclass
class _Driver:
    """Gives the pieces in the queue to the nodes, one at a time each."""

    ray: Any
    work: ShardedWork
    settings: _Settings
    deadline: float
    task: Task
    queue: deque[_Piece]
    parts: dict[int, dict[int, ShardResult]] = field(default_factory=dict)

    def run(self) -> None:
        seats = [self._seat(node) for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        while self.queue or any(seat.work for seat in seats):
            if not seats:
                raise EnvironmentProblem("No node of the Ray cluster is left. What was finished is kept: run again.")
            busy = [seat for seat in seats if seat.waits_for is not None]
            finished, _ = self.ray.wait([seat.waits_for for seat in busy], timeout=1.0)
            for seat in busy:
                if seat.waits_for in finished:
                    self._finish(seat, seats)
                elif time.monotonic() > seat.until and seat.work is not None:
                    self.ray.kill(seat.actor)
                    self._blame(seat.work, HUNG, is_sure=True)
                    self._restart(seat, seats)
            for seat in seats:
                if seat.waits_for is None and self.queue:
                    self._give(seat, self.queue.popleft())

    def _seat(self, node: dict[str, Any]) -> _Seat:
        n_cpus = node["Resources"]["CPU"]
        actor = self._actor(node["NodeID"], n_cpus)
        return _Seat(node["NodeID"], n_cpus, actor, actor.ready.remote())

    def _actor(self, node: str, n_cpus: float) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {"num_cpus": n_cpus, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
        return self.ray.remote(_Worker).options(**options).remote(self.settings)

    def _give(self, seat: _Seat, piece: _Piece) -> None:
        shard = self._shard(piece)
        allowed = self.deadline
        if not piece.is_whole:
            share = len(shard.keys) / len(self.work.plan.shard(piece.number).keys)
            allowed = max(_LEAST_DEADLINE, self.deadline * share)
        seat.work, seat.until = piece, time.monotonic() + allowed
        seat.waits_for = seat.actor.compute.remote(shard, self.work.key(shard) if piece.is_whole else None)

    def _shard(self, piece: _Piece) -> Shard:
        whole = self.work.plan.shard(piece.number)
        part = slice(piece.start, piece.stop)
        return replace(whole, keys=whole.keys[part], marks=whole.marks[part])

    def _finish(self, seat: _Seat, seats: list[_Seat]) -> None:
        """Take what a worker gave, or see what became of it."""
        errors, piece = self.ray.exceptions, seat.work
        try:
            content = self.ray.get(seat.waits_for)
        except errors.RayTaskError as error:
            if piece is None or isinstance(error.cause, TopworkError):
                raise error.cause from None
            self._blame(piece, f"{type(error.cause).__name__}: {error.cause}", is_sure=True)
        except errors.RayActorError as error:
            if piece is not None:
                self._blame(piece, CRASHED, is_sure=False)
            elif seat.n_starts == _MOST_STARTS:
                raise EnvironmentProblem(f"A worker on the Ray cluster died {_MOST_STARTS} times: {error}") from error
            self._restart(seat, seats)
            return
        else:
            if piece is not None:
                self._keep(piece, content)
        seat.work, seat.waits_for, seat.until = None, None, float("inf")

    def _restart(self, seat: _Seat, seats: list[_Seat]) -> None:
        """Another worker on the same node, or none where the node is gone."""
        seats.remove(seat)
        if any(node["NodeID"] == seat.node and node["Alive"] for node in self.ray.nodes()):
            actor = self._actor(seat.node, seat.n_cpus)
            n_starts = seat.n_starts + 1 if seat.work is None else 1
            seats.append(_Seat(seat.node, seat.n_cpus, actor, actor.ready.remote(), n_starts=n_starts))

    def _blame(self, piece: _Piece, reason: str, *, is_sure: bool) -> None:
        """Halve what did not come back, or list the one image that it is; who knows what ended a worker is not sure."""
        shard = self._shard(piece)
        n = len(shard.keys)
        if not is_sure and piece.n_crashes == 0 and (piece.is_whole or n == 1):
            self.queue.appendleft(replace(piece, n_crashes=1))
        elif n > 1:
            middle = piece.start + n // 2
            self.queue.appendleft(_Piece(piece.number, middle, piece.start + n))
            self.queue.appendleft(_Piece(piece.number, piece.start, middle))
        else:
            name = shard.source.name(0)
            bad = (BadImage(0, name, reason),)
            values = np.empty((0, 0), np.float32)
            result = ShardResult(np.array([_digest(shard)], "S16"), np.empty(0, np.int64), bad, values)
            self._keep(replace(piece, stop=piece.start + 1), result.as_bytes())

    def _keep(self, piece: _Piece, content: bytes) -> None:
        """Count a whole shard; put a part to the others, and write the shard when it is whole."""
        if piece.is_whole:
            self.task.advance()
            return
        parts = self.parts.setdefault(piece.number, {})
        parts[piece.start] = ShardResult.from_bytes(content, with_values=True)
        whole = self.work.plan.shard(piece.number)
        if sum(len(part.digests) for part in parts.values()) == len(whole.keys):
            result = joined([parts[start] for start in sorted(parts)])
            self.work.store.put_new(self.work.key(whole), self.work.product.content(whole, result))
            del self.parts[piece.number]
            self.task.advance()


def _digest(shard: Shard) -> bytes:
    """Of an image that can't be decoded."""
    try:
        return digest_of(next(iter(shard.source.payloads(np.arange(1)))))
    except (OSError, BadImageError):
        return digest_of_unreadable(shard.source.name(0))


def _start_ray(address: str) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would call home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray prints advice on its next version
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise EnvironmentProblem("A Ray cluster needs the extra `ray`: pip install 'topwork[ray]'.") from error
    own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE} if address == "local" else {}
    try:
        if address not in ("local", "auto"):
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()  # Ray itself asks for minutes
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        raise EnvironmentProblem(
            f"There is no Ray cluster at {address!r}: {str(error).splitlines()[0]}. Expected local, auto, or HOST:PORT "
            "of the head node of one that `ray start` began."
        ) from error
    return ray
