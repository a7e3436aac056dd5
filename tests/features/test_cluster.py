"""A real Ray on this machine: the same shards as without it, and of what goes wrong exactly the guilty are listed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import make_photo, make_photos
from topwork.backbones.backbone import load_backbone
from topwork.errors import EnvironmentProblem
from topwork.features import cluster
from topwork.features.cluster import make_on_ray
from topwork.features.plan import make_plan
from topwork.features.sharded import CRASHED, HUNG, KeptVectors, ShardedWork, ShardResult, make_shards, with_extracted
from topwork.objects import open_objects

pytestmark = pytest.mark.filterwarnings(
    *("ignore::ResourceWarning", "ignore::DeprecationWarning"),  # Ray's own
    "ignore:os.fork:RuntimeWarning",  # JAX's, which other tests have loaded; Ray's forks become other programs at once
)
STARTER = ("--backbone", "starter", "--size", "32")


def shards_in(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*.shard")}


def test_a_cluster_writes_what_one_process_writes(photos: Path, tmp_path: Path, topwork: Callable[..., Any]) -> None:
    (photos / "ash" / "broken.jpg").write_bytes(b"no picture")
    shards = (*STARTER, "--shard-size", "5", "--json")
    answer = topwork("extract", photos, "--store", "ray", *shards, "--ray", "local")
    assert answer.status == 0, answer.err
    assert topwork("extract", photos, "--store", "plain", *shards).out == answer.out
    assert json.loads(answer.out)["shards_done"] == 8
    assert shards_in(tmp_path / "ray") == shards_in(tmp_path / "plain")


def test_a_cluster_answers_what_one_process_answers(photos: Path, tmp_path: Path, topwork: Callable[..., Any]) -> None:
    assert topwork("train", photos, *STARTER, "--out", "run").status == 0
    (photos / "ash" / "broken.jpg").write_bytes(b"no picture")
    for out, options in (("plain/", ()), ("ray/", ("--ray", "local"))):
        answer = topwork("predict", "run", photos, "--out", out, "--shard-size", "10", *options)
        assert answer.status == 0
        assert "4 of 4 shards in the store, with 37 of 37 images" in answer.err
        assert "ash/broken.jpg: not a JPEG" in answer.err
    plain, ray = (
        {path.relative_to(tmp_path / out).as_posix(): path.read_bytes() for path in (tmp_path / out).rglob("*.parquet")}
        for out in ("plain", "ray")
    )
    assert len([name for name in plain if name.startswith("parts-")]) == 4
    assert plain == ray


def test_exactly_the_guilty_images_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import topwork as tw

    monkeypatch.setattr(cluster, "_LEAST_DEADLINE", 5.0)
    killed = tmp_path / "killed"
    photos = make_photos(tmp_path / "photos", n=3)
    for name in ("crashes", "hangs", "raises"):
        make_photo((50, 170, 60), len(name)).save(photos / "birch" / f"{name}.png")
    store = open_objects(str(tmp_path / "store"))
    backbone = load_backbone("starter", size=32)
    work = ShardedWork(make_plan(str(photos), store, images_of_shard=6), store, KeptVectors(backbone))

    def load() -> KeptVectors:  # on the node
        import os
        import signal
        import time

        from topwork.backbones.backbone import load_backbone
        from topwork.features import pipeline

        plain = pipeline.read_square

        def odd(content: Any, recipe: Any, name: str) -> Any:
            if "0.png" in name and not killed.exists():  # as if somebody killed the worker, once
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if "crashes" in name:
                os.kill(os.getpid(), signal.SIGSEGV)
            if "hangs" in name:
                time.sleep(3600)
            if "raises" in name:
                raise RuntimeError("never seen")
            return plain(content, recipe, name)

        pipeline.read_square = odd  # type: ignore[assignment]
        return KeptVectors(load_backbone("starter", size=32))

    found = make_on_ray(work, load, address="local", deadline=5)
    assert (found.n_shards_done, found.n_images_done) == (2, 12)
    assert {image.name: image.reason for image in found.bad} == {
        "birch/crashes.png": CRASHED,
        "birch/hangs.png": HUNG,
        "birch/raises.png": "RuntimeError: never seen",
    }
    dataset = with_extracted(tw.ImageDataset.load(photos), backbone, store)
    assert len(dataset) == 10
    assert make_shards(work).n_shards_done == 2  # nothing is left to do


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")
def test_a_driver_that_is_killed_leaves_nothing_running_and_loses_nothing(
    tmp_path: Path, topwork: Callable[..., Any]
) -> None:
    make_photos(tmp_path / "photos", n=50)
    mark = uuid.uuid4().hex
    command = ("extract", str(tmp_path / "photos"), "--store", "store", *STARTER, "--shard-size", "1", "--ray", "local")
    driver = subprocess.Popen(
        [sys.executable, "-m", "topwork", *command],
        cwd=tmp_path,
        env={**os.environ, "TOPWORK_TEST_MARK": mark},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(shards_in(tmp_path / "store")) < 3 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    n_before = len(shards_in(tmp_path / "store"))
    assert 3 <= n_before < 150
    assert topwork(*command).status == 0
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not processes_with(mark)
    found = [ShardResult.from_bytes(content, with_values=True) for content in shards_in(tmp_path / "store").values()]
    digests = np.concatenate([result.digests for result in found])
    assert len(digests) == len(np.unique(digests)) == 150


def processes_with(mark: str) -> list[str]:
    """The processes with this text in their environment, which those that they start inherit."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def test_a_node_that_goes_costs_no_image(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    store = open_objects(str(tmp_path / "store"))
    photos, began = make_photos(tmp_path / "photos", n=4), tmp_path / "began"
    began.mkdir()
    n_before: list[int] = []
    backbone = load_backbone("starter", size=32)
    work = ShardedWork(make_plan(str(photos), store, images_of_shard=1), store, KeptVectors(backbone))

    def load() -> KeptVectors:  # on both nodes
        import os
        import time

        from topwork.backbones.backbone import load_backbone
        from topwork.features import pipeline

        plain = pipeline.read_square

        def slow(content: Any, recipe: Any, name: str) -> Any:
            (began / str(os.getpid())).touch()
            while len(list(began.iterdir())) < 2:  # until both nodes have begun
                time.sleep(0.05)
            time.sleep(0.3)
            return plain(content, recipe, name)

        pipeline.read_square = slow  # type: ignore[assignment]
        return KeptVectors(load_backbone("starter", size=32))

    def take_away() -> None:
        while len(list(began.iterdir())) < 2:
            time.sleep(0.05)
        n_before.append(len(shards_in(tmp_path / "store")))
        nodes.remove_node(second, allow_graceful=False)

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = nodes.add_node(num_cpus=1)
        helper = threading.Thread(target=take_away, daemon=True)
        helper.start()
        found = make_on_ray(work, load, address=nodes.address)
        helper.join(60)
    finally:
        nodes.shutdown()
    assert n_before[0] < 10
    assert (found.n_images_done, found.bad) == (12, ())
    assert len(shards_in(tmp_path / "store")) == 12


def test_no_cluster_is_a_sentence(photos: Path, tmp_path: Path) -> None:
    store = open_objects(str(tmp_path / "store"))
    work = ShardedWork(make_plan(str(photos), store), store, KeptVectors(load_backbone("starter", size=32)))
    for address in ("127.0.0.1:1", "nowhere"):
        with pytest.raises(EnvironmentProblem, match=f"There is no Ray cluster at '{address}'"):
            make_on_ray(work, lambda: KeptVectors(load_backbone("starter", size=32)), address=address)
