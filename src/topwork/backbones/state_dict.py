"""Reading a PyTorch file of weights without PyTorch, and without running anything in it.

The format is PyTorch's before version 1.6: five pickles in a row (a magic number, a version, facts about the machine, a
dictionary of tensors that name their storages, the storages' names in order), then each storage as a count and raw
numbers. A pickle can call any function that its reader lets it name; this one lets it name four, and makes nothing of
them but descriptions.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from topwork.errors import WeightsError
from topwork.files import open_regular, printable

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_BROKEN = (
    *(pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError, struct.error),
    *(ArithmeticError, MemoryError),
)
_MOST_PICKLED = 4 << 20
"""Bytes that the pickles may have: of a network with 300 tensors they have 47,000."""


@dataclass(frozen=True)
class _Tensor:
    storage: str
    dtype: np.dtype[Any]
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name, as they are in the file.

    Raises:
        WeightsError: it is damaged, or holds anything but tensors of float32 and int64.
    """
    try:
        with open_regular(path) as file:
            return _read(file, path.stat().st_size)
    except _BROKEN as error:
        raise WeightsError(f"{printable(str(path))!r} is no file of PyTorch weights: {error}.") from error


def _read(file: BinaryIO, n_bytes: int) -> dict[str, np.ndarray]:
    content = file.read(min(n_bytes, _MOST_PICKLED))
    reader = _Content(content)
    if _load(reader) != _MAGIC:
        raise ValueError("it does not begin as one of before version 1.6 does")
    _load(reader), _load(reader)
    tensors, names = _load(reader), _load(reader)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise ValueError("it holds something beside tensors")
    file.seek(reader.place)
    dtypes = {tensor.storage: tensor.dtype for tensor in tensors.values()}
    storages = {name: _storage(file, dtypes[name], n_bytes) for name in names}
    return {str(name): _values(tensor, storages[tensor.storage]) for name, tensor in tensors.items()}


class _Content:
    """Bytes that pickles are read from, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content, self.place = content, 0

    def read(self, n: int) -> bytes:
        part = self._content[self.place : self.place + n]
        self.place += len(part)
        return part

    def readline(self) -> bytes:
        end = self._content.find(b"\n", self.place)
        return self.read((len(self._content) if end < 0 else end + 1) - self.place)


class _Unpickler(pickle.Unpickler):
    """Lets a pickle name an ordered dictionary, two kinds of storage and a tensor of one, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no file of weights needs")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, name, _, _, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError("it holds a storage of an unknown kind")
        return str(name), _DTYPES[storage]


def _load(content: _Content) -> Any:
    return _Unpickler(content).load()


def _tensor(storage: tuple[str, np.dtype[Any]], start: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = (start, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError("a tensor has no proper shape")
    return _Tensor(*storage, start, tuple(shape), tuple(strides))


def _storage(file: BinaryIO, dtype: np.dtype[Any], n_bytes: int) -> np.ndarray:
    (n,) = struct.unpack("<q", file.read(8))
    if not 0 <= n * dtype.itemsize <= n_bytes - file.tell():
        raise ValueError("it was cut short")
    return np.frombuffer(file.read(n * dtype.itemsize), dtype)


def _values(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    last = tensor.start + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if not 0 < math.prod(tensor.shape) <= len(storage) or not 0 <= last < len(storage):
        raise ValueError("a tensor reaches beyond its numbers")
    steps = [step * tensor.dtype.itemsize for step in tensor.strides]
    view = np.ndarray(tensor.shape, tensor.dtype, storage, tensor.start * tensor.dtype.itemsize, steps)
    return np.ascontiguousarray(view)
