"""A light installation serves: without Keras, JAX, SciPy and what else only training needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys
class Hidden:
    def find_spec(self, name, path, target=None):
        if name in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from topwork.cli.main import run
run()
"""


def requirements() -> tuple[set[str], set[str]]:
    """What a whole installation and a light one need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "requirements-serve.txt").read_text("utf-8").splitlines()
    light = {line for line in lines if not line.startswith("#")}
    assert light == {*project["optional-dependencies"]["serve"], *(light & set(project["dependencies"]))}
    return set(project["dependencies"]), light


def without_what_only_training_needs() -> list[str]:
    """Arguments for Python: the command line where these packages look as if they were not installed."""
    whole, light = requirements()
    names = {re.split(r"[<>=;]", line)[0] for line in whole - light}
    assert {"keras", "jax", "scipy", "scikit-learn", "pyarrow"} < names
    return ["-c", WITHOUT.format(hidden={name.replace("scikit-learn", "sklearn").replace("-", "_") for name in names})]


def test_it_serves_a_classifier_whose_graphs_are_there(
    saved: Path, known: Path, serve_as: Callable[..., Any], tmp_path: Path
) -> None:
    """The graphs are made by the very command of the Dockerfile."""
    command = re.search(r'^RUN python -c "(.*)"$', (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert command is not None
    places = {"/run-folder": str(saved), "/classifier": str(tmp_path / "classifier")}
    code = re.sub("|".join(places), lambda found: places[found[0]], command[1])
    environment = {**os.environ, "TOPWORK_CACHE": str(tmp_path / "graphs")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    command_line = [*without_what_only_training_needs(), "serve", str(tmp_path / "classifier"), "--port", "0"]
    with serve_as(command_line, {"TOPWORK_CACHE": str(tmp_path / "graphs")}) as running:
        for what in ("predict", "explain"):
            picture = (known / "ash" / "1.jpg").read_bytes()
            request = urllib.request.Request(f"{running.address}/{what}", picture, {"Content-Type": "image/jpeg"})
            with urllib.request.urlopen(request) as answer:
                found = json.load(answer)
            assert (found["predictions"][0] if what == "predict" else found)["class"] == "ash"


@pytest.mark.parametrize(
    ("arguments", "package"), [(["predict", "{saved}", "{image}"], "keras"), (["train", "{images}"], "sklearn")]
)
def test_what_it_lacks_is_named(arguments: list[str], package: str, saved: Path, known: Path, tmp_path: Path) -> None:
    places = {"saved": saved, "images": known, "image": known / "ash" / "1.jpg"}
    command = [*without_what_only_training_needs(), *(argument.format(**places) for argument in arguments)]
    environment = {**os.environ, "TOPWORK_CACHE": str(tmp_path / "empty")}
    if package == "keras":  # looked for in a child process, where nothing is hidden
        (tmp_path / "keras").mkdir()
        (tmp_path / "keras" / "__init__.py").write_text("raise ModuleNotFoundError('No Keras', name='keras')")
        environment["PYTHONPATH"] = str(tmp_path)
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: This takes '{package}', which is not installed .*\n", done.stderr), done.stderr
