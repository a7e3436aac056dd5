"""Every promise of docs/promises.md that can be tried, one line each. `scripts/faults` calls it.

    scripts/faults [--long] [--json FILE] [PART …]

Expected: `holds` on every line. The exit status is 1 where one falls short.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flips
import full
import kills
import mutations_classifier
import mutations_images
import parallel
import stalls
from commands import TRAIN, Bench, draw_photos

Result = dict[str, Any]
Part = Callable[[Path, bool], Iterator[tuple[str, Result, bool]]]
"""Takes a folder to work in and whether there is an hour; gives what was tried, the counts, and whether it holds."""


def try_parallel(folder: Path, long: bool) -> Iterator[tuple[str, Result, bool]]:
    found = parallel.trains(folder / "trains", 10 if long else 2)
    yield (
        "8 trainings at once",
        found,
        not any(found[key] for key in ("crashed", "lost", "another seed's", "left behind")),
    )
    found = parallel.predicts(folder / "predicts", 20 if long else 3)
    yield "8 predictions at once, cold cache", found, not (found["died"] or found["other answers"])


def try_kills(folder: Path, long: bool) -> Iterator[tuple[str, Result, bool]]:
    found = kills.main(folder, 200 if long else 20)
    bad = ("other results", "failed", "processes left", "left behind")
    yield "SIGKILL at random moments", found, not any(found[key] for key in bad)


def try_flips(folder: Path, long: bool) -> Iterator[tuple[str, Result, bool]]:
    found = flips.main(folder, 300 if long else 40)
    yield "one byte flipped in a kept file", found, not (found["other number"] or found["no sentence"])


def try_full(folder: Path, long: bool) -> Iterator[tuple[str, Result, bool]]:
    found = full.main(folder, 60 if long else 12)
    yield "writing fails", found, not (found["no sentence"] or found["other results"] or found["left behind"])


def try_stalls(folder: Path, long: bool) -> Iterator[tuple[str, Result, bool]]:
    found = stalls.main(trained(folder), 1000, seconds=60.0 if long else 15.0)
    yield "1,000 connections that stall", found, not (found["errors"] or found["n_503"] or found["n_open_at_the_end"])


def try_mutations(folder: Path, long: bool) -> Iterator[tuple[str, Result, bool]]:
    run, n = trained(folder), 2000 if long else 600
    found = mutations_classifier.main(run, n)
    is_right = not (found["other answer"] or found["other exception"]) and found["peak_gigabytes"] < 1
    yield "files of a classifier mutated", found, is_right
    found = mutations_images.main(run, n)
    yield "images and tables mutated", found, not found["exceptions"] and found["peak_gigabytes"] < 1


PARTS: dict[str, Part] = {
    "parallel": try_parallel,
    "kills": try_kills,
    "flips": try_flips,
    "full": try_full,
    "stalls": try_stalls,
    "mutations": try_mutations,
}


def trained(folder: Path) -> Path:
    """A small run, with a detector of unknown images."""
    bench = Bench(folder)
    draw_photos(folder / "photos", n=140)
    bench.run("train", "photos", *TRAIN, "--out", "run")
    return folder / "run"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless named")
    parser.add_argument("--long", action="store_true", help="as often as the figures in brackets in docs/promises.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all counts")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.parts if name not in PARTS]:
        parser.error(f"Expected parts of {', '.join(PARTS)}; got {unknown[0]!r}.")
    results: dict[str, Result] = {}
    all_hold = True
    for name in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            for title, found, holds in PARTS[name](Path(folder), arguments.long):
                counts = ", ".join(f"{key} {value}" for key, value in found.items() if value not in ([], ""))
                print(f"{'holds' if holds else 'FALLS SHORT'}: {title}: {counts}", flush=True)
                results[title] = {**found, "holds": holds}
                all_hold &= holds
            print(f"       ({name}: {time.perf_counter() - began:.0f} s)", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
