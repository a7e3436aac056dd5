"""The story of the photographs in `examples/fruit`: train, see what is wrong, correct it, train again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FRUIT = Path(__file__).parents[2] / "examples" / "fruit"


def test_train_see_correct_and_train_again(topwork: Callable[..., Any], tmp_path: Path) -> None:
    first = topwork("train", FRUIT, "--out", "first")
    assert first.status == 0, first.err
    assert "The validation images serve as test images" in first.err
    assert "on 36 images that training never saw" in first.out
    assert "1 label probably wrong" in first.out

    page = (tmp_path / "first" / "report.html").read_text("utf-8")
    for name in ("train/banana/31.jpg", "train/apple/31.jpg", "train/pear/31.jpg"):
        assert name in page
    with (tmp_path / "first" / "findings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["image"]: row["finding"] for row in rows}
    assert found["train/banana/31.jpg"] == "strange"
    assert found["train/apple/31.jpg"] == "label"
    assert found["train/pear/31.jpg"] == "copy"
    assert next(row for row in rows if row["finding"] == "strange")["image"] == "train/banana/31.jpg"  # the worst first
    for row in rows:  # a person fills it in
        row["exclude"] = "x" if row["image"] in ("train/banana/31.jpg", "train/pear/31.jpg") else ""
        row["new_label"] = row["suggested"]
    with (tmp_path / "filled-in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    again = topwork("train", FRUIT, "--exclude", "filled-in.csv", "--relabel", "filled-in.csv", "--out", "again")
    assert again.status == 0, again.err
    record = json.loads((tmp_path / "again" / "run.json").read_text())["data"]
    assert record["excluded"] == ["train/banana/31.jpg", "train/pear/31.jpg"]
    assert record["relabelled"] == [{"image": "train/apple/31.jpg", "from": "apple", "to": "pear"}]
    left = (tmp_path / "again" / "findings.csv").read_text()
    assert not any(name in left for name in ("banana/31", "apple/31", "pear/31"))
    before, after = (
        json.loads((tmp_path / run / "metrics.json").read_text())["cross_validated"]["log_loss"]["value"]
        for run in ("first", "again")
    )
    assert after < before

    answer = topwork("predict", "again", FRUIT / "val" / "pear" / "01.jpg", FRUIT / "train" / "banana" / "31.jpg")
    pear, placeholder = answer.out.splitlines()
    assert " pear " in pear
    assert placeholder.endswith("(unlike the training images)")
