"""Files and labels of any names go through training and prediction without a traceback."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import COLOURS, make_photo

Topwork = Callable[..., Any]
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name.strip(".") and len(name.encode()) < 200
)


@cache
def photographs() -> list[bytes]:
    """Twelve photographs of each of three kinds, one kind after another."""
    found = []
    for i in range(36):
        file = io.BytesIO()
        make_photo(list(COLOURS.values())[i // 12], i).save(file, "PNG")
        found.append(file.getvalue())
    return found


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(NAMES, min_size=36, max_size=36, unique_by=str.casefold),
    labels=st.lists(NAMES, min_size=3, max_size=3, unique_by=str.strip),
)
def test_a_table_of_odd_names(topwork: Topwork, tmp_path: Path, files: list[str], labels: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for i, name in enumerate(files):
            (folder / f"{name}.png").write_bytes(photographs()[i])
            writer.writerow([f"{name}.png", labels[i // 12]])
    answer = topwork("train", folder / "t.csv", "--size", "32", "--no-check", "--quiet", "--out", folder / "run")
    assert "Traceback" not in answer.err
    assert answer.status in (0, 1)
    if answer.status == 0:
        predicted = topwork("predict", folder / "run", folder / "t.csv", "--format", "jsonl")
        assert "Traceback" not in predicted.err
        assert predicted.status == 0, predicted.err
        assert predicted.out.count("\n") == 36
