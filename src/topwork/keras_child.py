"""Work in a child process with a Keras backend of its own: the parent keeps its own, or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import Any

from topwork import errors
from topwork.errors import EnvironmentProblem, StorageError, TopworkError, WeightsError, not_installed
from topwork.files import why_not_written

_NOT_FOR_BUILDING = {"tensorflow", "jax", "torch", "sklearn", "matplotlib", "pandas"}
"""What Keras imports where it is installed, and building a network has no use for: 1 to 4 s a child process."""
_ANSWER = "topwork: "
"""Begins the line that says what went wrong. A line on a pipe needs no room on a disk, which may be what went wrong."""


def run_child(module: str, job: dict[str, Any], *, backend: str, title: str) -> None:
    """Run `module`, which calls `serve_child`, on `job` in a child process, and wait for it.

    Args:
        module: such as 'topwork.backbones.conversion'.
        job: plain values that travel as JSON.
        backend: of Keras.
        title: what it does, for the message of a failure: 'Building DenseNet121'.

    Raises:
        TopworkError: the error that the child met; a `WeightsError` where it ended without a word.
    """
    # -P: a keras.py in the current folder must not be imported
    child = run_tied([sys.executable, "-P", "-m", module, json.dumps(job)], {**os.environ, "KERAS_BACKEND": backend})
    if child.returncode == 0:
        return
    answer = (child.stdout.splitlines() or [""])[-1]
    if not answer.startswith(_ANSWER):
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise WeightsError(f"{title} failed (exit status {child.returncode}): {last}")
    error = json.loads(answer.removeprefix(_ANSWER))
    raise getattr(errors, error["kind"])(error["message"])


def run_tied(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a child process that ends with this one, even where this one is killed.

    The child has the reading end of a pipe as its standard input, which comes to its end with this process; the
    program has to call `end_with_parent`, or do the like.
    """
    reading, writing = os.pipe()
    try:
        return subprocess.run(
            command, env=environment, stdin=reading, capture_output=True, text=True, errors="replace", check=False
        )
    finally:
        os.close(reading)
        os.close(writing)


def end_with_parent() -> None:
    """Have this process end when the one that started it by `run_tied` does."""

    def wait() -> None:
        os.read(0, 1)  # nothing is ever written
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def serve_child(work: Callable[[dict[str, Any]], None]) -> None:
    """Do `work` on the job in `sys.argv[1]`; on failure the last line of standard output says what happened."""
    end_with_parent()
    if (backend := os.environ["KERAS_BACKEND"]) != "tensorflow":  # which has many friends of its own
        sys.meta_path.insert(0, _Hidden(_NOT_FOR_BUILDING - {backend}))
    try:
        work(json.loads(sys.argv[1]))
    except TopworkError as error:
        _fail(type(error), str(error))
    except ModuleNotFoundError as error:
        _fail(EnvironmentProblem, not_installed(error))
    except OSError as error:
        _fail(StorageError, f"What was built can't be written: {why_not_written(error)}")


class _Hidden(MetaPathFinder):
    """Makes packages look as if they were not installed."""

    def __init__(self, packages: set[str]) -> None:
        self.packages = packages

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname in self.packages:
            raise ModuleNotFoundError(f"{fullname} has no part in this process.", name=fullname)


def draw_weights_in_numpy(seed: int = 0) -> None:
    """Let NumPy make initial weights (kernels Glorot uniform) in this process, which imports Keras for it.

    Keras's OpenVINO backend makes graphs of them, and compiles each when it is read: 10 of 13 s for DenseNet121. JAX
    takes most of its building time for them too.
    """
    import keras
    import numpy as np

    random = np.random.default_rng(seed)

    def draw(_: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
        fans = np.prod(shape[:-2], dtype=int) * sum(shape[-2:])
        limit = (6 / max(1, fans)) ** 0.5
        return random.uniform(-limit, limit, shape).astype(np.float32)

    keras.initializers.VarianceScaling.__call__ = draw
    keras.initializers.Zeros.__call__ = lambda _, shape, dtype=None: np.zeros(shape, np.float32)
    keras.initializers.Ones.__call__ = lambda _, shape, dtype=None: np.ones(shape, np.float32)


def _fail(kind: type[TopworkError], message: str) -> None:
    print(f"\n{_ANSWER}{json.dumps({'kind': kind.__name__, 'message': message})}", flush=True)
    sys.exit(1)
