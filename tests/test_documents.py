"""What the documents show runs: the course notebook, the README's Python, the docs' Python."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import make_photos

ROOT = Path(__file__).parents[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_course_notebook_runs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "examples" / "course.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "images run through the network: 0" in printed
    accuracy = re.search(r"accuracy (\d+\.\d) %", printed)
    assert accuracy is not None
    assert float(accuracy[1]) > 93


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md")))],
)
def test_python_of_the_documents_runs(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document's blocks run one after another, in a folder with `photos/` and `new/1.jpg`."""
    photos = make_photos(tmp_path / "photos", n=20)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "1.jpg").write_bytes((photos / "ash" / "1.jpg").read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in python_blocks(ROOT / document):
        exec(compile(block, document, "exec"), names)


def test_example_in_the_package_docstring_runs() -> None:
    import topwork

    assert doctest.testmod(topwork) == (0, 4)


def test_api_page_shows_every_public_name_and_no_other() -> None:
    import topwork

    shown = re.findall(
        r"^\.\. auto(?:class|function):: (\w+)$", (ROOT / "docs/api.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(shown) == sorted(
        set(topwork.__all__) - {"TopworkError", "__version__"}
    )  # these stand elsewhere there


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    """As `scripts/docs` builds it: links within it lead somewhere, each document is in it, docstrings can be read."""
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-c", "docs"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "early stopping" in (tmp_path / "docs" / "api.html").read_text("utf-8").lower()


def without_numbers(text: str) -> list[str]:
    """The lines of a result, their numbers taken out: another processor takes another time."""
    return [re.sub(r"\d[\d.,]*(e-\d+)?", "#", line) for line in text.strip().splitlines()]


def test_readme_shows_what_the_first_command_prints(topwork: Callable[..., object], own_cache: Path) -> None:
    block = re.search(r"^\$ scripts/try\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    shown = block[1][block[1].index("\nTest accuracy") :]
    printed = topwork("train", "digits").out  # type: ignore[attr-defined]
    assert without_numbers(re.sub(r"\d+ min \d+ s|\d+(\.\d+)? s", "# s", shown)) == without_numbers(
        re.sub(r"\d+ min \d+ s|\d+(\.\d+)? s", "# s", printed)
    )
    accuracies = [float(re.search(r"Test accuracy ([\d.]+) %", text)[1]) for text in (shown, printed)]  # type: ignore[index]
    assert abs(accuracies[0] - accuracies[1]) < 0.6  # two of 356 images: sums in another order


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs"])
def test_lines_of_prose_are_short(document: str) -> None:
    """120 characters at most, but for tables, code and addresses."""
    long = []
    for path in sorted((ROOT / document).glob("*.md")) if document == "docs" else [ROOT / document]:
        prose = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        lines = [line for line in prose.splitlines() if not line.startswith(("|", "    "))]
        long += [f"{path.name}: {line[:60]}" for line in lines if len(line) > 120]
    assert long == []


def test_checklists_for_contributors_name_what_is_there() -> None:
    """Each path, link and test exists, and each name that is said to be in a file is there."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = {path for path in re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", text) if "NAME" not in path}
    paths |= set(re.findall(r"\]\((?!https:)([^)#]+)", text))
    assert len(paths) > 25
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    tests = "".join(path.read_text("utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in tests] == []
    named = re.findall(r"`(\w+)`(?:\s+there)?\s+(?:in|of)\s+`((?:src|tests)/[\w./]+\.py)`", text)
    assert len(named) > 8
    assert [pair for pair in named if not re.search(rf"\b{pair[0]}\b", (ROOT / pair[1]).read_text("utf-8"))] == []


def test_structure_shows_the_house_as_it_is() -> None:
    """Each module that the page names is there, and each package and module above them is on a floor."""
    text, source = (ROOT / "docs/structure.md").read_text("utf-8"), ROOT / "src/topwork"
    named = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text)
    assert len(named) > 20
    assert [name for name in named if not (source / name).exists() and not (ROOT / name).exists()] == []
    floors = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)/?`", line)}
    parts = {path.name.removesuffix(".py") for path in source.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {name for name in parts if not name.startswith("__")} == floors
