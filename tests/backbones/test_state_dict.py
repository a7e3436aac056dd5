"""PyTorch's files of weights are read as data: what else a pickle may want to do is refused."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.backbones.state_dict import read_state_dict
from topwork.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C


class Global:
    """Pickled as the name of something in a module, which need not be here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickled as the call of something."""

    def __init__(self, function: Global, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Stored:
    """Pickled as a storage that is read later."""

    def __init__(self, kind: str, name: str, n: int, view: Any = None) -> None:
        self.pid = ("storage", Global("torch", kind), name, "cpu", n, view)


class Writer(pickle._Pickler):  # type: ignore[name-defined,misc]  # Python's own, which lets one write any opcode
    def save(self, value: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(value, Global):
            self.write(b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n")
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(b"R")
        elif isinstance(value, Stored):
            self.save(value.pid)
            self.write(b"Q")
        else:
            super().save(value, *arguments, **options)


def pickled(*values: Any) -> bytes:
    out = io.BytesIO()
    for value in values:
        Writer(out, 2).dump(value)
    return out.getvalue()


def tensor(storage: Any, start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, storage, start, shape, strides, False, Call(Global("collections", "OrderedDict")))


def file_of(tensors: Any, storages: dict[str, np.ndarray], magic: int = MAGIC) -> bytes:
    head = pickled(magic, 1001, {"little_endian": True}, tensors, sorted(storages))
    return head + b"".join(
        struct.pack("<q", len(storages[name])) + storages[name].tobytes() for name in sorted(storages)
    )


VALUES = np.arange(12, dtype="<f4")


def good() -> bytes:
    stored = Stored("FloatStorage", "7", 12)
    count = tensor(Stored("LongStorage", "8", 1), 0, (), ())
    tensors = {"kernel": tensor(stored, 0, (3, 4), (1, 3)), "part": tensor(stored, 2, (5,), (2,)), "count": count}
    return file_of(tensors, {"7": VALUES, "8": np.array([5], "<i8")})


def test_tensors_come_in_their_shape_and_order(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(good())
    found = read_state_dict(tmp_path / "weights.pth")
    assert np.array_equal(found["kernel"], VALUES.reshape(4, 3).T)
    assert np.array_equal(found["part"], VALUES[2:11:2])
    assert found["count"] == 5


def hostile() -> dict[str, bytes]:
    stored = Stored("FloatStorage", "7", 12)
    plain = {"7": VALUES}
    untyped = Stored("UntypedStorage", "7", 12)
    return {
        "runs a command": file_of({"kernel": Call(Global("os", "system"), "touch ran")}, {}),
        "evaluates": pickled(Call(Global("builtins", "eval"), "open('ran', 'w')")),
        "imports a module": file_of({"kernel": Global("this", "s")}, {}),
        "reads a storage of objects": file_of({"kernel": tensor(untyped, 0, (1,), (1,))}, plain),
        "calls what it may name": file_of({"kernel": Call(Global("torch", "FloatStorage"), "x")}, plain),
        "holds text": file_of({"kernel": "text"}, {}),
        "is a list": file_of([1, 2], {}),
        "reaches beyond": file_of({"kernel": tensor(stored, 0, (13,), (1,))}, plain),
        "begins before": file_of({"kernel": tensor(stored, -1, (3,), (1,))}, plain),
        "steps back": file_of({"kernel": tensor(stored, 5, (3,), (-4,))}, plain),
        "starts beyond": file_of({"kernel": tensor(stored, 99, (3,), (1,))}, plain),
        "has no numbers": file_of({"kernel": tensor(stored, 0, (0, 3), (3, 1))}, plain),
        "has a huge shape": file_of({"kernel": tensor(stored, 0, (2**40,), (0,))}, plain),
        "names no storage": file_of({"kernel": tensor(stored, 0, (3,), (1,))}, {}),
        "names another": file_of({"kernel": tensor(stored, 0, (3,), (1,))}, {"8": VALUES}),
        "says too many numbers": good()[: -8 - 8 - 48 - 8] + struct.pack("<q", 2**60) + VALUES.tobytes(),
        "says fewer than none": good()[: -8 - 8 - 48 - 8] + struct.pack("<q", -1) + VALUES.tobytes(),
        "another magic number": file_of({}, {}, magic=1),
        "a zip, as PyTorch writes now": b"PK\x03\x04" + bytes(100),
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\n",
    }


@pytest.mark.parametrize("what", hostile())
def test_a_hostile_file_is_refused(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pth").write_bytes(hostile()[what])
    with pytest.raises(WeightsError, match="is no file of PyTorch weights"):
        read_state_dict(tmp_path / "weights.pth")
    assert os.listdir(tmp_path) == ["weights.pth"]


def test_a_file_cut_anywhere_or_changed_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    content, path = good(), tmp_path / "weights.pth"
    for cut in range(0, len(content), 3):
        path.write_bytes(content[:cut])
        with pytest.raises(WeightsError):
            read_state_dict(path)
    random = np.random.default_rng(0)
    for _ in range(700):
        changed = bytearray(content)
        changed[random.integers(len(content))] = random.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(WeightsError):
            assert all(isinstance(values, np.ndarray) for values in read_state_dict(path).values())


def test_the_pickles_of_the_tests_are_real() -> None:
    """The command would run where anybody unpickled it: else the test above could not fail."""

    class Spy(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            called.append((module, name))
            return collections.OrderedDict if name == "OrderedDict" else lambda *_: None

    called: list[tuple[str, str]] = []
    Spy(io.BytesIO(pickled(Call(Global("os", "system"), "true")))).load()
    assert called == [("os", "system")]
