"""Looking into an ONNX file before anything opens it: which other files it needs to be read.

ONNX is a protocol buffer (onnx.proto3), of which a dozen fields matter here; all others are stepped over, weights
included, so that a file of gigabytes takes milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from topwork.errors import WeightsError
from topwork.files import open_regular, printable

_Buffer: TypeAlias = memoryview
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION = range(7)
_INSIDE = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE},
}
"""Which fields of each message hold messages in which a tensor may be."""
_EXTERNAL_DATA, _KEY, _VALUE = 13, 1, 2
_DEEPEST = 20


def external_files(path: Path) -> tuple[Path, ...]:
    """The files beside an ONNX file in which it keeps weights, in order.

    Raises:
        WeightsError: it is damaged, or names a file anywhere but beside it, or a part that isn't in it.
        OSError: it can't be read.
    """
    try:
        with open_regular(path) as file:
            content = np.memmap(file, np.uint8, "r").data
        entries = list(_external(content, _MODEL, 0))
    except ValueError as error:
        raise WeightsError(f"{printable(str(path))!r} is no ONNX file, or damaged: {error}.") from error
    return tuple(dict.fromkeys(_checked(path, entry) for entry in entries))


def _checked(path: Path, entry: dict[str, str]) -> Path:
    """The file that an entry names, which must lie beside `path` as a file of its own and hold what is said."""
    name = entry.get("location", "")
    shown, found = f"{printable(str(path))!r} needs weights from {printable(name)!r}", path.parent / name
    if not name or name in (".", "..") or name != os.path.basename(name) or "\\" in name or name == path.name:
        raise WeightsError(f"{shown}: expected the plain name of a file beside it.")
    if found.is_symlink() or not found.is_file():
        what = "a symbolic link" if found.is_symlink() else "not there"
        raise WeightsError(f"{shown}, which is {what}. Expected a file beside it; copy it there.")
    try:
        start, length = (int(entry.get(key, "0")) for key in ("offset", "length"))
    except ValueError as error:
        raise WeightsError(f"{shown}, at a place that is no number.") from error
    if start < 0 or length < 0 or start + length > found.stat().st_size:
        raise WeightsError(f"{shown}, at a place beyond its end. It was cut short; copy it again.")
    return found


def _external(content: _Buffer, kind: int, depth: int) -> Iterator[dict[str, str]]:
    """Every entry of external data inside a message."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if kind == _TENSOR:
        pairs = [dict(_fields(pair)) for field, pair in _fields(content) if field == _EXTERNAL_DATA]
        if pairs:
            yield {_text(pair.get(_KEY, b"")): _text(pair.get(_VALUE, b"")) for pair in pairs}
        return
    for field, value in _fields(content):
        if field in _INSIDE[kind]:
            yield from _external(value, _INSIDE[kind][field], depth + 1)


def _fields(content: _Buffer) -> Iterator[tuple[int, _Buffer]]:
    """Number and bytes of each field that holds bytes."""
    place, end = 0, len(content)
    while place < end:
        tag, place = _varint(content, place)
        kind = tag & 7
        if kind == 0:
            _, place = _varint(content, place)
            continue
        if kind == 2:
            length, place = _varint(content, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if length > end - place:
            raise ValueError("it was cut short")
        if kind == 2:
            yield tag >> 3, content[place : place + length]
        place += length


def _varint(content: _Buffer, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ValueError("it was cut short")
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number without end")


def _text(value: _Buffer | bytes) -> str:
    return bytes(value).decode("utf-8", "replace")
