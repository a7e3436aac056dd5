"""The door to OpenVINO in this process: keeps it from reporting its use over the network."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from types import ModuleType


def import_openvino() -> ModuleType:
    """OpenVINO, without the telemetry that its import otherwise sends to its makers."""
    silence_telemetry()
    import openvino

    return openvino  # type: ignore[no-any-return]


@contextlib.contextmanager
def write_errors() -> Iterator[None]:
    """Turn OpenVINO's only words for a write that failed into the `OSError` that it nearly always is."""
    try:
        yield
    except RuntimeError as error:
        if "iostream error" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def silence_telemetry() -> None:
    """Make `import openvino_telemetry` fail in this process; OpenVINO then takes its own silent stand-in.

    To be called before anything imports OpenVINO: importing it sends an event to an analytics service, and forks to
    do so. Topwork promises that nothing goes over the network unasked.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
