"""The floors hold, `import topwork` stays light, the public names are these, and nothing calls home."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import topwork

SOURCE = Path(topwork.__file__).parent
FLOORS = [
    {"errors", "types", "version", "words"},
    {"recipe"},
    {"files", "progress", "keras_door", "openvino_door"},
    {"objects"},
    {"keras_child", "kept", "memory", "web"},
    {"data", "backbones"},
    {"features", "tops"},
    {"tuning"},
    {"classifier"},
    {"evaluation", "checks"},
    {"report", "prediction", "export", "serve"},
    {"runs", "label"},
    {"cli"},
]
"""From the ground up; a package may import from lower floors, and from itself."""
HEAVY = (
    *("numpy", "PIL", "keras", "jax", "openvino", "sklearn", "scipy", "pyarrow", "rich", "safetensors", "jinja2"),
    *("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart", "obstore", "ray"),
)


def floor_of(part: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if part in floor)


def modules() -> dict[str, Path]:
    """Every module by its name, and where it lies."""
    paths = {path.relative_to(SOURCE).with_suffix(""): path for path in SOURCE.rglob("*.py")}
    return {".".join(("topwork", *name.parts)).removesuffix(".__init__"): path for name, path in paths.items()}


def imports_of(path: Path, known: Collection[str]) -> set[str]:
    """The modules of Topwork that a module imports, anywhere in it and in whichever of Python's ways."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.add("a relative import")
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & {*known, "a relative import"}) - {"topwork"}


def test_imports_point_down() -> None:
    known, wrong = modules(), []
    for name, path in known.items():
        part = name.removeprefix("topwork.").split(".")[0]
        if part in ("topwork", "__main__"):
            continue
        for other in imports_of(path, known):
            below = other.removeprefix("topwork.").split(".")[0]
            if below != part and floor_of(below) >= floor_of(part):
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_no_module_imports_itself_through_others() -> None:
    """What is imported for its types only counts too."""
    known = modules()
    waiting = {name: imports_of(path, known) - {name} for name, path in known.items()}
    while free := [name for name, others in waiting.items() if not others & waiting.keys()]:
        for name in free:
            del waiting[name]
    while ends := waiting.keys() - set().union(*waiting.values()):  # those above a circle, but in none
        for name in ends:
            del waiting[name]
    assert {name: sorted(others & waiting.keys()) for name, others in waiting.items()} == {}


def test_heavy_libraries_have_named_doors() -> None:
    doors = {
        "openvino": {
            *("openvino_door.py", "backbones/openvino_engine.py", "backbones/graph_building.py"),
            *("export/graph.py", "export/onnx_graph.py", "export/onnx_operations.py", "export/onnx_writer.py"),
        },
        "nncf": {"export/quantization.py"},
        "onnx": {"export/onnx_graph.py", "export/onnx_operations.py", "export/onnx_writer.py"},
        "jax": {"keras_door.py", "backbones/keras_engine.py"},
        "fastapi": {"serve/app.py"},
        "starlette": {"serve/app.py", "serve/body.py", "label/app.py"},
        "obstore": {"objects.py"},
        "ray": {"features/cluster.py"},
        "uvicorn": {"serve/protocol.py", "serve/running.py", "label/running.py"},
        "prometheus_client": {"serve/metrics.py"},
        "python_multipart": {"serve/body.py"},
    }
    for library, allowed in doors.items():
        users = {
            path.relative_to(SOURCE).as_posix()
            for path in SOURCE.rglob("*.py")
            if path.parent.name != "programs"  # what is delivered with an export, for Pythons without Topwork
            and re.search(rf"^\s*(import|from) {library}\b", path.read_text("utf-8"), re.MULTILINE)
        }
        assert users == allowed  # a door that nobody uses any more goes, too


def loaded_after(code: str) -> set[str]:
    script = f"{code}; import sys; print(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_import_is_light() -> None:
    assert not loaded_after("import topwork") & set(HEAVY)


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    code = "import topwork.cli.main as m; m.main(['--help'], standalone_mode=False)"
    assert not loaded_after(code) & set(HEAVY)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "topwork", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    assert min(times) < 1.0  # 0.3 s is the aim on a quiet machine; tests run on busy ones


def test_public_names() -> None:
    assert topwork.__all__ == sorted(topwork.__all__)
    for name in topwork.__all__:
        assert getattr(topwork, name) is not None
    assert set(topwork.__all__) - {"__version__"} == set(topwork._HOMES)


def test_prediction_needs_neither_keras_nor_jax(tmp_path: Path) -> None:
    import topwork as tw

    dataset = tw.ImageDataset.from_name("digits")
    few = dataset.select(dataset.rows < 200)
    tw.fit_classifier(few, verbose=False).save(tmp_path / "digits")
    code = (
        "import topwork as tw, numpy as np; c = tw.load_classifier('digits');c.predict(np.zeros((1, 8, 8), np.uint8))"
    )
    script = f"{code}; import sys; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ
    )
    assert not set(done.stdout.split()) & {"keras", "jax", "sklearn", "scipy", "tensorflow"}


def test_nothing_goes_over_the_network_unasked(tmp_path: Path) -> None:
    """The whole job, in a process where opening a connection is an error."""
    script = """
import socket, sys
def refuse(*args, **kwargs):
    print("CONNECTED", args, file=sys.stderr)
    raise OSError("no network in this test")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import os
os.fork = refuse
import topwork as tw
dataset = tw.ImageDataset.from_name("digits")
classifier = tw.fit_classifier(dataset.select(dataset.rows < 200), tw.load_backbone("starter", size=48), verbose=False)
print("openvino_telemetry" in sys.modules and sys.modules["openvino_telemetry"] is not None)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "CONNECTED" not in done.stderr
    assert done.stdout.strip() == "False"


def test_every_module_is_imported_without_what_only_unix_has() -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        "for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'):\n"
        "    sys.modules[name] = None\n"
        "import topwork\n"
        "for module in pkgutil.walk_packages(topwork.__path__, 'topwork.'):\n"
        "    if not module.name.endswith('__main__') and '.programs' not in module.name:\n"
        "        importlib.import_module(module.name)\n"
        "        print(module.name)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 100


def test_only_the_command_line_names_flags() -> None:
    """Messages of the library name parameters, which `cli/words.py` turns into flags; a service has flags alone."""
    of_others = ("pip install --upgrade", "tensorboard --logdir")
    wrong = []
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] in ("cli", "serve", "web", "label") or path.parent.name == "programs":
            continue
        tree = ast.parse(path.read_text("utf-8"))
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
                flags = re.search(r"(^|[\s(`'])--[a-z]", node.value)
                if flags and not any(other in node.value for other in of_others):
                    wrong.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.value!r}")
    assert wrong == []
