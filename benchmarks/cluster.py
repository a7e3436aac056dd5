"""What work in shards on a Ray cluster costs, on a quiet machine.

    python benchmarks/cluster.py image     CPU time per further image and fixed cost, --ray local against one process
    python benchmarks/cluster.py nodes     efficiency with 1, 2, 4 and 8 simulated nodes, one second a shard
    python benchmarks/cluster.py driver    the driver's CPU time a shard, and its memory, over 10,000 shards
    python benchmarks/cluster.py digests   how much of a store of 1,000,000 × 640 is read to know its digests

Expected: at most 1.10 times the CPU time, 15 seconds; 0.95 and more; 5 ms, flat; 1 %. Nodes are simulated: processes
of one machine that wait in the place of computing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from topwork.backbones.backbone import load_backbone
from topwork.features.cluster import make_on_ray
from topwork.features.plan import make_plan
from topwork.features.sharded import KeptVectors, ShardedWork, ShardResult
from topwork.features.store import new_kept, open_kept
from topwork.objects import open_objects

SIZES = (4_000, 12_000)
SECONDS_A_SHARD = 1.0
SHARDS_A_NODE = 30


def busy_seconds() -> float:
    """CPU time of all processes of this machine since it was started."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def draw(folder: Path, n: int) -> Path:
    """A folder of `n` small JPEG files, each different."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i:06d}.jpg")
    return folder


def show_image() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        photos = [draw(here / f"photos-{n}", n) for n in SIZES]
        found: dict[str, list[tuple[float, float]]] = {}
        for name, options in (("one process", []), ("--ray local", ["--ray", "local"])):
            for place in photos:
                store = here / f"{name} {place.name}"
                command = ["extract", str(place), "--store", str(store), "--backbone", "starter", "--quiet", *options]
                busy, began = busy_seconds(), time.perf_counter()
                subprocess.run([sys.executable, "-m", "topwork", *command], check=True, stdout=subprocess.DEVNULL)
                time.sleep(1)  # what Ray leaves to its other processes counts too
                found.setdefault(name, []).append((busy_seconds() - busy, time.perf_counter() - began - 1))
    further, fixed = {}, {}
    for name, ((busy_few, seconds_few), (busy_many, seconds_many)) in found.items():
        further[name] = (busy_many - busy_few) / (SIZES[1] - SIZES[0])
        fixed[name] = seconds_few - SIZES[0] * (seconds_many - seconds_few) / (SIZES[1] - SIZES[0])
        print(f"{name}: {1000 * further[name]:.3f} ms of CPU time a further image, fixed cost {fixed[name]:.1f} s")
    plain, ray = further
    print(f"ratio {further[ray] / further[plain]:.2f}; {fixed[ray] - fixed[plain]:.1f} s more")


def waiting_product(began: Path, n_nodes: int, seconds: float) -> Callable[[], KeptVectors]:
    """What workers load: it waits in the place of computing, and notes when each shard began and ended."""

    def load() -> KeptVectors:  # on each node
        from topwork.features import cluster

        def wait(shard: object, engine: object, backbone: object) -> ShardResult:
            (began / f"node-{os.getpid()}").touch()
            while len(list(began.glob("node-*"))) < n_nodes:  # until all are ready
                time.sleep(0.01)
            since = time.time()
            time.sleep(seconds)
            digest = np.array([os.urandom(16)], "S16")
            (began / f"shard-{digest[0].hex()}").write_text(f"{since} {time.time()}")
            return ShardResult(digest, np.empty(0, np.int64), (), np.empty((0, 0), np.float32))

        cluster.extract_shard = wait  # type: ignore[assignment]
        return KeptVectors(load_backbone("starter", size=32))

    return load


def waiting_work(here: Path, n_shards: int) -> ShardedWork:
    photos = here / "photos"
    photos.mkdir(parents=True)
    for i in range(n_shards):
        (photos / f"{i:06d}.jpg").touch()
    store = open_objects(str(here / "store"))
    plan = make_plan(str(photos), store, images_of_shard=1)
    return ShardedWork(plan, store, KeptVectors(load_backbone("starter", size=32)))


def show_nodes() -> None:
    from ray.cluster_utils import Cluster

    print("| nodes | shards | efficiency |\n|---|---|---|")
    for n_nodes in (1, 2, 4, 8):
        with tempfile.TemporaryDirectory() as folder:
            here, n_shards = Path(folder), SHARDS_A_NODE * n_nodes
            began = here / "began"
            began.mkdir()
            work = waiting_work(here, n_shards)
            nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            try:
                for _ in range(n_nodes - 1):
                    nodes.add_node(num_cpus=1)
                load = waiting_product(began, n_nodes, SECONDS_A_SHARD)
                make_on_ray(work, load, address=nodes.address)
            finally:
                nodes.shutdown()
            times = np.array([path.read_text().split() for path in began.glob("shard-*")], float)
            efficiency = n_shards * SECONDS_A_SHARD / (n_nodes * (times[:, 1].max() - times[:, 0].min()))
            print(f"| {n_nodes} | {n_shards} | {efficiency:.3f} |", flush=True)


def show_driver() -> None:
    n_shards = 10_000
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        began = here / "began"
        began.mkdir()
        work = waiting_work(here, n_shards)
        peaks: list[float] = []

        def watch() -> None:
            while not ended.wait(0.5):
                if len(list(began.glob("shard-*"))) > n_shards // 10 and not peaks:
                    peaks.append(peak_mb())

        ended = threading.Event()
        watcher = threading.Thread(target=watch)
        watcher.start()
        busy, since = time.process_time(), time.perf_counter()
        make_on_ray(work, waiting_product(began, 1, 0.0), address="local")
        busy, seconds = time.process_time() - busy, time.perf_counter() - since
        ended.set()
        watcher.join()
    print(
        f"{n_shards:,} shards in {seconds:.0f} s: {1000 * busy / n_shards:.2f} ms of the driver's CPU time a shard; at "
        f"most {peaks[0]:.0f} MB after a tenth of them, {peak_mb():.0f} MB in the end"
    )


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show_digests() -> None:
    n, width, step = 1_000_000, 640, 20_000
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = folder
        with new_kept({"backbone": "benchmark"}, width).writer() as writer:
            for _ in range(n // step):
                digests = np.frombuffer(random.bytes(16 * step), "S16")
                writer.add(digests, random.random((step, width), np.float32))
        n_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*.features"))
        before, since = read_bytes(), time.perf_counter()
        kept = open_kept({"backbone": "benchmark"})
        assert kept is not None
        read, seconds = read_bytes() - before, time.perf_counter() - since
        print(f"{kept.n_images:,} digests: {read / 1e6:.1f} of {n_bytes / 1e6:,.0f} MB, {100 * read / n_bytes:.2f} %; "
              f"{seconds:.2f} s")  # fmt: skip


def read_bytes() -> int:
    """The bytes that this process has read from files."""
    return int(Path("/proc/self/io").read_text().split()[1])


def main() -> None:
    shown = {"image": show_image, "nodes": show_nodes, "driver": show_driver, "digests": show_digests}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=shown)
    shown[parser.parse_args().what]()


if __name__ == "__main__":
    main()
