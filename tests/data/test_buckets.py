"""Images in an object store are trained on and answered as those in a folder are; what goes wrong is a sentence."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from helpers import make_photos, upload
from topwork import objects
from topwork.data.dataset import ImageDataset
from topwork.errors import ObjectStoreError, StorageError
from topwork.objects import Prefix
from topwork.progress import Task
from topwork.runs.run import train

SMALL = ("--backbone", "starter", "--size", "32")


def test_a_bucket_is_trained_on_and_answered_as_the_same_folder_is(
    bucket: str, own_cache: Path, tmp_path: Path, topwork: Callable[..., Any]
) -> None:
    photos = make_photos(tmp_path / "photos", n=8)
    (photos / "ash" / "broken.jpg").write_bytes(b"no picture")
    upload(photos, bucket)
    runs = {}
    for name, source in (("there", bucket), ("here", photos)):
        answer = topwork("train", source, *SMALL, "--out", name, "--json")
        assert answer.status == 0, answer.err
        runs[name] = json.loads(answer.out)
    assert [image["image"] for image in runs["there"]["bad_images"]] == ["ash/broken.jpg"]
    assert runs["there"]["test"] == runs["here"]["test"]
    assert runs["here"]["n_extracted"] == 0  # found by the same digests
    assert "ash/broken.jpg" in topwork("check", bucket, *SMALL).out
    answers = [
        topwork("predict", "here", place, "--format", "csv").out for place in (f"{bucket}birch/", photos / "birch")
    ]
    there, here = (text.replace(bucket, "").replace(f"{photos}/", "") for text in answers)
    assert len(there.splitlines()) == 9
    assert there == here


def test_training_fetches_each_image_once(
    bucket: str, own_cache: Path, tmp_path: Path, topwork: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: Counter[str] = Counter()
    plain = Prefix.get

    def counting(prefix: Prefix, key: str) -> bytes:
        fetched[key] += 1
        return plain(prefix, key)

    upload(make_photos(tmp_path / "photos", n=8), bucket)
    monkeypatch.setattr(Prefix, "get", counting)
    for out in ("cold", "warm"):
        fetched.clear()
        answer = topwork("train", bucket, *SMALL, "--out", out, "--json")
        assert answer.status == 0, answer.err
        assert len(fetched) == 24
        assert set(fetched.values()) == {1}
        assert json.loads(answer.out)["n_extracted"] == (24 if out == "cold" else 0)


def test_tables_and_archives_are_fetched_once(
    bucket: str, own_cache: Path, tmp_path: Path, topwork: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    plain = Prefix.fetch

    def counting(prefix: Prefix, key: str, path: Path, task: Task) -> None:
        fetched.append(key)
        plain(prefix, key, path, task)

    monkeypatch.setattr(Prefix, "fetch", counting)
    photos = make_photos(tmp_path / "photos", n=8)
    data = tmp_path / "data"
    data.mkdir()
    shutil.make_archive(str(data / "photos"), "zip", photos)
    for k in range(2):
        paths = sorted(photos.rglob("*.*"))[k::2]
        table = {"image": [path.read_bytes() for path in paths], "label": [path.parent.name for path in paths]}
        parquet.write_table(pa.table(table), data / f"train-{k:05d}-of-00002.parquet")
    upload(data, f"{bucket}data/")
    here = ImageDataset.load(photos)
    for source, names in (
        (f"{bucket}data/photos.zip", ["photos.zip"]),
        (f"{bucket}data/train-*.parquet", ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]),
    ):
        for expected in (names, []):
            fetched.clear()
            there = ImageDataset.load(source)
            assert fetched == expected
        assert (len(there), there.class_names, there.origin) == (24, here.class_names, source)
        assert sorted(there.digests) == sorted(here.digests)
    assert topwork("train", f"{bucket}data/train-*.parquet", *SMALL, "--out", "run").status == 0
    answer = topwork("predict", "run", f"{bucket}data/photos.zip", "--format", "csv")
    assert len(answer.out.splitlines()) == 25
    upload(data, f"{bucket}tables/")
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="Make room"):
        patch.setattr("shutil.disk_usage", lambda path: Room(0, 0, 10))
        ImageDataset.load(f"{bucket}tables/train-*.parquet")
    assert "Deleted copies from object stores" in topwork("cache", "--prune").out
    assert not list((own_cache / "fetched").glob("[!.]*"))


class Room(NamedTuple):
    total: int
    used: int
    free: int


def test_what_is_written_stays_on_this_machine(tmp_path: Path, photos: Path, topwork: Callable[..., Any]) -> None:
    for command in (("train", photos), ("check", photos), ("compare", photos, "--backbones", "starter,densenet121")):
        answer = topwork(*command, "--out", "s3://bucket/runs/one")
        assert answer.status == 2
        assert "Expected a place on this machine" in answer.err
    with pytest.raises(StorageError, match="expected a place on this machine"):
        train(ImageDataset.load(photos), out="s3://bucket/runs/one")
    assert not list(tmp_path.glob("s3:*"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("labels.csv", "tables of file names are read from this machine"),
        ("a#b/", "has a #"),
        ("no.zip", "no such object"),
    ],
)
def test_addresses_that_are_not_read(bucket: str, source: str, said: str, topwork: Callable[..., Any]) -> None:
    answer = topwork("train", f"{bucket}{source}", *SMALL)
    assert answer.status == 1
    assert said in answer.err


def test_an_endpoint_without_its_scheme_is_a_sentence(
    bucket: str, topwork: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    objects._open.cache_clear()
    assert "Expected it to begin with http:// or https://" in topwork("train", bucket, *SMALL).err


def test_splits_are_read_from_keys(bucket: str, tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("test", 50)):
        make_photos(tmp_path / "photos" / split, n=2, seed=seed)
    (tmp_path / "photos" / "notes.txt").write_text("none")
    dataset = ImageDataset.load(upload(tmp_path / "photos", bucket))
    assert dataset.class_names == ("ash", "birch", "cedar")
    assert np.unique(np.asarray(dataset.splits)).tolist() == ["test", "train"]
    assert any(".txt" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://bucket/nothing/", "There is no image in"),
        ("s3://no-such-bucket/photos/", "there is no such bucket"),
        ("s3://bucket/a.jpg", "there is no such object"),
    ],
)
def test_what_is_not_there_is_one_sentence_at_once(
    bucket: str, address: str, said: str, digits_classifier: Path, topwork: Callable[..., Any]
) -> None:
    for command in (("train", address), ("predict", digits_classifier, address)):
        answer = topwork(*command)
        assert answer.status == 1
        assert said in answer.err


def test_a_wrong_key_is_one_sentence_at_once(refusing: str, topwork: Callable[..., Any]) -> None:
    answer = topwork("train", refusing)
    assert answer.status == 1
    assert "refuses that (InvalidAccessKeyId: It does not exist). Check the credentials" in answer.err
    with pytest.raises(ObjectStoreError, match="refuses"):
        Prefix(refusing).get("x")


def test_an_object_is_written_once(bucket: str) -> None:
    assert Prefix(bucket).put_new("folder/one", b"first")
    assert not Prefix(bucket).put_new("folder/one", b"second")
    assert Prefix(bucket).get("folder/one") == b"first"
    assert [(found.key, found.size) for found in Prefix(bucket).objects()] == [("folder/one", 5)]


def test_an_outage_is_waited_out_with_a_message(
    flickering: type[Flickering], heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects.time, "sleep", lambda seconds: None)
    assert Prefix("s3://bucket/flickering/").get("x") == b"here"
    assert len(heard) == 1
    assert "asked again for up to 10 minutes" in heard[0]
    monkeypatch.setattr(objects, "PATIENCE", 0.0)
    flickering.n_failures = 1000
    with pytest.raises(ObjectStoreError, match="did not answer"):
        Prefix("s3://bucket/flickering/").get("x")


def test_a_listing_goes_on_behind_what_has_come_before_an_outage(
    monkeypatch: pytest.MonkeyPatch, heard: list[str]
) -> None:
    monkeypatch.setattr(objects.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(objects, "_PAGE", 2)
    monkeypatch.setattr(objects, "PATIENCE", 20.0)
    with serving(Listing, monkeypatch):
        keys = [found.key for found in Prefix("s3://bucket/listed/").objects()]
    assert keys == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(heard) == 1


class Flickering(BaseHTTPRequestHandler):
    """Answers that it is busy, a number of times."""

    n_failures = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.n_failures -= 1
        self.answer(503 if kind.n_failures >= 0 else 200, b"here")

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 17:03:54 GMT")
        self.send_header("ETag", '"mark"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Refusing(Flickering):
    """Knows no key."""

    def do_GET(self) -> None:
        self.answer(403, b"<Error><Code>InvalidAccessKeyId</Code><Message>It does not exist.</Message></Error>")


class Listing(Flickering):
    """Lists two of three objects, and then no further; but begins anew behind any."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "continuation-token" in query:
            self.answer(503, b"")
            return
        after = query.get("start-after", [""])[0].removeprefix("listed/")
        keys = [key for key in ("a.jpg", "b.jpg", "c.jpg") if key > after]
        page = "".join(
            f"<Contents><Key>listed/{key}</Key><LastModified>2026-11-28T17:03:54.000Z</LastModified>"
            f"<ETag>mark</ETag><Size>3</Size></Contents>"
            for key in (keys if after else keys[:2])
        )
        more = "" if after else "<NextContinuationToken>more</NextContinuationToken>"
        body = f"<ListBucketResult><IsTruncated>{str(not after).lower()}</IsTruncated>{more}{page}</ListBucketResult>"
        self.answer(200, body.encode())


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(Refusing, monkeypatch):
        yield "s3://bucket/refused/"


@pytest.fixture
def flickering(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flickering]]:
    monkeypatch.setattr(Flickering, "n_failures", 9)
    with serving(Flickering, monkeypatch):
        yield Flickering


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    objects._open.cache_clear()
    try:
        yield
    finally:
        objects._open.cache_clear()
        server.shutdown()
        server.server_close()
        thread.join()
