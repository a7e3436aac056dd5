"""Extraction in shards: the same files however the work is shared, each image read once, nothing lost to a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest

from helpers import make_photo, make_photos, upload
from topwork.classifier.loading import load_classifier
from topwork.data import decoding
from topwork.features.sharded import ShardResult
from topwork.features.store import summaries
from topwork.objects import Prefix, open_objects

STARTER = ("--backbone", "starter", "--size", "32")
SHARDS = (*STARTER, "--shard-size", "5")


@pytest.fixture
def flawed(photos: Path) -> Path:
    """36 images in three classes, a copy, and one that is none."""
    (photos / "ash" / "broken.jpg").write_bytes(b"no picture")
    (photos / "ash" / "copy.jpg").write_bytes((photos / "ash" / "1.jpg").read_bytes())
    return photos


def shards_in(store: Path) -> dict[str, bytes]:
    """The content of each shard's file."""
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*.shard")}


def digests_in(store: Path) -> Counter[bytes]:
    results = [ShardResult.from_bytes(content, with_values=True) for content in shards_in(store).values()]
    return Counter(bytes(digest) for result in results for digest in result.digests)


def test_any_number_of_parts_gives_the_same_files(flawed: Path, tmp_path: Path, topwork: Callable[..., Any]) -> None:
    whole = topwork("extract", flawed, "--store", "whole", *SHARDS, "--json")
    assert whole.status == 0, whole.err
    facts = json.loads(whole.out)
    assert (facts["shards"], facts["shards_done"], facts["images"], facts["images_done"]) == (8, 8, 38, 38)
    assert [image["image"] for image in facts["bad_images"]] == ["ash/broken.jpg"]
    for k in (2, 0, 1):
        assert topwork("extract", flawed, "--store", "parts", *SHARDS, "--part", f"{k}/3").status == 0
    assert shards_in(tmp_path / "parts") == shards_in(tmp_path / "whole")
    status = topwork("extract", flawed, "--store", "parts", *STARTER, "--status")
    assert "8 of 8 shards in the store, with 38 of 38 images" in status.out
    assert "ash/broken.jpg: not a JPEG" in status.out


def test_each_image_is_read_once(flawed: Path, topwork: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[str] = Counter()
    plain = decoding.read_regular

    def counting(path: Path, *, at_most: int) -> bytes:
        reads[str(path)] += 1
        return plain(path, at_most=at_most)

    monkeypatch.setattr(decoding, "read_regular", counting)
    assert topwork("extract", flawed, "--store", "store", *SHARDS).status == 0
    assert len(reads) == 38
    assert set(reads.values()) == {1}


def test_training_on_extracted_features_is_as_without(
    flawed: Path, tmp_path: Path, topwork: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert topwork("extract", flawed, "--store", "store", *SHARDS).status == 0
    make_photo((190, 60, 40), 77).save(flawed / "ash" / "0.png")  # it changed since
    found = {}
    for name, options in (("plain", ()), ("stored", ("--store", "store"))):
        monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / f"cache of {name}"))
        answer = topwork("train", flawed, *STARTER, *options, "--out", name, "--json")
        assert answer.status == 0, answer.err
        found[name] = json.loads(answer.out)
    assert "1 of 38 images are not in the store as they are now" in answer.err
    assert found["stored"]["test"] == found["plain"]["test"]
    assert (found["plain"]["n_extracted"], found["stored"]["n_extracted"]) == (36, 1)


