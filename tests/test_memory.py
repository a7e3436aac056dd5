"""Chosen rows are not copied; arrays that memory has no room for lie in a file that leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from topwork import memory
from topwork.errors import StorageError
from topwork.memory import Rows, Stacked, available_memory, blocks, new_array


def test_rows_are_those_of_the_array() -> None:
    values, chosen = np.random.default_rng(0).normal(size=(50, 3)), np.array([7, 3, 40, 41])
    rows = Rows(values, chosen)
    assert len(rows) == 4
    assert rows.shape == (4, 3)
    assert np.array_equal(rows[1:3], values[[3, 40]])
    assert np.array_equal(rows[np.array([3, 0])], values[[41, 7]])


def test_stacked_arrays_are_as_one() -> None:
    whole = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    stacked, chosen = Stacked([whole[:4], whole[4:4], whole[4:]]), np.array([8, 0, 4, 3, 0])
    assert stacked.shape == (9, 3)
    assert np.array_equal(stacked[chosen], whole[chosen])
    assert np.array_equal(Rows(stacked, chosen)[1:4], whole[[0, 4, 3]])


@pytest.mark.parametrize("shape", [(10, 3), (9, 3), (1, 100), (0, 3)])
def test_blocks_are_all_rows_once(shape: tuple[int, int]) -> None:
    X = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(np.concatenate([X[:0], *(X[rows] for rows in blocks(X, 9))]), X)


def test_array_lies_in_memory_where_jax_can_use_it() -> None:
    arrays = [new_array((5, 3)) for _ in range(4)]
    assert all(array.ctypes.data % 64 == 0 and array.shape == (5, 3) for array in arrays)


def test_array_past_memory_lies_in_a_file_without_a_name(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    array = new_array((1000, 3))
    array[:] = np.arange(3000).reshape(1000, 3)
    assert isinstance(array.base, np.memmap)
    assert array.sum() == 2999 * 1500
    assert list(empty_cache.iterdir()) == []
    assert not isinstance(new_array((60, 3)).base, np.memmap)
    assert isinstance(new_array((60, 3), copies=2).base, np.memmap)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system can't set room aside")
def test_no_room_anywhere_says_how_much_and_what_to_do(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, start: int, n_bytes: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    monkeypatch.setattr(os, "posix_fallocate", full)
    expected = (
        "1,000,000 × 640 features take 2.6 GB. 1.0 GB of memory are free.*No space left on device. Use fewer images"
    )
    with pytest.raises(StorageError, match=expected):
        new_array((1_000_000, 640))
    assert list(empty_cache.iterdir()) == []


def test_memory_of_this_machine() -> None:
    assert 10**7 < available_memory() < 10**15


@pytest.mark.parametrize(
    "names",
    [("", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")],
    ids=["v2", "v1"],
)
@pytest.mark.parametrize("limited", ["jobs/mine", "jobs", ""])
def test_limits_of_control_groups_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str, str], limited: str
) -> None:
    """Files that the system keeps in memory don't: their room is free when it is needed."""
    controller, limit, used = names
    group = tmp_path / controller / limited
    group.mkdir(parents=True, exist_ok=True)
    (group / limit).write_text("5000000\n")
    (group / used).write_text("3000000\n")
    (group / "memory.stat").write_text("anon 1\nactive_file 200000\ninactive_file 300000\n")
    (tmp_path / "cgroup").write_text(f"9:cpu:/other\n4:{controller}:/jobs/mine\n")
    monkeypatch.setattr(memory, "_PROCESS_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    assert available_memory() == 2_500_000
    (group / limit).write_text("max\n" if controller == "" else f"{2**63 - 4096}\n")
    assert available_memory() > 10**7


@pytest.mark.parametrize(
    ("controllers", "files", "expected"),
    [
        ("", {"cpu.max": "150000 100000"}, 2),
        ("", {"cpu.max": "max 100000"}, 64),
        ("cpu,cpuacct", {"cpu.cfs_quota_us": "400000", "cpu.cfs_period_us": "100000"}, 4),
        ("cpu,cpuacct", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 64),
        ("memory", {"cpu.max": "100000 100000"}, 64),
    ],
)
def test_processors_are_those_of_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controllers: str, files: dict[str, str], expected: int
) -> None:
    group = tmp_path / controllers / "jobs"
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name).write_text(text + "\n")
    (tmp_path / "cgroup").write_text(f"4:{controllers}:/jobs/mine\n")
    monkeypatch.setattr(memory, "_PROCESS_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda process: range(64), raising=False)
    assert memory.available_processors() == expected
