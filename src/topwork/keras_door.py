"""The door to Keras and JAX in this process: settles Keras's backend before the first import, once."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

from topwork.errors import EnvironmentProblem

_CAN_TRAIN = ("jax", "tensorflow", "torch")


def import_keras() -> ModuleType:
    """Keras, on JAX unless this process or `KERAS_BACKEND` chose another backend that can train.

    Raises:
        EnvironmentProblem: Keras is already loaded on a backend that can't train, or the one asked for
            isn't installed.
    """
    if "keras" not in sys.modules:
        backend = os.environ.setdefault("KERAS_BACKEND", "jax")
        if backend in _CAN_TRAIN and importlib.util.find_spec(backend) is None:
            raise EnvironmentProblem(
                f"KERAS_BACKEND is {backend!r}, which isn't installed. Unset it (Topwork then takes jax), "
                f"or install {backend}."
            )
    import keras

    backend = keras.backend.backend()
    if backend not in _CAN_TRAIN:
        raise EnvironmentProblem(
            f"Keras runs on {backend!r} in this process, which can't train. "
            "Set KERAS_BACKEND=jax before the first `import keras`."
        )
    return keras  # type: ignore[no-any-return]


def import_jax() -> ModuleType:
    """JAX, without Keras."""
    import jax

    return jax  # type: ignore[no-any-return]


def has_accelerator() -> bool:
    """Whether JAX was installed with a plugin for an accelerator, and sees one."""
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin", "libtpu")
    if not any(importlib.util.find_spec(plugin) for plugin in plugins):
        return False  # the common case, known without importing JAX
    import jax

    return any(device.platform != "cpu" for device in jax.devices())
