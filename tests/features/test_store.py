"""Features are found by content, come back as they were, and survive what happens to files."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from topwork import memory
from topwork.errors import StorageError
from topwork.features import store
from topwork.features.store import KeptFeatures, new_kept, open_kept
from topwork.kept import checksum

FACTS = {"backbone": "starter", "size": 64}


def digests(n: int, start: int = 0) -> np.ndarray:
    return np.array([int(i).to_bytes(16, "big") for i in range(start, start + n)], dtype="S16")


def values(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)


def test_what_was_added_is_found_in_any_order(own_cache: Path) -> None:
    kept, vectors = new_kept(FACTS, 5), values(300)
    kept.add(digests(100), vectors[:100])
    kept.add(digests(200, 100), vectors[100:])
    again = open_kept(FACTS)
    assert again is not None
    order = np.random.default_rng(1).permutation(300)
    assert np.array_equal(again.read(again.find(digests(300)[order])), vectors[order])
    assert again.find(digests(2, 299)).tolist()[1] == -1


def test_digests_with_zero_bytes_at_their_end_are_told_apart(own_cache: Path) -> None:
    keys = np.array([b"a" * 15 + b"\0", b"a" * 14 + b"\0\0", b"a" * 16], dtype="S16")
    kept = new_kept(FACTS, 5)
    kept.add(keys, values(3))
    kept.refresh()
    assert np.array_equal(kept.read(kept.find(keys)), values(3))


@pytest.mark.parametrize("change", [{"size": 96}, {"backbone": "resnet50"}, {"weights": "other"}])
def test_other_facts_have_other_kept_features(own_cache: Path, change: dict[str, object]) -> None:
    new_kept(FACTS, 5).add(digests(3), values(3))
    assert open_kept({**FACTS, **change}) is None


def test_damaged_shard_is_as_if_it_were_not_there(own_cache: Path) -> None:
    kept = new_kept(FACTS, 5)
    kept.add(digests(10), values(10))
    kept.add(digests(10, 10), values(10))
    first = min(kept.folder.glob("*.features"))
    first.write_bytes(first.read_bytes()[:-7])
    again = open_kept(FACTS)
    assert again is not None
    assert (again.find(digests(20)) >= 0).tolist() == [False] * 10 + [True] * 10


def test_writer_keeps_what_came_before_an_error(own_cache: Path) -> None:
    kept = new_kept(FACTS, 5)
    with pytest.raises(KeyboardInterrupt), kept.writer() as writer:
        writer.add(digests(10), values(10))
        raise KeyboardInterrupt
    again = open_kept(FACTS)
    assert again is not None
    assert np.all(again.find(digests(10)) >= 0)


def test_full_disk_says_what_to_do_and_leaves_no_half_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = new_kept(FACTS, 5)
    kept.add(digests(10), values(10))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full. Free some space .*kept"):
        kept.add(digests(10, 10), values(10))
    assert len(list(kept.folder.iterdir())) == 2  # the facts and the first shard


def test_prune_goes_by_backbone_and_by_last_use(own_cache: Path) -> None:
    for name in ("starter", "resnet50"):
        new_kept({**FACTS, "backbone": name}, 5).add(digests(4), values(4))
    old = store.summaries()[0].folder
    os.utime(old, (time.time() - 10 * 86_400,) * 2)
    assert [s.folder for s in store.prune(older_than_days=5)] == [old]
    assert store.prune(backbone="vgg16") == []
    (last,) = store.summaries()
    assert last.n_images == 4
    assert len(store.prune()) == 1
    assert store.summaries() == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux alone tells what a process has open")
def test_more_shards_than_a_process_may_open_files(own_cache: Path) -> None:
    """Shards that stayed mapped were taken for damaged once no more could be opened."""
    import resource

    kept, vectors = new_kept(FACTS, 5), values(100)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        n_open = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 20, limit[1]))
        for i in range(100):
            kept.add(digests(1, i), vectors[i : i + 1])
        again = open_kept(FACTS)
        assert again is not None
        assert np.array_equal(again.read(again.find(digests(100))), vectors)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert ".features" not in Path("/proc/self/maps").read_text()  # what is mapped counts as memory of the process


def test_features_deleted_while_they_are_in_use(own_cache: Path) -> None:
    new_kept(FACTS, 5).add(digests(10), values(10))
    kept = open_kept(FACTS)
    assert kept is not None
    places = kept.find(digests(10))
    store.prune()
    with pytest.raises(StorageError, match="deleted meanwhile, run again"):
        kept.read(places)
    again = KeptFeatures(kept.folder, 5)
    assert again.find(digests(10)).tolist() == [-1] * 10


def test_one_flipped_bit_costs_its_shard_and_is_said_once(own_cache: Path, heard: list[str]) -> None:
    kept = new_kept(FACTS, 5)
    kept.add(digests(10), values(10))
    kept.add(digests(10, 10), values(10))
    damaged = sorted(kept.folder.glob("*.features"))[0]
    content = bytearray(damaged.read_bytes())
    for place in range(len(content) - 400, len(content), 17):
        flipped = content.copy()
        flipped[place] ^= 4
        damaged.write_bytes(flipped)
        heard.clear()
        again = open_kept(FACTS)
        assert again is not None
        assert again.find(digests(10)).tolist() == [-1] * 10
        assert np.array_equal(again.read(again.find(digests(10, 10))), values(10))
        assert len(heard) == 1
        assert "is damaged" in heard[0]
    assert damaged.with_name(f"{damaged.name}.damaged").read_bytes() == flipped


def test_facts_that_were_damaged_are_written_anew(own_cache: Path) -> None:
    kept = new_kept(FACTS, 5)
    kept.add(digests(10), values(10))
    facts = kept.folder / "facts.json"
    facts.write_text(facts.read_text().replace('"n_features": 5', '"n_features": 4'))
    assert open_kept(FACTS) is None
    again = new_kept(FACTS, 5)
    assert np.array_equal(again.read(again.find(digests(10))), values(10))


@pytest.mark.parametrize("has_checksum", [True, False])
def test_shards_of_records_that_an_older_topwork_wrote_are_read(own_cache: Path, has_checksum: bool) -> None:
    kept = new_kept(FACTS, 5)
    records = np.empty(10, [("digest", "S16"), ("values", "<f4", (5,))])
    records["digest"], records["values"] = digests(10), values(10)
    written = io.BytesIO()
    np.save(written, records)
    name = checksum(written.getvalue()) if has_checksum else "0123abcd"
    (kept.folder / f"00000000000000000001-{name}.npy").write_bytes(written.getvalue())
    kept.add(digests(10, 10), values(10))
    again = open_kept(FACTS)
    assert again is not None
    assert np.array_equal(again.read(again.find(digests(20))), np.tile(values(10), (2, 1)))


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="Linux alone tells how much a process has read")
def test_opening_a_store_reads_a_hundredth_of_it(own_cache: Path) -> None:
    n, width = 40_000, 640
    kept = new_kept(FACTS, width)
    for start in range(0, n, n // 4):  # 25 MB each; a store of a million is as many larger files
        kept.add(digests(n // 4, start), np.zeros((n // 4, width), np.float32))
    before = bytes_read()
    again = open_kept(FACTS)
    taken = bytes_read() - before
    assert again is not None
    assert again.n_images == n
    assert taken <= 0.01 * sum(path.stat().st_size for path in kept.folder.iterdir())


def bytes_read() -> int:
    """How many bytes this process has asked of files; what is mapped is not among them."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_features_past_memory_are_read_into_a_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_kept(FACTS, 5).add(digests(10), values(10))
    kept = open_kept(FACTS)
    assert kept is not None
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    found = kept.read(kept.find(digests(10)))
    assert isinstance(found.base, np.memmap)
    assert np.array_equal(found, values(10))