def test_half_precision_takes_half_and_answers_alike(
    flawed: Path, tmp_path: Path, topwork: Callable[..., Any], own_cache: Path
) -> None:
    assert topwork("extract", flawed, "--store", "store", *SHARDS).status == 0
    whole = sum(map(len, shards_in(tmp_path / "store").values()))
    assert topwork("extract", flawed, "--store", "store", *SHARDS, "--half").status == 0
    assert sum(map(len, shards_in(tmp_path / "store").values())) < 1.6 * whole
    for out, options in (("plain", ()), ("half", ("--half",)), ("fetched", ("--half", "--store", "store"))):
        answer = topwork("train", flawed, *STARTER, *options, "--out", out, "--json")
        assert answer.status == 0, answer.err
        assert json.loads(answer.out)["n_extracted"] == (0 if out == "fetched" else 36)  # never one for the other
    images = sorted(flawed.rglob("*.png"))[:12]
    plain, half, fetched = (
        load_classifier(tmp_path / name).predict_proba(images) for name in ("plain", "half", "fetched")
    )
    assert np.array_equal(half, fetched)
    assert 0 < np.abs(plain - half).max() < 2e-3
    assert sorted(summary.n_bytes // 10_000 for summary in summaries() if summary.facts["view"] == "plain") == [4, 9]


def test_a_sample_is_the_same_with_a_store_and_without(
    tmp_path: Path, topwork: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos", n=50)
    assert topwork("extract", photos, "--store", "store", *STARTER, "--shard-size", "40").status == 0
    found = {}
    for name, options in (("plain", ()), ("stored", ("--store", "store"))):
        monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / f"cache of {name}"))
        answer = topwork("train", photos, *STARTER, *options, "--sample", "120", "--out", name, "--json")
        assert answer.status == 0, answer.err
        found[name] = json.loads(answer.out)
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert record["data"]["images"] == 120
        assert "a sample of 120 of 150 images" in record["data"]["notes"][-1]
        assert "a sample of 120 of 150 images" in (tmp_path / name / "report.html").read_text().lower()
    assert found["stored"]["test"] == found["plain"]["test"]
    assert (found["plain"]["n_extracted"], found["stored"]["n_extracted"]) == (120, 0)
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache of stored"))
    assert {summary.n_images for summary in summaries()} == {120}  # of the others nothing was fetched


def test_an_object_store_holds_images_and_features(
    bucket: str, tmp_path: Path, topwork: Callable[..., Any], own_cache: Path
) -> None:
    images = upload(make_photos(tmp_path / "photos", n=6), f"{bucket}photos/")
    store = f"{bucket}features"
    assert "nothing was extracted so far" in topwork("extract", images, "--store", store, *STARTER, "--status").err
    assert topwork("extract", images, "--store", store, *SHARDS, "--part", "1/2").status == 0
    status = json.loads(topwork("extract", images, "--store", store, *STARTER, "--status", "--json").out)
    assert (status["shards"], status["shards_done"]) == (4, 2)
    assert topwork("extract", images, "--store", store, *SHARDS).status == 0
    answer = topwork("train", images, "--store", store, *STARTER, "--json")
    assert answer.status == 0, answer.err
    assert json.loads(answer.out)["n_extracted"] == 0


