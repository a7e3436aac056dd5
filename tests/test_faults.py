"""A short part of scripts/faults: processes at once, kills, flipped bytes, full disks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

FAULTS = Path(__file__).parents[1] / "benchmarks" / "faults"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")


@pytest.fixture(autouse=True)
def faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FAULTS))


def test_trainings_at_once_lose_nothing(tmp_path: Path) -> None:
    import parallel

    found: dict[str, Any] = parallel.trains(tmp_path, 1, at_once=3)
    bad = ("crashed", "lost", "another seed's", "left behind")
    assert not any(found[key] for key in bad), found


def test_predictions_at_once_on_a_cold_cache_all_answer(tmp_path: Path) -> None:
    import parallel

    found: dict[str, Any] = parallel.predicts(tmp_path, 1, at_once=4)
    assert not found["died"], found
    assert not found["other answers"], found


def test_what_was_killed_gives_the_same_result_when_run_again(tmp_path: Path) -> None:
    import kills

    found: dict[str, Any] = kills.main(tmp_path, 5)
    bad = ("other results", "failed", "processes left", "left behind")
    assert not any(found[key] for key in bad), found


def test_a_flipped_byte_changes_no_answer_in_silence(tmp_path: Path) -> None:
    import flips

    found: dict[str, Any] = flips.main(tmp_path, 10)
    assert found["flips"] == 10
    assert not found["other number"], found
    assert not found["no sentence"], found


def test_a_full_disk_gets_a_sentence_and_the_next_run_goes_on(tmp_path: Path) -> None:
    import full

    found: dict[str, Any] = full.main(tmp_path, 2)
    assert not found["no sentence"], found
    assert not found["other results"], found
