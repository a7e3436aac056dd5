"""The formats that a classifier can be exported to: a row each."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from topwork.errors import EnvironmentProblem, OptionError, UnknownNameError, did_you_mean


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: what the user types.
        file: the name of the file to load; OpenVINO's weights lie beside it.
        runtime: the distribution that runs it.
        install: what using the file takes, beside Pillow.
        extra: the extra that exporting needs; '' for none.
        modules: what that extra brings, as it is imported.
        has_int8: whether it can be exported in int8.
    """

    name: str
    file: str
    runtime: str
    install: str
    extra: str
    modules: tuple[str, ...]
    has_int8: bool


FORMATS = {
    row.name: row
    for row in (
        Format("onnx", "model.onnx", "onnxruntime", "onnxruntime", "onnx", ("onnx", "onnxruntime"), True),
        Format("openvino", "model.xml", "openvino", "openvino", "", (), True),
        Format("keras", "model.keras", "keras", "keras jax", "", (), False),
        Format(
            "litert",
            "model.tflite",
            "ai-edge-litert",
            "ai-edge-litert",
            "litert",
            ("tensorflow", "ai_edge_litert"),
            False,
        ),
    )
}


OLDEST_OPSET, NEWEST_OPSET = 13, 21
"""Of ONNX. Below, operations take their axes in another form; ONNX Runtime 1.20, the oldest that the extra takes, knows
nothing newer."""


def find_format(name: str, *, int8: bool = False, opset: int | None = None) -> Format:
    """The format called `name`.

    Raises:
        UnknownNameError: there is none.
        OptionError: `int8` or `opset`, which it doesn't have; or an opset that can't be written.
        EnvironmentProblem: it needs an extra that isn't installed.
    """
    found = FORMATS.get(name)
    if found is None:
        raise UnknownNameError(
            f"Unknown export format {name!r}.{did_you_mean(name, FORMATS)} There are {', '.join(FORMATS)}."
        )
    if int8 and not found.has_int8:
        able = " and ".join(form.name for form in FORMATS.values() if form.has_int8)
        raise OptionError(f"int8 is for {able}; {name} is exported in float32.")
    if opset is not None and name != "onnx":
        raise OptionError(f"opset is for onnx; {name} has none.")
    if opset is not None and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise OptionError(f"Expected opset to be {OLDEST_OPSET} to {NEWEST_OPSET}; got {opset}.")
    if int8:
        require_modules("int8", "int8", ("nncf",))
    require_modules(f"Exporting to {name}", found.extra, found.modules)
    return found


def require_modules(what: str, extra: str, modules: tuple[str, ...]) -> None:
    """Raise where a module that `extra` brings isn't installed.

    Raises:
        EnvironmentProblem: as said.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise EnvironmentProblem(
            f"{what} needs the extra {extra!r}: pip install 'topwork[{extra}]' ({', '.join(missing)} not installed)."
        )