def test_killed_and_run_again_has_every_image_once(flawed: Path, tmp_path: Path, topwork: Callable[..., Any]) -> None:
    command = ("extract", str(flawed), "--store", "killed", *STARTER, "--shard-size", "1")
    process = subprocess.Popen([sys.executable, "-m", "topwork", *command], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(shards_in(tmp_path / "killed")) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    n_before = len(shards_in(tmp_path / "killed"))
    assert 3 <= n_before < 38
    assert topwork(*command).status == 0
    found = digests_in(tmp_path / "killed")
    assert sum(found.values()) == 38
    assert sorted(found.values()) == [1] * 36 + [2]  # the copy
    assert not [name for _, folders, _ in os.walk(tmp_path / "killed") for name in folders if name.startswith(".")]


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.large)])
def test_a_store_that_is_away_for_a_while_costs_nothing(seconds: int, bucket: str, tmp_path: Path) -> None:
    from moto.server import ThreadedMotoServer

    images, store = upload(make_photos(tmp_path / "photos", n=50), f"{bucket}photos/"), f"{bucket}features"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)  # it knows what the other one holds
    server.start()
    port = server.get_host_and_port()[1]
    command = ("extract", images, "--store", store, *STARTER, "--shard-size", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "topwork", *command],
        env={**os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        there = open_objects(store)
        while len([True for found in there.objects() if found.key.endswith(".shard")]) < 3 and process.poll() is None:
            time.sleep(0.005)
        server.stop()
        n_before = len([True for found in there.objects() if found.key.endswith(".shard")])
        time.sleep(seconds)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        said = process.communicate(timeout=200)[1]
    finally:
        process.kill()
        server.stop()
    assert process.returncode == 0, said
    assert 3 <= n_before < 150
    assert "the object store does not answer; it is asked again" in said
    shards = [there.get(found.key) for found in there.objects() if found.key.endswith(".shard")]
    digests = np.concatenate([ShardResult.from_bytes(content, with_values=True).digests for content in shards])
    assert len(digests) == len(np.unique(digests)) == 150


def test_what_was_added_has_a_new_plan_and_the_old_shards_stay(
    flawed: Path, tmp_path: Path, topwork: Callable[..., Any]
) -> None:
    assert topwork("extract", flawed, "--store", "store", *SHARDS).status == 0
    before = shards_in(tmp_path / "store")
    make_photo((40, 70, 200), 99).save(flawed / "cedar" / "z.png")
    assert topwork("extract", flawed, "--store", "store", *SHARDS).status == 0
    after = shards_in(tmp_path / "store")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1  # the last shard alone is another


def test_an_object_that_is_gone_costs_itself_alone(
    bucket: str, tmp_path: Path, topwork: Callable[..., Any], own_cache: Path
) -> None:
    images = upload(make_photos(tmp_path / "photos", n=4), f"{bucket}photos/")
    options = ("extract", images, "--store", "store", *STARTER, "--shard-size", "6", "--json")
    assert topwork(*options, "--part", "0/2").status == 0
    obstore.delete(Prefix(images)._store(), "cedar/3.jpg")
    found = json.loads(topwork(*options, "--part", "1/2").out)
    assert found["shards_done"] == 1
    (gone,) = found["bad_images"]
    assert gone["image"] == "cedar/3.jpg"
    assert "no such object any more" in gone["reason"]


def test_features_by_other_options_are_not_read_anew_in_silence(
    photos: Path, topwork: Callable[..., Any], own_cache: Path
) -> None:
    assert topwork("extract", photos, "--store", "store", *SHARDS).status == 0
    answer = topwork("train", photos, "--store", "store", *STARTER, "--half")
    assert answer.status == 1
    assert "no features by starter with these options" in answer.err


def test_the_last_size_of_shards_is_kept(photos: Path, tmp_path: Path, topwork: Callable[..., Any]) -> None:
    assert topwork("extract", photos, "--store", "store", *SHARDS).status == 0
    before = shards_in(tmp_path / "store")
    assert topwork("extract", photos, "--store", "store", *STARTER).status == 0
    assert shards_in(tmp_path / "store") == before


def test_damaged_shards_are_named(flawed: Path, tmp_path: Path, topwork: Callable[..., Any]) -> None:
    assert topwork("extract", flawed, "--store", "store", *SHARDS).status == 0
    path = next((tmp_path / "store").rglob("*.shard"))
    path.write_bytes(path.read_bytes()[:300])
    answer = topwork("train", flawed, "--store", "store", *STARTER)
    assert answer.status == 1
    assert f"{path.name}' is damaged. Delete it, and make it again" in answer.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--part", "3/3"), "Expected K/N with K from 0 to N-1"),
        (("--backbone", "auto"), "all machines must take the same"),
    ],
)
def test_options_that_cannot_be(photos: Path, topwork: Callable[..., Any], options: tuple[str, ...], said: str) -> None:
    answer = topwork("extract", photos, "--store", "store", "--backbone", "starter", *options)
    assert answer.status == 2
    assert said in answer.err


def test_deep_pictures_need_a_range(tmp_path: Path, topwork: Callable[..., Any]) -> None:
    from PIL import Image

    (tmp_path / "deep").mkdir()
    Image.fromarray(np.full((20, 20), 4000, np.uint16)).save(tmp_path / "deep" / "1.png")
    answer = topwork("extract", "deep", "--store", "store", *STARTER)
    assert answer.status == 1
    assert "--range 0,4095" in answer.err
    assert topwork("extract", "deep", "--store", "store", *STARTER, "--range", "0,4095").status == 0


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_folders_and_buckets_keep_objects_alike(place: str, bucket: str, tmp_path: Path) -> None:
    objects = open_objects(bucket if place == "bucket" else str(tmp_path / "store"))
    assert list(objects.objects()) == []
    assert objects.put_new("a/b", b"first")
    assert not objects.put_new("a/b", b"second")
    assert objects.put_new("c", b"other")
    assert (objects.get("a/b"), objects.head("a/b", 2), objects.head("a/b", 100)) == (b"first", b"fi", b"first")
    assert [found.key for found in objects.objects("a")] == ["a/b"]
    assert sorted((found.key, found.size) for found in objects.objects()) == [("a/b", 5), ("c", 5)]


def test_an_address_that_is_none_is_a_sentence(topwork: Callable[..., Any], photos: Path) -> None:
    answer = topwork("extract", photos, "--store", "s3://", "--backbone", "starter")
    assert answer.status == 1
    assert "Expected an address such as" in answer.err
